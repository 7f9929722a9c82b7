"""One proxy worker process: an event loop, a listening socket, a spool writer, a sync thread.

Started by the supervisor with inherited descriptors: the listening socket (kept open by the
supervisor, so that a restarted worker finds its waiting connections) and a pipe that ends when the
supervisor does. SIGTERM drains, SIGHUP reads the configuration again.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import uvloop

from llmtap.config import Config, ConfigError, load
from llmtap.proxy import headers
from llmtap.proxy.call import Call
from llmtap.proxy.counters import Counters
from llmtap.proxy.identity import Ids
from llmtap.proxy.routes import NoRoute, Routes
from llmtap.proxy.spooling import Spooling
from llmtap.proxy.tee import SilentTee, Tee
from llmtap.proxy.wire.client import ClientConnection
from llmtap.proxy.wire.head import RequestHead
from llmtap.proxy.wire.upstream import Pool
from llmtap.sdk import names
from llmtap.spool.records import CallStart

log = logging.getLogger("llmtap.proxy")

SWEEP_S = 0.25
_LOCAL = b"/_llmtap/"
_CAPTURE_TAG = names.CAPTURE.removeprefix(names.PREFIX)


class Worker:
    """Everything connections need, and the life of the process."""

    def __init__(self, config: Config, spooling: Spooling, ids: Ids | None = None) -> None:
        self.spooling = spooling
        self.counters = Counters()
        self.pool = Pool()
        self.clients: set[ClientConnection] = set()
        self.draining = False
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._ids = ids or Ids()
        self._tasks: set[asyncio.Task[None]] = set()
        self._drained = asyncio.Event()
        self._server: asyncio.Server | None = None
        self.apply(config)

    def apply(self, config: Config) -> None:
        """Takes a configuration into use; calls under way keep the route they have."""
        self.config = config
        self.routes = Routes(config)
        self.header_timeout_ns = int(config.limits.header_timeout * 1e9)
        self.keepalive_ns = int(config.limits.keepalive * 1e9)
        self.body_idle_ns = int(config.limits.body_idle * 1e9)
        self.pool.sweep(keep=set())

    # connections
    def client_made(self, client: ClientConnection) -> bool:
        """Registers a connection; False when there are too many."""
        self.counters.connections += 1
        self.clients.add(client)
        return len(self.clients) <= self.config.limits.connections

    def client_gone(self, client: ClientConnection) -> None:
        self.clients.discard(client)
        if self.draining and not self.clients:
            self._drained.set()

    def start_call(self, client: ClientConnection, head: RequestHead) -> tuple[Call, bytes] | None:
        """The call for a request head and the head to send upstream; None when answered here."""
        target = head.target
        if target.startswith(_LOCAL):
            self._answer_local(client, head)
            return None
        try:
            route, forward_target = self.routes.match(target)
        except NoRoute as e:
            self.counters.refuse("unknown_upstream")
            client.refuse_request(head, 404, "unknown_upstream", str(e))
            return None
        now_ns = time.monotonic_ns()
        unix_us = time.time_ns() // 1000
        forwarded = headers.request_headers(head)
        trace = self._ids.trace(forwarded.traceparent)
        path = headers.clean_query(forward_target)
        tags = forwarded.tags
        capture = tags.pop(_CAPTURE_TAG, "").lower()
        if capture not in names.CAPTURE_LEVELS:
            capture = self.config.capture.level
        start = CallStart(
            id=self._ids.call_id(unix_us // 1000),
            ts_us=unix_us,
            upstream=route.name,
            provider=route.provider,
            dialect=route.dialect,
            method=head.method.decode("latin-1"),
            path=path,
            trace_id=trace.trace_id,
            span_id=trace.span_id,
            parent_span_id=trace.parent,
            capture=capture,
            chunked=head.chunked,
            headers=forwarded.stored,
            tags=tags,
        )
        kind = SilentTee if capture == "off" else Tee
        tee = kind(self.spooling.writer, start, now_ns, self.config.capture.max_body_bytes)
        lines = forwarded.lines
        if route.trace_forward:
            lines.append(b"traceparent: " + trace.header())
            if forwarded.tracestate:
                lines.append(b"tracestate: " + forwarded.tracestate)
        first = b"%b %b HTTP/1.1\r\nHost: %b\r\n%b\r\n\r\n" % (
            head.method,
            forward_target,
            route.host_header,
            b"\r\n".join(lines),
        )
        if not lines:
            first = first[:-2]
        self.counters.calls += 1
        return Call(client, route, head, path, trace, tee, now_ns), first

    def _answer_local(self, client: ClientConnection, head: RequestHead) -> None:
        path = head.target.partition(b"?")[0]
        keep = head.keep_alive and not (head.chunked or head.content_length)
        if path == b"/_llmtap/healthz":
            client.write_local(b"200 OK", b'{"status":"ok"}', keep)
        elif path == b"/_llmtap/readyz":
            ready = not self.draining
            status = b"200 OK" if ready else b"503 Service Unavailable"
            client.write_local(status, b'{"ready":%b}' % (b"true" if ready else b"false"), keep)
        else:
            message = "reserved path; there are /_llmtap/healthz and /_llmtap/readyz"
            client.refuse_request(head, 404, "unknown_path", message)
            return
        if not keep:
            client.transport.close()

    # background work
    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Runs background work; a failure is logged with its name, never lost."""
        task = self.loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            now = time.monotonic_ns()
            for client in list(self.clients):
                client.sweep(now)
            self.pool.sweep()

    # life
    async def serve(self, sock: socket.socket) -> None:
        """Starts listening on a bound socket."""
        tls: ssl.SSLContext | None = None
        if self.config.proxy.tls_cert is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(self.config.proxy.tls_cert, self.config.proxy.tls_key)
            tls.set_alpn_protocols(["http/1.1"])
        self._server = await self.loop.create_server(
            lambda: ClientConnection(self), sock=sock, ssl=tls, backlog=4096
        )
        self.spawn(self._sweep(), "sweep")

    async def drain(self) -> None:
        """Stops accepting, lets calls end within the configured time, then cuts what is left."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        for client in list(self.clients):
            client.close_if_idle()
        if self.clients:
            try:
                async with asyncio.timeout(self.config.proxy.drain):
                    await self._drained.wait()
            except TimeoutError:
                log.warning("%d connections cut after the drain time", len(self.clients))
        for client in list(self.clients):
            client.transport.abort()
        await asyncio.sleep(0)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.pool.close()


async def _run(args: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    flags: dict[str, Any] = json.loads(args.flags)
    path = Path(args.config) if args.config else None
    config = load(path, flags)
    spooling = Spooling(config, args.slot)
    worker = Worker(config, spooling)
    spooling.start(lambda: {**worker.counters.as_dict(), "open_connections": len(worker.clients)})
    stop = asyncio.Event()

    def reload() -> None:
        try:
            worker.apply(load(path, flags))
            log.info("worker %d: configuration read again", args.slot)
        except ConfigError as e:
            log.error("worker %d: configuration not taken into use: %s", args.slot, e)

    def supervisor_gone() -> None:
        loop.remove_reader(args.life_fd)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
    loop.add_reader(args.life_fd, supervisor_gone)
    # What start-up made stays: no collection need look at it again, and few be needed at all,
    # since calls leave no cycles behind.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    await worker.serve(socket.socket(fileno=args.listen_fd))
    os.write(args.ready_fd, b"1")
    os.close(args.ready_fd)
    await stop.wait()
    await worker.drain()
    spooling.stop()


def main(argv: list[str] | None = None) -> int:
    """Entry of `python -m llmtap.proxy.worker`; started by the supervisor only."""
    parser = argparse.ArgumentParser(prog="llmtap.proxy.worker")
    for name in ("slot", "listen-fd", "ready-fd", "life-fd"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--config", default="")
    parser.add_argument("--flags", default="{}")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    uvloop.run(_run(args))
    return 0


if __name__ == "__main__":
    sys.exit(main())
