"""A TCP relay that can be told to misbehave: what stands between llmtap and a broken server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

Mode = Literal["pass", "refuse", "hang", "swallow"]


class Relay:
    """`mode` may be changed at any time.

    pass: as if it were not there; refuse: connections are reset; hang: nothing is passed on;
    swallow: requests are passed on, answers are not.
    """

    def __init__(self, target: int) -> None:
        self.mode: Mode = "pass"
        self.port = 0
        self._target = target

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "refuse":
            writer.transport.abort()
            return
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(
            self._pipe(reader, up_writer, ("pass", "swallow")),
            self._pipe(up_reader, writer, ("pass",)),
        )

    async def _pipe(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passing: tuple[Mode, ...]
    ) -> None:
        try:
            while data := await reader.read(1 << 16):
                if self.mode == "refuse":
                    writer.transport.abort()
                    return
                if self.mode in passing:
                    writer.write(data)
                    await writer.drain()
        except OSError:
            writer.transport.abort()
        else:
            writer.close()


@contextmanager
def relay(target: int) -> Generator[Relay]:
    """A relay to a port, running in a thread."""
    made = Relay(target)
    started = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def main() -> None:
        server = await made.start()
        started.set()
        await stop.wait()
        server.close()

    def work() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(main())

    thread = threading.Thread(target=work, name="relay")
    thread.start()
    try:
        assert started.wait(10)
        yield made
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
