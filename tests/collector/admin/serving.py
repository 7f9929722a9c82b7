"""The admin application over the shared store, on a port of its own, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from aiohttp import web

from llmtap.collector.admin.app import create_app
from llmtap.collector.admin.health import Health
from llmtap.collector.admin.metrics import exposition
from llmtap.collector.admin.tail import TailHub
from llmtap.collector.state import CollectorState
from llmtap.collector.store import Store


@dataclass
class Served:
    """A running application; `health` and `state` may be changed while it runs."""

    store: Store
    run: Path
    health: Health = field(default_factory=lambda: Health("ok", True))
    state: CollectorState = field(default_factory=CollectorState)
    port: int = 0
    tail: TailHub | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serving(
    store: Store, run: Path, *, writable: bool = False, allowed_hosts: tuple[str, ...] = ()
) -> Generator[Served]:
    """Runs the application until the block ends."""
    served = Served(store, run)
    started = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def main() -> None:
        served.tail = TailHub(asyncio.get_running_loop())
        app = create_app(
            lambda: store,
            health=lambda: served.health,
            metrics=lambda: exposition(served.state, run),
            tail=served.tail,
            allowed_hosts=allowed_hosts,
            about={"store": "embedded <b>", "proxy": "http://127.0.0.1:8787"},
            writable=writable,
        )
        runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        served.port = runner.addresses[0][1]
        started.set()
        await stop.wait()
        await runner.cleanup()

    def work() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(main())

    thread = threading.Thread(target=work, name="admin-under-test")
    thread.start()
    try:
        if not started.wait(20):
            raise TimeoutError("the admin application did not start")
        yield served
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)


@contextmanager
def http(served: Served) -> Generator[httpx.Client]:
    """A client for it."""
    with httpx.Client(base_url=served.url, timeout=20, trust_env=False) as client:
        yield client
