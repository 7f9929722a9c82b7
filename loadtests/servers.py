"""What stands beside llmtap in a measurement: a fast backend, and a plain aiohttp forwarder.

`python -m loadtests.servers backend PORT CHUNKS DELAY` answers chat requests with 1 KB of JSON, and
those whose path ends in `/stream` with CHUNKS server-sent events, DELAY seconds apart.
`python -m loadtests.servers aiohttp PORT BACKEND_URL` forwards as a typical Python proxy does.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import aiohttp
import uvloop
from aiohttp import web

WORDS = b"token " * 120
ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,'
    b'"model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"' + WORDS + b'"},"finish_reason":"stop"}],"usage":{"prompt_tokens":420,'
    b'"completion_tokens":120,"total_tokens":540}}'
)
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)
    + ANSWER
)
EVENT = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,'
    b'"model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":" token"},'
    b'"finish_reason":null}]}\n\n'
)
LAST = (
    b'data: {"id":"chatcmpl-1","choices":[],"usage":{"prompt_tokens":120,"completion_tokens":50,'
    b'"total_tokens":170}}\n\ndata: [DONE]\n\n'
)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Backend(asyncio.Protocol):
    """Understands just enough HTTP to be faster than what is measured."""

    def __init__(self, chunks: int, delay: float) -> None:
        self._chunks = chunks
        self._delay = delay
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            at = head.find(b"content-length:")
            size = int(head[at + 15 :].split(b"\r\n")[0]) if at >= 0 else 0
            if len(self._data) < end + 4 + size:
                return
            stream = b"/stream " in head.split(b"\r\n")[0]
            self._data = self._data[end + 4 + size :]
            if stream:
                self._task = asyncio.ensure_future(self._stream())
            else:
                self._transport.write(RESPONSE)

    async def _stream(self) -> None:
        piece = chunk(EVENT)
        self._transport.write(STREAM_HEAD)
        for _ in range(self._chunks):
            await asyncio.sleep(self._delay)
            if self._transport.is_closing():
                return
            self._transport.write(piece)
        self._transport.write(chunk(LAST) + b"0\r\n\r\n")


async def backend(port: int, chunks: int, delay: float) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: Backend(chunks, delay), "127.0.0.1", port, backlog=8192)
    await asyncio.Event().wait()


async def forwarder(port: int, target: str) -> None:
    """aiohttp server + aiohttp client, bodies streamed."""
    connector = aiohttp.TCPConnector(limit=0)
    session = aiohttp.ClientSession(connector=connector, auto_decompress=False)

    async def forward(request: web.Request) -> web.StreamResponse:
        headers = {k: v for k, v in request.headers.items() if k.lower() != "host"}
        body = await request.read()
        async with session.request(
            request.method, target + request.path_qs, headers=headers, data=body
        ) as upstream:
            response = web.StreamResponse(status=upstream.status)
            response.content_type = upstream.content_type
            await response.prepare(request)
            async for piece in upstream.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", forward)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=8192).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[1] == "backend":
        uvloop.run(backend(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
    else:
        uvloop.run(forwarder(int(sys.argv[2]), sys.argv[3]))
