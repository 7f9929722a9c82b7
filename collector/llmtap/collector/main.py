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
from llmtap.collector.pipeline import Pipeline
from llmtap.collector.receivers.spool import SpoolReceiver
from llmtap.collector.state import CollectorState
from llmtap.collector.store import Store, StoreError, StoreUnreachableError, open_store
from llmtap.config import Config, ConfigError, load
from llmtap.spool.checkpoint import CollectorBusyError, CollectorLock

log = logging.getLogger("llmtap.collector")

STORE_RETRY_S = 2.0


async def _open(config: Config, stop: asyncio.Event, ready_fd: int, patient: bool) -> Store | None:
    """The store; waits for a server that does not answer (yet), if it may. None: told to stop."""
    told = False
    while not stop.is_set():
        try:
            store = await asyncio.to_thread(open_store, config.store.dsn, config.data)
            retention = config.store.retention
            await asyncio.to_thread(
                store.apply_retention,
                retention.calls_days,
                retention.bodies_days,
                retention.traces_days,
            )
        except StoreUnreachableError as e:
            if not patient:
                raise
            if not told:
                told = True
                os.write(ready_fd, b"1")  # apps must not wait for a store that is down
            log.error("%s — calls stay in the spool; trying again", e)
            try:
                async with asyncio.timeout(STORE_RETRY_S):
                    await stop.wait()
            except TimeoutError:
                continue
        else:
            return store
    return None


async def serve(config: Config, sock: socket.socket, ready_fd: int, stop: asyncio.Event) -> None:
    """Runs until `stop`; on the way out stores what the spool still holds."""
    lock = CollectorLock(config.data / "spool")
    try:
        store = await _open(config, stop, ready_fd, patient=_has_history(config))
        if store is None:
            return
        await _run(config, store, sock, ready_fd, stop)
        await asyncio.to_thread(store.close)
    finally:
        lock.release()


def _has_history(config: Config) -> bool:
    """After a first success an unreachable server is an outage, not a mistake in the DSN."""
    return (config.data / "spool" / "checkpoint.json").exists()


async def _run(
    config: Config, store: Store, sock: socket.socket, ready_fd: int, stop: asyncio.Event
) -> None:
    state = CollectorState()
    run_dir = config.data / "run"
    tail = TailHub(asyncio.get_running_loop())
    receiver = SpoolReceiver(config.data / "spool")
    pipeline = Pipeline(config, receiver, store, state, tail.publish)
    app = create_app(
        store,
        health=lambda: health(state, run_dir),
        metrics=lambda: exposition(state, run_dir),
        tail=tail,
        allowed_hosts=(config.admin.host, *config.admin.allowed_hosts),
        about={"store": "embedded" if store.embedded else "server", "data": str(config.data)},
    )
    failed: list[BaseException] = []

    def work() -> None:
        try:
            pipeline.run()
        except BaseException as e:
            failed.append(e)
            raise
        finally:
            loop.call_soon_threadsafe(stop.set)

    loop = asyncio.get_running_loop()
    thread = threading.Thread(target=work, name="pipeline")
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.SockSite(runner, sock, backlog=1024).start()
    thread.start()
    with contextlib.suppress(BrokenPipeError):  # already told, see _open
        os.write(ready_fd, b"1")
    os.close(ready_fd)
    await stop.wait()
    pipeline.stop()
    await asyncio.to_thread(thread.join)
    await runner.cleanup()
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
