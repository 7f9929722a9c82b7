"""The client side: one HTTP/1.1 connection from an app.

Reads heads, finds where request bodies end, and hands bytes to the `Call` as they came. Requests on
one connection are served in order (pipelined ones wait). Broken HTTP is refused and the connection
closed; a client that leaves frees its upstream at once.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from typing import TYPE_CHECKING, cast

from llmtap.dialects.errors import error_body
from llmtap.proxy.call import Call
from llmtap.proxy.wire.body import Body, Chunked, Empty, Length, UntilClose
from llmtap.proxy.wire.head import BadMessage, RequestHead, find_head, parse_request

if TYPE_CHECKING:
    from llmtap.proxy.worker import Worker

MAX_PIPELINED = 64 << 10
LINGER_NS = 2_000_000_000
_EMPTY = Empty()

_REASONS = {
    400: b"Bad Request",
    404: b"Not Found",
    408: b"Request Timeout",
    413: b"Content Too Large",
    431: b"Request Header Fields Too Large",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}


# States of a connection: plain integers, compared on every read.
HEAD = 0
BODY = 1
RESPONSE = 2
"""The request is complete; what arrives now is pipelined."""
LINGER = 3
"""Answered and closing: bytes still arriving are thrown away."""
CLOSED = 4


class ClientConnection(asyncio.Protocol):
    """One connection from an app."""

    __slots__ = (
        "_body_seen",
        "_buffer",
        "_paused_by_call",
        "_paused_by_pipeline",
        "call",
        "since_ns",
        "state",
        "transport",
        "worker",
    )

    transport: asyncio.Transport

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.state = HEAD
        self.call: Call | None = None
        self.since_ns = time.monotonic_ns()
        self._buffer = b""
        self._body_seen = 0
        self._paused_by_call = False
        self._paused_by_pipeline = False

    # asyncio
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's do not inherit it
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self.worker.client_made(self):
            self._refuse(BadMessage(503, "too_many_connections", "too many connections"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.state = CLOSED
        self.worker.client_gone(self)
        call, self.call = self.call, None
        if call is not None:
            call.client_lost()

    def pause_writing(self) -> None:
        if self.call is not None and self.call.upstream is not None:
            self.call.upstream.pause()

    def resume_writing(self) -> None:
        if self.call is not None and self.call.upstream is not None:
            self.call.last_ns = time.monotonic_ns()
            self.call.upstream.resume()

    def data_received(self, data: bytes) -> None:
        state = self.state
        if state == HEAD:
            self._read_head(self._buffer + data if self._buffer else data)
        elif state == BODY:
            self._read_body(data, 0)
        elif state == RESPONSE:
            self._buffer += data
            if len(self._buffer) > MAX_PIPELINED and not self._paused_by_pipeline:
                self._paused_by_pipeline = True
                self._apply_pause()

    # requests
    def _read_head(self, data: bytes) -> None:
        if data.startswith((b"\r", b"\n")):
            data = data.lstrip(b"\r\n")
        worker = self.worker
        try:
            end = find_head(data, worker.config.limits.header_bytes)
            if not end:
                if not self._buffer:
                    self.since_ns = time.monotonic_ns()
                self._buffer = data
                return
            self._buffer = b""
            head = parse_request(data[:end], worker.config.limits.header_count)
            limit = worker.config.limits.body_bytes
            if limit and head.content_length > limit:
                raise BadMessage(413, "body_too_large", f"the body is larger than {limit} bytes")
        except BadMessage as problem:
            self._refuse(problem)
            return
        started = worker.start_call(self, head)
        if started is not None:
            self._first_body(*started, head, data, end)

    def _first_body(
        self, call: Call, first: bytes, head: RequestHead, data: bytes, pos: int
    ) -> None:
        """Sends the head together with the body bytes that came along."""
        self.call = call
        body: Body = Chunked() if head.chunked else _EMPTY
        if head.content_length:
            body = Length(head.content_length)
        call.body = body
        limit = self.worker.config.limits.body_bytes
        try:
            end = body.feed(data, pos)
            if limit and (end if end >= 0 else len(data)) - pos > limit:
                raise BadMessage(413, "body_too_large", f"the body is larger than {limit} bytes")
        except BadMessage as problem:
            self._refuse(problem)
            return
        piece = data[pos:end] if end >= 0 else data[pos:]
        if piece:
            call.tee.request_data(piece)
        if end < 0:
            self.state = BODY
            self._body_seen = len(piece)
        else:
            self.state = RESPONSE
            self._buffer = data[end:]
            call.mark_request_done()
        call.begin(first, piece)

    def _read_body(self, data: bytes, pos: int) -> None:
        call = self.call
        if call is None or call.body is None:
            return
        try:
            end = call.body.feed(data, pos)
            self._body_seen += len(data) if end < 0 else end
            limit = self.worker.config.limits.body_bytes
            if limit and self._body_seen > limit and not call.tunnel:
                raise BadMessage(413, "body_too_large", f"the body is larger than {limit} bytes")
        except BadMessage as problem:
            call.fail(problem.status, problem.reason, str(problem))
            return
        if end < 0:
            call.request_data(data, False)
        else:
            self.state = RESPONSE
            self._buffer = data[end:]
            call.request_data(data[:end] if end < len(data) else data, True)

    def open_tunnel(self) -> None:
        """The upstream accepted an upgrade: from here on bytes just pass."""
        call = self.call
        if call is None:
            return
        call.body = UntilClose()
        self.state = BODY
        early, self._buffer = self._buffer, b""
        self._unpause_pipeline()
        if early:
            self.worker.loop.call_soon(self.data_received, early)

    # answers
    def write_error(
        self, path: str, status: int, reason: str, message: str, keep: bool, extra: bytes = b""
    ) -> None:
        """An answer of our own, in the shape that the path's dialect uses for errors."""
        body = error_body(path, status, reason, message)
        self.transport.write(
            b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
            b"llmtap-error: %b%b%b\r\n\r\n"
            % (
                status,
                _REASONS.get(status, b"Error"),
                len(body),
                reason.encode(),
                extra,
                b"" if keep else b"\r\nConnection: close",
            )
            + body
        )

    def write_local(self, status: bytes, body: bytes, keep: bool) -> None:
        """An answer of a reserved path (`/_llmtap/…`)."""
        self.transport.write(
            b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%b\r\n%b"
            % (status, len(body), b"" if keep else b"Connection: close\r\n", body)
        )

    def refuse_request(self, head: RequestHead, status: int, reason: str, message: str) -> None:
        """Answers a well-formed request that goes nowhere; its body is not read."""
        keep = head.keep_alive and not head.chunked and not head.content_length
        self.write_error(head.target.decode("latin-1"), status, reason, message, keep)
        if not keep:
            self._linger()

    def _refuse(self, problem: BadMessage) -> None:
        self.worker.counters.refuse(problem.reason)
        call, self.call = self.call, None
        if call is not None:
            self.call = call
            call.fail(problem.status, problem.reason, str(problem))
            return
        self.write_error("", problem.status, problem.reason, str(problem), False)
        self._linger()

    def call_over(self, call: Call, keep_alive: bool) -> None:
        """The call's answer is written (or can not be): next request, or close."""
        if self.call is not call:
            return
        self.call = None
        self._paused_by_call = False
        if not keep_alive or self.worker.draining:
            self._linger()
            return
        self.state = HEAD
        self.since_ns = time.monotonic_ns()
        self._unpause_pipeline()
        if self._buffer:
            self.worker.loop.call_soon(self._next_pipelined)

    def _next_pipelined(self) -> None:
        if self.state == HEAD and self._buffer:
            data, self._buffer = self._buffer, b""
            self._read_head(data)

    def _linger(self) -> None:
        """Closes so that no reset loses the answer: FIN, then read until the client ends."""
        finished = self.state == RESPONSE and not self._buffer
        self.state = LINGER
        self.since_ns = time.monotonic_ns()
        self._buffer = b""
        self._unpause_pipeline()
        if finished or not self.transport.can_write_eof():
            self.transport.close()
        else:
            self.transport.write_eof()

    def reset_on_close(self) -> None:
        """Makes the close that follows a TCP reset, so that the client sees a cut as a cut."""
        raw = self.transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def close_if_idle(self) -> None:
        """For draining: nothing is under way, nothing is half read."""
        if self.state == HEAD and not self._buffer:
            self.transport.close()

    # back-pressure
    def pause_reading(self) -> None:
        self._paused_by_call = True
        self._apply_pause()

    def resume_reading(self) -> None:
        self._paused_by_call = False
        self._apply_pause()

    def _unpause_pipeline(self) -> None:
        self._paused_by_pipeline = False
        self._apply_pause()

    def _apply_pause(self) -> None:
        if self.transport.is_closing():
            return
        reading = self.transport.is_reading()
        if self._paused_by_call or self._paused_by_pipeline:
            if reading:
                self.transport.pause_reading()
        elif not reading:
            self.transport.resume_reading()

    def sweep(self, now_ns: int) -> None:
        """Called a few times a second: time limits."""
        if self.call is not None:
            self.call.sweep(now_ns)
            return
        waited = now_ns - self.since_ns
        if self.state == HEAD:
            if self._buffer:
                if waited > self.worker.header_timeout_ns:
                    message = "the request head did not arrive in time"
                    self._refuse(BadMessage(408, "request_timeout", message))
            elif waited > self.worker.keepalive_ns:
                self.transport.close()
        elif self.state == LINGER and waited > LINGER_NS:
            self.transport.abort()
