"""The collector process: opens the store, runs the pipeline in a thread, serves the admin API.

`python -m llmtap.collector.main`, started by the supervisor with an inherited listening socket and
a pipe that ends when the supervisor does. It is the only process that opens the embedded store.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from aiohttp import web

from llmtap.collector.admin.app import create_app
from llmtap.collector.admin.health import health
from llmtap.collector.admin.metrics import exposition
from llmtap.collector.admin.tail import TailHub
from llmtap.collector.enrich.prices import Pricer
from llmtap.collector.pipeline import Pipeline
from llmtap.collector.receivers.spool import SpoolReceiver
from llmtap.collector.reprice import Repricer
from llmtap.collector.state import CollectorState
from llmtap.collector.store import Store, StoreError, StoreUnreachableError, open_store
from llmtap.config import Config, ConfigError, load
from llmtap.spool.checkpoint import CollectorBusyError, CollectorLock

log = logging.getLogger("llmtap.collector")

STORE_RETRY_S = 2.0


class _Stores:
    """The store, once it is open; until then the reason why it is not."""

    def __init__(self, state: CollectorState) -> None:
        self._state = state
        self._store: Store | None = None

    def __call__(self) -> Store:
        if self._store is None:
            raise StoreUnreachableError(self._state.store_error or "llmtap is starting")
        return self._store

    async def open(self, config: Config, stop: asyncio.Event, tell_ready: _TellReady) -> bool:
        """Waits for a server that does not answer (yet), if it may. False: told to stop.

        At the first start an unreachable server is a mistake in the DSN and raises
        StoreUnreachableError; after a first success it is an outage, and apps must not wait for it.
        """
        patient = (config.data / "spool" / "checkpoint.json").exists()
        while not stop.is_set():
            try:
                self._store = await asyncio.to_thread(_open, config)
            except StoreUnreachableError as e:
                if not patient:
                    raise
                tell_ready()
                self._state.store_error = str(e)
                log.error("%s — calls stay in the spool; trying again", e)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(STORE_RETRY_S):
                        await stop.wait()
            else:
                self._state.store_error = ""
                return True
        return False

    def close(self) -> None:
        if self._store is not None:
            self._store.close()


def _open(config: Config) -> Store:
    store = open_store(config.store.dsn, config.data)
    retention = config.store.retention
    store.apply_retention(retention.calls_days, retention.bodies_days, retention.traces_days)
    return store


class _TellReady:
    """Tells the supervisor, once, that it may tell the user."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __call__(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(BrokenPipeError):
                os.write(fd, b"1")
            os.close(fd)


async def serve(config: Config, sock: socket.socket, ready_fd: int, stop: asyncio.Event) -> None:
    """Runs until `stop`; on the way out stores what the spool still holds."""
    lock = CollectorLock(config.data / "spool")
    state = CollectorState()
    stores = _Stores(state)
    tell_ready = _TellReady(ready_fd)
    run_dir = config.data / "run"
    tail = TailHub(asyncio.get_running_loop())
    app = create_app(
        stores,
        health=lambda: health(state, run_dir),
        metrics=lambda: exposition(state, run_dir),
        tail=tail,
        reprice=Repricer(stores, Pricer(config.prices)),
        allowed_hosts=(config.admin.host, *config.admin.allowed_hosts),
        about={
            "store": "embedded" if config.store.dsn.startswith("chdb") else "server",
            "data": str(config.data),
        },
    )
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1.0)
    try:
        await runner.setup()
        await web.SockSite(runner, sock, backlog=1024).start()
        if await stores.open(config, stop, tell_ready):
            receiver = SpoolReceiver(config.data / "spool")
            await _run(Pipeline(config, receiver, stores(), state, tail.publish), tell_ready, stop)
    finally:
        await runner.cleanup()
        await asyncio.to_thread(stores.close)
        lock.release()


async def _run(pipeline: Pipeline, tell_ready: _TellReady, stop: asyncio.Event) -> None:
    """The pipeline in a thread of its own. Raises what it died of."""
    loop = asyncio.get_running_loop()
    failed: list[BaseException] = []

    def work() -> None:
        try:
            pipeline.run()
        except BaseException as e:
            failed.append(e)
            raise
        finally:
            loop.call_soon_threadsafe(stop.set)

    thread = threading.Thread(target=work, name="pipeline")
    thread.start()
    tell_ready()
    await stop.wait()
    pipeline.stop()
    await asyncio.to_thread(thread.join)
    if failed:
        raise failed[0]


async def _main(args: argparse.Namespace, config: Config) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(
        signal.SIGHUP, log.info, "the collector's configuration is read at start only"
    )

    def supervisor_gone() -> None:
        loop.remove_reader(args.life_fd)
        stop.set()

    loop.add_reader(args.life_fd, supervisor_gone)
    await serve(config, socket.socket(fileno=args.listen_fd), args.ready_fd, stop)


def main(argv: list[str] | None = None) -> int:
    """Entry; exit code 2 for what the user must change."""
    parser = argparse.ArgumentParser(prog="llmtap.collector")
    for name in ("listen-fd", "ready-fd", "life-fd"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--config", default="")
    parser.add_argument("--flags", default="{}")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    flags: dict[str, Any] = json.loads(args.flags)
    try:
        config = load(Path(args.config) if args.config else None, flags)
        asyncio.run(_main(args, config))
    except (ConfigError, StoreError, CollectorBusyError) as e:
        print(f"llmtap: {e}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
