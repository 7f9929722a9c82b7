"""A real worker on uvloop, between real sockets: raw bytes in, raw bytes out."""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from llmtap.config import Config, load
from llmtap.proxy.worker import Worker
from llmtap.spool.format import KIND_END, KIND_START
from llmtap.spool.records import CallEnd, CallStart, decode_end, decode_start
from llmtap.spool.writer import Level

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class MemorySpool:
    """Keeps records; what a tee needs of a spool writer."""

    def __init__(self) -> None:
        self.level = Level.OK
        self.records: list[tuple[int, bytes]] = []

    def append_parts(self, kind: int, parts: Sequence[bytes]) -> bool:
        self.records.append((kind, b"".join(parts)))
        return True

    def starts(self) -> list[tuple[CallStart, bytes]]:
        return [decode_start(p) for kind, p in self.records if kind == KIND_START]

    def ends(self) -> list[tuple[CallEnd, bytes, bytes]]:
        decoded = [decode_end(p) for kind, p in self.records if kind == KIND_END]
        return [(end, rest, response) for end, _, rest, response in decoded]


@dataclass
class MemorySpooling:
    writer: MemorySpool = field(default_factory=MemorySpool)


@dataclass
class Stack:
    worker: Worker
    spool: MemorySpool
    proxy_port: int
    upstream_port: int
    seen: list[bytes]
    """What the upstream received, per connection."""

    async def exchange(self, raw: bytes, *, splits: Sequence[int] = (), eof: bool = False) -> bytes:
        """Sends `raw` (cut at `splits`), reads until the proxy closes."""
        return await exchange(self.proxy_port, raw, splits=splits, eof=eof)

    async def ended(self, count: int = 1) -> None:
        """Waits until `count` calls have ended in the spool."""
        async with asyncio.timeout(5):
            while len(self.spool.ends()) < count:
                await asyncio.sleep(0.005)


async def exchange(
    port: int, raw: bytes, *, splits: Sequence[int] = (), eof: bool = False
) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    cuts = [0, *sorted(set(splits)), len(raw)]
    try:
        for a, b in itertools.pairwise(cuts):
            writer.write(raw[a:b])
            await writer.drain()
            if len(cuts) > 2:
                await asyncio.sleep(0.001)
        if eof:
            writer.write_eof()
        async with asyncio.timeout(10):
            return await reader.read(-1)
    finally:
        writer.close()


def config_for(upstream_port: int, tmp: Path, **more: Any) -> Config:
    flags: dict[str, Any] = {
        "data": str(tmp),
        "upstreams.up.base_url": f"http://127.0.0.1:{upstream_port}",
        "upstreams.up.trace_context": "strip",
        "default_upstream": "up",
    }
    return load(Path("/dev/null"), flags | more, environ={})


@asynccontextmanager
async def stack(handler: Handler, tmp: Path, **config: Any):  # type: ignore[no-untyped-def]
    """A worker in front of a scripted upstream."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    spooling = MemorySpooling()
    worker = Worker(config_for(port, tmp, **config), spooling)  # type: ignore[arg-type]
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    await worker.serve(sock)
    try:
        yield Stack(worker, spooling.writer, sock.getsockname()[1], port, seen)
    finally:
        for client in list(worker.clients):
            client.transport.abort()
        await worker.drain()
        server.close()


def run(scenario: Awaitable[None]) -> None:
    """Runs a scenario on uvloop, as in production."""

    async def main() -> None:
        async with asyncio.timeout(30):
            await scenario

    uvloop.run(main())


async def read_head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """(head, body as on the wire) of one request with Content-Length or chunked coding."""
    head = await read_head(reader)
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        body = b""
        while True:
            line = await reader.readline()
            body += line
            size = int(line.split(b";")[0], 16)
            if size == 0:
                while (trailer := await reader.readline()) != b"\r\n":
                    body += trailer
                return head, body + b"\r\n"
            body += await reader.readexactly(size + 2)
    at = lower.find(b"content-length:")
    size = int(lower[at + 15 :].split(b"\r\n")[0]) if at >= 0 else 0
    return head, await reader.readexactly(size)


_OURS = re.compile(rb"(?:llmtap-call-id|traceparent|connection): [^\r\n]*\r\n", re.IGNORECASE)


def without_ours(response: bytes) -> bytes:
    """A response less what llmtap adds, to compare with the direct one."""
    return _OURS.sub(b"", response)
