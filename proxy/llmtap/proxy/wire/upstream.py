"""The upstream side: one HTTP/1.1 connection to a backend, and the pool of idle ones.

A connection serves one `Exchange` at a time: it reads the response head and finds the body's end,
and reports events to the exchange; bytes are handed on as they came. It goes back to the pool only
when both messages ended cleanly. A connection that says anything while idle is closed.
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Protocol, cast

from llmtap.proxy.headers import keep_alive_s
from llmtap.proxy.routes import Route
from llmtap.proxy.wire.body import Body, Chunked, Empty, Length, UntilClose
from llmtap.proxy.wire.head import HEAD_END, BadMessage, ResponseHead, parse_response

MAX_RESPONSE_HEAD = 256 << 10
_FRESH_NS = 100_000_000
"""A connection idle for less is trusted without looking at its socket."""
_MARGIN_NS = 1_000_000_000

_PEEK = int(socket.MSG_PEEK | socket.MSG_DONTWAIT)  # enum arithmetic is slow

_EMPTY = Empty()
_UNTIL_CLOSE = UntilClose()


class Exchange(Protocol):
    """What a connection reports to. Called in order; nothing after `upstream_lost` or `finish`."""

    last_ns: int
    is_head: bool

    def interim(self, raw: bytes) -> None:
        """A 1xx head other than 101."""
        ...

    def response_head(self, head: ResponseHead, body: Body, now_ns: int) -> bytes:
        """The head to put before the first body bytes, rewritten for the client."""
        ...

    def response_data(self, before: bytes, piece: bytes, now_ns: int) -> None:
        """More body; `before` is the rewritten head the first time, then empty."""
        ...

    def finish(self, before: bytes, piece: bytes, now_ns: int) -> bool:
        """The last body bytes. Returns whether the connection may be used again."""
        ...

    def upstream_lost(self, error: Exception | None) -> None:
        """The connection ended before the response did."""
        ...

    def upstream_garbage(self, problem: BadMessage) -> None: ...

    def pause_client(self) -> None: ...

    def resume_client(self) -> None: ...


class UpstreamConnection(asyncio.Protocol):
    """One connection to a backend."""

    __slots__ = (
        "_body",
        "_buffer",
        "_head",
        "_peek",
        "_pool",
        "exchange",
        "idle_since",
        "keep_ns",
        "paused",
        "route",
        "transport",
        "used",
    )

    transport: asyncio.Transport

    def __init__(self, pool: Pool, route: Route) -> None:
        self._pool = pool
        self.route = route
        self.exchange: Exchange | None = None
        self._buffer = b""
        self._body: Body | None = None
        self._head: ResponseHead | None = None
        self._peek: socket.socket | None = None
        self.idle_since = 0
        self.keep_ns = route.pool_idle_ns
        self.paused = False
        self.used = False

    # asyncio
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's do not inherit it
        raw = transport.get_extra_info("socket")
        if raw is not None:
            if raw.family in (socket.AF_INET, socket.AF_INET6):
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._peek = socket.socket(raw.family, socket.SOCK_STREAM, 0, fileno=raw.fileno())

    def connection_lost(self, exc: Exception | None) -> None:
        if self._peek is not None:
            self._peek.detach()
            self._peek = None
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            self._pool.discard(self)
        elif self._body is _UNTIL_CLOSE and exc is None:
            exchange.finish(b"", b"", time.monotonic_ns())
        else:
            exchange.upstream_lost(exc)

    def pause_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.pause_client()

    def resume_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.resume_client()

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            self.transport.abort()
            return
        now = exchange.last_ns = time.monotonic_ns()
        try:
            if self._body is None:
                self._read_head(exchange, self._buffer + data if self._buffer else data, now)
            else:
                self._read_body(exchange, self._body, b"", data, 0, now)
        except BadMessage as problem:
            self.exchange = None
            self.transport.abort()
            exchange.upstream_garbage(problem)

    # ours
    def serve(self, exchange: Exchange) -> None:
        """Takes the next exchange; its request bytes are written by the exchange itself."""
        self.exchange = exchange
        self._body = None

    def release(self) -> None:
        """Breaks off: the exchange is over before the response was."""
        self.exchange = None
        self.transport.abort()

    def pause(self) -> None:
        if not self.paused:
            self.paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.paused:
            self.paused = False
            self.transport.resume_reading()

    def is_usable(self, now_ns: int) -> bool:
        """Whether an idle connection can carry another request."""
        idle = now_ns - self.idle_since
        if self.transport.is_closing() or idle > self.keep_ns:
            return False
        return idle < _FRESH_NS or not self._closed_by_peer()

    def _closed_by_peer(self) -> bool:
        """A close may have arrived that the loop has not seen yet."""
        if self._peek is None:
            return True
        try:
            pending = self._peek.recv(1, _PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return not (pending and self.route.tls)  # TLS: may be a session ticket

    def _read_head(self, exchange: Exchange, data: bytes, now: int) -> None:
        while True:
            cut = data.find(HEAD_END)
            if cut < 0:
                if len(data) > MAX_RESPONSE_HEAD:
                    raise BadMessage(502, "upstream_bad_response", "upstream's head is too large")
                if not data.startswith(b"HTTP/"[: len(data)]):
                    raise BadMessage(502, "upstream_bad_response", "upstream does not speak HTTP")
                self._buffer = data
                return
            pos = cut + 4
            head = parse_response(data[:pos])
            if head.status >= 200 or head.status == 101:
                break
            exchange.interim(data[:pos])
            data = data[pos:]
        self._buffer = b""
        self._head = head
        body = self._body = _response_body(head, exchange.is_head)
        before = exchange.response_head(head, body, now)
        self._read_body(exchange, body, before, data, pos, now)

    def _read_body(
        self, exchange: Exchange, body: Body, before: bytes, data: bytes, pos: int, now: int
    ) -> None:
        try:
            end = body.feed(data, pos)
        except BadMessage:
            # The client sees what it would have seen: the broken bytes, then the end.
            exchange.response_data(before, data[pos:], now)
            raise
        if end < 0:
            exchange.response_data(before, data[pos:] if pos else data, now)
        else:
            self._end(exchange, before, data, pos, end, now)

    def _end(
        self, exchange: Exchange, before: bytes, data: bytes, pos: int, end: int, now: int
    ) -> None:
        clean = end == len(data) and self._head is not None and self._head.keep_alive
        self.exchange = None
        self._body = None
        again = exchange.finish(before, data[pos:end] if pos or not clean else data, now)
        self.resume()
        if clean and again and not self.transport.is_closing():
            if not self.used and self._head is not None:
                told = keep_alive_s(self._head.headers)
                if told is not None:
                    self.keep_ns = min(self.keep_ns, max(0, int(told * 1e9) - _MARGIN_NS))
            self.used = True
            self.idle_since = now
            self._pool.put(self)
        else:
            self.transport.close()


def _response_body(head: ResponseHead, is_head: bool) -> Body:
    """RFC 9112 §6.3."""
    if head.status == 101:
        return _UNTIL_CLOSE
    if is_head or head.status in (204, 304):
        return _EMPTY
    if head.chunked:
        return Chunked()
    if head.content_length >= 0:
        return Length(head.content_length)
    return _UNTIL_CLOSE


class Pool:
    """Idle upstream connections, newest first, by route."""

    def __init__(self, max_idle: int = 1024) -> None:
        self._idle: dict[Route, list[UpstreamConnection]] = {}
        self._max_idle = max_idle
        self.closed = False

    def take(self, route: Route) -> UpstreamConnection | None:
        """A live idle connection, or None: then connect."""
        idle = self._idle.get(route)
        now = time.monotonic_ns()
        while idle:
            connection = idle.pop()
            if connection.is_usable(now):
                return connection
            connection.transport.abort()
        return None

    def put(self, connection: UpstreamConnection) -> None:
        idle = self._idle.setdefault(connection.route, [])
        if self.closed or len(idle) >= self._max_idle:
            connection.transport.close()
        else:
            idle.append(connection)

    def discard(self, connection: UpstreamConnection) -> None:
        idle = self._idle.get(connection.route, [])
        if connection in idle:
            idle.remove(connection)

    def sweep(self, keep: set[Route] | None = None) -> None:
        """Closes connections idle for too long, and those of routes not in `keep`."""
        now = time.monotonic_ns()
        for route in list(self._idle):
            idle = self._idle[route]
            gone = keep is not None and route not in keep
            for connection in [c for c in idle if gone or now - c.idle_since > c.keep_ns]:
                idle.remove(connection)
                connection.transport.close()
            if not idle:
                del self._idle[route]

    def close(self) -> None:
        self.closed = True
        for idle in self._idle.values():
            for connection in idle:
                connection.transport.close()
        self._idle.clear()
