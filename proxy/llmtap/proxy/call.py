"""One call on its way: joins a client connection, an upstream connection and a tee.

The call owns the order of things: START record before the request's last byte goes up, END record
before the response's last byte goes down, back-pressure both ways, and what the client is told when
the upstream fails. It never retries: a call costs money.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from typing import TYPE_CHECKING

from llmtap.proxy import headers
from llmtap.proxy.identity import Trace
from llmtap.proxy.injection import UsageStripper, can_strip, inject, is_candidate
from llmtap.proxy.routes import Route
from llmtap.proxy.tee import Tee
from llmtap.proxy.wire.body import Body, Chunked, UntilClose
from llmtap.proxy.wire.head import BadMessage, RequestHead, ResponseHead
from llmtap.proxy.wire.upstream import UpstreamConnection
from llmtap.spool.records import Outcome

if TYPE_CHECKING:
    from llmtap.proxy.wire.client import ClientConnection

log = logging.getLogger("llmtap.proxy")

MAX_PENDING = 256 << 10
"""Request bytes held while the upstream connection is being made."""
START_AFTER_NS = 1_000_000_000
"""A request still uploading after this long is recorded as far as it came."""


class Call:
    """One request/response pair (or tunnel). Implements `upstream.Exchange`."""

    __slots__ = (
        "_client_paused",
        "_connecting",
        "_dechunk",
        "_head_sent",
        "_held",
        "_injected",
        "_keep_alive",
        "_pending",
        "_rechunk",
        "_request_done_ns",
        "_strip",
        "_trace_line",
        "_upload_ns",
        "body",
        "client",
        "head",
        "is_head",
        "last_ns",
        "over",
        "path",
        "request_done",
        "route",
        "started_ns",
        "tee",
        "tunnel",
        "upstream",
    )

    def __init__(
        self,
        client: ClientConnection,
        route: Route,
        head: RequestHead,
        path: str,
        trace: Trace,
        tee: Tee,
        now_ns: int,
    ) -> None:
        self.client = client
        self.route = route
        self.head = head
        self.path = path
        self.tee = tee
        self.is_head = head.method == b"HEAD"
        self.upstream: UpstreamConnection | None = None
        self.body: Body | None = None
        self.request_done = False
        self.over = False
        """The client has its answer, or can not get one any more."""
        self.tunnel = False
        self.started_ns = self.last_ns = self._upload_ns = now_ns
        self._request_done_ns = 0
        self._keep_alive = head.keep_alive
        self._head_sent = False
        self._dechunk: Chunked | None = None
        self._held: list[bytes] | None = None
        self._injected = False
        self._strip: UsageStripper | None = None
        self._rechunk = False
        self._client_paused = False
        self._pending: list[bytes] | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._trace_line = (
            f"\r\nllmtap-call-id: {tee.start.id}\r\ntraceparent: "
            f"00-{trace.trace_id}-{trace.span_id}-{trace.flags}"
        ).encode()

    # request: client -> upstream
    def begin(self, head: bytes, piece: bytes) -> None:
        """Sends the rewritten head with the body bytes at hand; or holds them, see `injection`."""
        if not is_candidate(self.route, self.head, self.path):
            self._send(head + piece)
            return
        self._held = [head, piece]
        if self.request_done:
            self._send_held()

    def _send_held(self) -> None:
        held, self._held = self._held or [], None
        head, body = held[0], b"".join(held[1:])
        changed = inject(head, body)
        self._injected = changed is not None
        self._send(head + body if changed is None else changed)

    def _send(self, first: bytes) -> None:
        """On a pooled or new connection."""
        worker = self.client.worker
        connection = worker.pool.take(self.route)
        if connection is not None:
            self.upstream = connection
            connection.serve(self)
            connection.transport.write(first)
            return
        self._pending = [first]
        self._connecting = worker.spawn(self._connect(), "connect upstream")

    def request_data(self, piece: bytes, done: bool) -> None:
        """More of the request's body (wire bytes); `done` with the last."""
        tee = self.tee
        if piece:
            tee.request_data(piece)
        if done:
            self.mark_request_done()
        else:
            self._upload_ns = time.monotonic_ns()
        if self.over or not piece:
            return
        if self._held is not None:
            self._held.append(piece)
            if done:
                self._send_held()
        elif self.upstream is not None:
            self.upstream.transport.write(piece)
        elif self._pending is not None:
            self._pending.append(piece)
            if not self._client_paused and sum(map(len, self._pending)) > MAX_PENDING:
                self.pause_client()

    def mark_request_done(self) -> None:
        self.request_done = True
        self._request_done_ns = time.monotonic_ns()
        self.tee.request_complete = True
        self.tee.write_start()

    async def _connect(self) -> None:
        route, worker = self.route, self.client.worker
        try:
            async with asyncio.timeout(route.connect_s):
                _, connection = await worker.loop.create_connection(
                    lambda: UpstreamConnection(worker.pool, route),
                    route.host,
                    route.port,
                    ssl=route.tls_context,
                    server_hostname=route.host if route.tls else None,
                )
        except TimeoutError:
            self.fail(
                504,
                "upstream_connect_timeout",
                f"upstream '{route.name}' at {route.base_url} did not accept a connection "
                f"within {route.connect_s:g} s",
                "timeout",
            )
            return
        except ssl.SSLError as e:
            why = getattr(e, "verify_message", "") or e.reason or "TLS failed"
            self.fail(502, "upstream_tls", f"TLS with upstream '{route.name}' failed: {why}")
            return
        except OSError as e:
            self.fail(
                502,
                "upstream_unreachable",
                f"cannot connect to upstream '{route.name}' at {route.base_url}: "
                f"{e.strerror or e}. Is it running? See [upstreams.{route.name}] base_url",
            )
            return
        finally:
            self._connecting = None
        pending, self._pending = self._pending, None
        if self.over or pending is None:
            connection.transport.abort()
            return
        self.upstream = connection
        connection.serve(self)
        connection.transport.write(b"".join(pending))
        self.resume_client()

    # response: upstream -> client (upstream.Exchange)
    def interim(self, raw: bytes) -> None:
        if self.head.version_1_1:
            self.client.transport.write(raw)

    def response_head(self, head: ResponseHead, body: Body, now_ns: int) -> bytes:
        tee = self.tee
        tee.first_ns = now_ns
        tee.http_status = head.status
        tee.chunked = isinstance(body, Chunked)
        by_eof = isinstance(body, UntilClose)
        tee.framed_by_eof = by_eof
        old_client = not self.head.version_1_1
        if tee.chunked and old_client:
            self._dechunk = body if isinstance(body, Chunked) else None
            if self._dechunk is not None:
                self._dechunk.payload = []
        if self._injected:
            self._look_for_usage(head, body)
        lines, tee.headers = headers.response_headers(head, keep_te=not old_client)
        if head.status == 101:
            self._open_tunnel()
            end = b"\r\nConnection: Upgrade\r\n\r\n"
        elif self._keep_alive and not by_eof and not old_client and not self.client.worker.draining:
            end = b"\r\n\r\n"
        else:
            self._keep_alive = False
            end = b"\r\nConnection: close\r\n\r\n"
        self._head_sent = True
        status_line = b"HTTP/1.1 %d %b" % (head.status, head.reason)
        return b"".join((b"\r\n".join((status_line, *lines)), self._trace_line, end))

    def _look_for_usage(self, head: ResponseHead, body: Body) -> None:
        """We asked for one event more than the client did: it is taken out again."""
        if head.status == 400 and self.route.injects:
            self.route.injection[0] = False
            log.warning(
                "upstream '%s' answered 400 where usage was asked for in a stream; it is not asked "
                'any more. Set [upstreams.%s] usage_injection = "off" to keep it so',
                self.route.name,
                self.route.name,
            )
        if not isinstance(body, Chunked | UntilClose) or not can_strip(head):
            return
        self._strip = UsageStripper()
        if isinstance(body, Chunked) and self._dechunk is None:
            self._dechunk = body
            body.payload = []
            self._rechunk = True

    def _open_tunnel(self) -> None:
        self.tunnel = True
        self._keep_alive = False
        self.client.open_tunnel()

    def response_data(self, before: bytes, piece: bytes, now_ns: int) -> None:
        if piece:
            self.tee.response_data(piece, now_ns)
        if self._dechunk is not None or self._strip is not None:
            piece = self._outgoing(piece)
        if before or piece:
            self.client.transport.write(before + piece if before else piece)

    def finish(self, before: bytes, piece: bytes, now_ns: int) -> bool:
        if piece:
            self.tee.response_data(piece, now_ns)
        self.tee.write_end("done")
        if self._dechunk is not None or self._strip is not None:
            piece = self._outgoing(piece, last=True)
        if before or piece:
            self.client.transport.write(before + piece if before else piece)
        self._close(self._keep_alive and self.request_done)
        return self.request_done

    def upstream_lost(self, error: Exception | None) -> None:
        if self.tunnel:
            self._cut("done", "", "")
            return
        when = "in the middle of its response" if self._head_sent else "without a response"
        why = f": {error}" if error else ""
        message = f"upstream '{self.route.name}' closed the connection {when}{why}"
        self.fail(502, "upstream_closed", message, "upstream_closed")

    def upstream_garbage(self, problem: BadMessage) -> None:
        self.fail(502, "upstream_bad_response", str(problem), "upstream_closed")

    def _outgoing(self, piece: bytes, last: bool = False) -> bytes:
        """What the client gets for a piece of body: dechunked, stripped, chunked again."""
        if self._dechunk is not None and self._dechunk.payload is not None:
            piece = b"".join(self._dechunk.payload)
            self._dechunk.payload.clear()
        if self._strip is not None:
            piece = self._strip.feed(piece)
            if last:
                piece += self._strip.end()
        piece = self._chunk(piece)
        return piece + b"0\r\n\r\n" if last and self._rechunk else piece

    def _chunk(self, piece: bytes) -> bytes:
        if not (self._rechunk and piece):
            return piece
        return b"%x\r\n%b\r\n" % (len(piece), piece)

    # back-pressure
    def pause_client(self) -> None:
        if not self._client_paused and (self.tunnel or not self.request_done):
            self._client_paused = True
            self.client.pause_reading()

    def resume_client(self) -> None:
        if self._client_paused:
            self._client_paused = False
            self._upload_ns = time.monotonic_ns()
            self.client.resume_reading()

    # endings
    def fail(self, status: int, reason: str, message: str, outcome: Outcome = "refused") -> None:
        """Ends the call on our side: an error response where one can still be sent, else a cut."""
        if self.over:
            return
        if self._head_sent:
            self._cut(outcome, reason, message)
            return
        keep = self._keep_alive and self.request_done
        self.tee.http_status = status
        self.tee.write_end(outcome, reason, message)
        self.client.write_error(self.path, status, reason, message, keep, self._trace_line)
        self._drop_upstream()
        self._close(keep)

    def client_lost(self) -> None:
        """The client went away: free the upstream at once."""
        self.tee.write_end("done" if self.tunnel else "aborted")
        self.over = True
        self._drop_upstream()

    def sweep(self, now_ns: int) -> None:
        """Called a few times a second: time limits."""
        route = self.route
        if self.tunnel or (self.upstream is None and self._held is None):
            return
        if not self.request_done:
            if now_ns - self.started_ns > START_AFTER_NS:
                self.tee.write_start()
            limit = self.client.worker.body_idle_ns
            if not self._client_paused and now_ns - self._upload_ns > limit:
                self.fail(408, "request_timeout", "the request body stopped arriving", "aborted")
        elif not self._head_sent:
            if now_ns - max(self._request_done_ns, self.last_ns) > route.first_byte_ns:
                limit_s = route.first_byte_ns / 1e9
                message = f"upstream '{route.name}' sent nothing within {limit_s:g} s"
                self.fail(504, "upstream_timeout", message, "timeout")
        elif self.upstream and not self.upstream.paused and now_ns - self.last_ns > route.idle_ns:
            limit_s = route.idle_ns / 1e9
            message = f"upstream '{route.name}' sent nothing for {limit_s:g} s"
            self.fail(504, "upstream_timeout", message, "timeout")

    def _cut(self, outcome: Outcome, reason: str, message: str) -> None:
        """The client has part of a response: end its connection, as the upstream's end would."""
        self.tee.write_end(outcome, reason, message)
        self._drop_upstream()
        if self._strip is not None and (rest := self._strip.end()):
            self.client.transport.write(self._chunk(rest))
        unframed = self.tee.framed_by_eof or (self._dechunk is not None and not self._rechunk)
        if outcome != "done" and unframed:
            self.client.reset_on_close()  # a plain FIN would look like a whole response
        self._close(False)

    def _drop_upstream(self) -> None:
        self._pending = self._held = None
        if self.upstream is not None:
            upstream, self.upstream = self.upstream, None
            upstream.release()
        elif self._connecting is not None:
            self._connecting.cancel()

    def _close(self, keep_alive: bool) -> None:
        self.over = True
        self.upstream = None
        self.client.call_over(self, keep_alive)
