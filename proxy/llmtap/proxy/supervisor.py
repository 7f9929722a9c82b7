"""The parent of everything that `llmtap up` runs: proxy workers and one collector.

It binds the listening sockets (one per worker, SO_REUSEPORT) and keeps them open, starts the
children with them, restarts what dies, forwards SIGHUP, and on SIGTERM/SIGINT drains the workers
first and stops the collector last, so that the calls of the last second are stored. It imports no
room above it: children are commands.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmtap.config import Config

log = logging.getLogger("llmtap")

READY_S = 60.0
QUICK_DEATH_S = 5.0
COLLECTOR_STOP_S = 60.0


class StartError(RuntimeError):
    """llmtap cannot start; the text says why and what to do."""


def bind(host: str, port: int, count: int, key: str) -> list[socket.socket]:
    """`count` sockets bound to one address with SO_REUSEPORT, not yet listening.

    A plain bind goes first: with SO_REUSEPORT alone another process of the same user that listens
    there would silently share the port. Raises StartError.
    """
    try:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, proto, _, address = info[0]
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
        sockets: list[socket.socket] = []
        for _ in range(count):
            sock = socket.socket(family, kind, proto)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(address)
            address = sock.getsockname()  # port 0: the others join the one that was given
            sockets.append(sock)
    except OSError as e:
        raise StartError(
            f"cannot listen on {host}:{port}: {e.strerror or e}. "
            f"Choose another with --{key.replace('.', '-')}, or set {key} (0: any free one)"
        ) from e
    return sockets


@dataclass
class Child:
    """One process under supervision. `command(ready_fd, life_fd)` makes its arguments."""

    name: str
    command: Callable[[int, int], list[str]]
    inherit: Sequence[int] = ()
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: int = 0
    ready: bytes = b""
    """What it wrote when it was ready; empty until then."""


@dataclass
class Supervisor:
    """Starts, watches and stops the children."""

    children: list[Child]
    collector: Child | None = None
    _life: tuple[int, int] = field(default_factory=os.pipe)
    _stopping: bool = False

    def start(self, child: Child) -> int:
        """Starts a child; returns the descriptor that its ready message arrives on."""
        ready_read, ready_write = os.pipe()
        life_read = self._life[0]
        child.started = time.monotonic()
        child.ready = b""
        child.process = subprocess.Popen(
            child.command(ready_write, life_read),
            pass_fds=(*child.inherit, ready_write, life_read),
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which drains
        )
        os.close(ready_write)
        return ready_read

    async def start_and_wait(self, child: Child) -> None:
        """Starts a child and waits until it is ready. Raises StartError when it dies instead."""
        fd = self.start(child)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(READY_S):
                child.ready = await loop.run_in_executor(None, os.read, fd, 4096)
        except TimeoutError:
            raise StartError(f"{child.name} was not ready within {READY_S:g} s") from None
        finally:
            os.close(fd)
        if not child.ready:
            code = child.process.wait() if child.process else None
            raise StartError(f"{child.name} stopped at start (exit code {code}); see above")

    async def watch(self) -> None:
        """Restarts children that die, at growing intervals when they die young. Runs for ever."""
        while True:
            await asyncio.sleep(0.1)
            for child in self._all():
                if child.process is None or child.process.poll() is None or self._stopping:
                    continue
                lived = time.monotonic() - child.started
                code = child.process.returncode
                child.deaths = child.deaths + 1 if lived < QUICK_DEATH_S else 0
                wait = min(5.0, 0.1 * 2**child.deaths) if child.deaths else 0.0
                log.error("%s died (exit code %s); restarting in %.1f s", child.name, code, wait)
                child.process = None
                asyncio.get_running_loop().call_later(wait, self._restart, child)

    def _restart(self, child: Child) -> None:
        if not self._stopping:
            os.close(self.start(child))

    def _all(self) -> list[Child]:
        return [*self.children, *([self.collector] if self.collector else [])]

    def reload(self) -> None:
        for child in self._all():
            self._signal(child, signal.SIGHUP)

    async def stop(self, drain_s: float, sockets: Sequence[socket.socket]) -> None:
        """Workers first (they drain), then the collector (it stores what they left).

        `sockets` are closed once the workers know: nobody may wait in a queue that no one serves.
        """
        self._stopping = True
        for child in self.children:
            self._signal(child, signal.SIGTERM)
        for sock in sockets:
            sock.close()
        await self._ended(self.children, drain_s + 10)
        if self.collector is not None:
            self._signal(self.collector, signal.SIGTERM)
            await self._ended([self.collector], COLLECTOR_STOP_S)
        for fd in self._life:
            os.close(fd)

    async def _ended(self, children: Sequence[Child], limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while any(c.process is not None and c.process.poll() is None for c in children):
            if time.monotonic() > deadline:
                for child in children:
                    log.error("%s did not stop in time; killed", child.name)
                    self._signal(child, signal.SIGKILL)
            await asyncio.sleep(0.02)

    def _signal(self, child: Child, number: signal.Signals) -> None:
        if child.process is not None and child.process.poll() is None:
            child.process.send_signal(number)


def worker_child(
    slot: int, sock: socket.socket, config_path: Path | None, flags: Mapping[str, Any]
) -> Child:
    """A proxy worker on its own listening socket."""

    def command(ready_fd: int, life_fd: int) -> list[str]:
        return [
            *(sys.executable, "-m", "llmtap.proxy.worker", "--slot", str(slot)),
            *("--listen-fd", str(sock.fileno()), "--ready-fd", str(ready_fd)),
            *("--life-fd", str(life_fd), "--config", str(config_path or "")),
            *("--flags", json.dumps(dict(flags))),
        ]

    return Child(f"worker {slot}", command, inherit=[sock.fileno()])


def collector_child(
    sock: socket.socket, config_path: Path | None, flags: Mapping[str, Any]
) -> Child:
    """The collector, with its bound admin socket."""

    def command(ready_fd: int, life_fd: int) -> list[str]:
        return [
            *(sys.executable, "-m", "llmtap.collector.main"),
            *("--listen-fd", str(sock.fileno()), "--ready-fd", str(ready_fd)),
            *("--life-fd", str(life_fd), "--config", str(config_path or "")),
            *("--flags", json.dumps(dict(flags))),
        ]

    return Child("collector", command, inherit=[sock.fileno()])


def url(sock: socket.socket, tls: bool = False) -> str:
    """The base URL of a bound socket, as a client on this machine would write it."""
    host, port = sock.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


async def run(
    config: Config,
    config_path: Path | None,
    flags: Mapping[str, Any],
    on_ready: Callable[[dict[str, Any]], None],
    *,
    proxy: bool = True,
    collector: bool = True,
) -> None:
    """Runs until SIGTERM or SIGINT. `on_ready` gets the ready file's content once all answer."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    ready: dict[str, Any] = {"pid": os.getpid(), "proxy": None, "admin": None}
    ready |= {"otlp_grpc": None, "otlp_http": None}
    supervisor = Supervisor([])
    sockets: list[socket.socket] = []
    # A restarted child must find the port that the first one was given.
    fixed = dict(flags)
    if collector:
        sockets += bind(config.admin.host, config.admin.port, 1, "admin.port")
        ready["admin"] = url(sockets[0])
        supervisor.collector = collector_child(sockets[0], config_path, fixed)
    if proxy:
        bound = bind(config.proxy.host, config.proxy.port, config.proxy.worker_count, "proxy.port")
        sockets += bound
        ready["proxy"] = url(bound[0], tls=config.proxy.tls_cert is not None)
        supervisor.children = [worker_child(i, s, config_path, fixed) for i, s in enumerate(bound)]
    loop.add_signal_handler(signal.SIGHUP, supervisor.reload)
    try:
        order = [*([supervisor.collector] if supervisor.collector else []), *supervisor.children]
        await asyncio.gather(*(supervisor.start_and_wait(child) for child in order))
        on_ready(ready)
        watching = loop.create_task(supervisor.watch(), name="watch children")
        await stop.wait()
        watching.cancel()
    finally:
        await supervisor.stop(config.proxy.drain, sockets)
