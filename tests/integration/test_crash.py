"""Crashes and outages: every call that ended is stored exactly once, interrupted ones are said.

`LLMTAP_CRASH_ROUNDS` sets how often things are killed (CI: few; by hand: 30 and more).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.integration.daemon import Daemon, daemon
from tests.integration.test_end_to_end import free_port

ROUNDS = int(os.environ.get("LLMTAP_CRASH_ROUNDS", "6"))
CHUNK = (
    b'data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":'
    b'[{"index":0,"delta":{"content":"w "},"finish_reason":null}]}\n\n'
)
END = (
    b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5,'
    b'"total_tokens":8}}\n\ndata: [DONE]\n\n'
)


async def _backend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Streams five words over about 20 ms."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            at = head.lower().index(b"content-length:")
            await reader.readexactly(int(head[at + 15 :].split(b"\r\n")[0]))
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
            for piece in (CHUNK,) * 5 + (END,):
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()
                await asyncio.sleep(0.004)
            writer.write(b"0\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return
    finally:
        await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, asyncio.CancelledError):
        await writer.wait_closed()


class Load:
    """Client tasks in a thread: what they sent, and what came back whole."""

    def __init__(self, proxy: str, backend_port: int, clients: int = 8) -> None:
        self._port = int(proxy.rsplit(":", 1)[1])
        self._backend_port = backend_port
        self._clients = clients
        self.sent: set[str] = set()
        self.ended: set[str] = set()
        self._stop = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    @contextmanager
    def running(self) -> Iterator[Load]:
        self._thread.start()
        try:
            yield self
        finally:
            self._stop = True
            self._thread.join()

    async def _run(self) -> None:
        server = await asyncio.start_server(_backend, "127.0.0.1", self._backend_port)
        await asyncio.gather(*(self._client(i) for i in range(self._clients)))
        server.close()
        serving = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _client(self, number: int) -> None:
        count = 0
        while not self._stop:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            try:
                while not self._stop:
                    count += 1
                    name = f"call-{number}-{count}"
                    content = {"role": "user", "content": name}
                    body = json.dumps(
                        {"model": "m", "stream": True, "messages": [content]}
                    ).encode()
                    writer.write(
                        b"POST /b/v1/chat/completions HTTP/1.1\r\nHost: x\r\nllmtap-user-id: %b\r\n"
                        b"Content-Length: %d\r\n\r\n%b" % (name.encode(), len(body), body)
                    )
                    self.sent.add(name)
                    async with asyncio.timeout(10):
                        head = await reader.readuntil(b"\r\n\r\n")
                        if not head.startswith(b"HTTP/1.1 200"):
                            break
                        await reader.readuntil(b"0\r\n\r\n")
                    self.ended.add(name)
            except (asyncio.IncompleteReadError, OSError):
                await asyncio.sleep(0.01)
            finally:
                await _close(writer)


def _drained(running: Daemon, seconds: float = 40) -> None:
    """Until the collector has nothing left to store."""
    deadline = time.monotonic() + seconds
    calm = 0
    while time.monotonic() < deadline:
        try:
            metrics = httpx.get(f"{running.admin}/metrics", timeout=5).text
        except httpx.TransportError:
            time.sleep(0.2)
            continue
        numbers = dict(
            line.split(" ") for line in metrics.splitlines() if line and not line.startswith("#")
        )
        calm = calm + 1 if float(numbers["llmtap_backlog_bytes"]) == 0 else 0
        if calm >= 5:
            return
        time.sleep(0.2)
    raise AssertionError(f"the collector did not catch up\n{running.log.read_text()[-3000:]}")


def _check(running: Daemon, load: Load) -> dict[str, str]:
    rows = running.rows("SELECT user_id, status, input_text, output_text, batch FROM calls")
    stored = {row["user_id"]: row["status"] for row in rows}
    seen: dict[str, int] = {}
    for row in rows:
        seen[row["user_id"]] = seen.get(row["user_id"], 0) + 1
    twice = [name for name, count in seen.items() if count > 1]
    assert not twice, f"stored more than once: {twice[:5]}"
    missing = load.ended - stored.keys()
    assert not missing, (
        f"{len(missing)} of {len(load.ended)} ended calls are missing: {sorted(missing)[:5]}"
    )
    for row in rows:
        assert row["input_text"] == row["user_id"], "the prompt is there, whatever happened"
        if row["user_id"] in load.ended:
            assert row["status"] == "ok", row
            assert row["output_text"] == "w " * 5
        else:
            assert row["status"] in ("lost", "aborted", "error", "ok"), row
    return stored


def test_killed_workers_and_collectors_lose_nothing(tmp_path: Path) -> None:
    port = free_port()
    rng = random.Random(11)
    config = f'[upstreams.b]\nbase_url = "http://127.0.0.1:{port}"\n'
    with daemon(tmp_path, config, "--workers", "2") as running:
        load = Load(running.proxy, port)
        with load.running():
            for round_ in range(ROUNDS):
                time.sleep(rng.uniform(0.1, 0.9))
                victims = ("proxy.worker", "collector.main", "both")[round_ % 3]
                names = ("proxy.worker", "collector.main") if victims == "both" else (victims,)
                for name in names:
                    pids = running.children(name)
                    if pids:
                        os.kill(rng.choice(pids), signal.SIGKILL)
            time.sleep(1)
        assert len(load.ended) > 50
        _drained(running)
        stored = _check(running, load)
        lost = sum(1 for status in stored.values() if status == "lost")
        assert lost > 0, "a kill under load interrupts calls"
        spans = running.rows("SELECT count() AS n, uniqExact(SpanId) AS u FROM otel_traces")[0]
        assert spans["n"] == spans["u"] == str(len(stored)) or spans["n"] == len(stored)


def test_stopped_collector_catches_up(tmp_path: Path) -> None:
    port = free_port()
    config = f'[upstreams.b]\nbase_url = "http://127.0.0.1:{port}"\n'
    with daemon(tmp_path, config) as running:
        load = Load(running.proxy, port)
        with load.running():
            (collector,) = running.children("collector.main")
            os.kill(collector, signal.SIGSTOP)
            deadline = time.monotonic() + 40
            while time.monotonic() < deadline and len(load.ended) < 400:
                time.sleep(0.2)
            assert len(load.ended) >= 400, "apps notice nothing"
            os.kill(collector, signal.SIGCONT)
            time.sleep(0.5)
        _drained(running)
        _check(running, load)


def test_full_spool_lets_calls_pass_and_says_what_was_dropped(tmp_path: Path) -> None:
    port = free_port()
    config = (
        f'[upstreams.b]\nbase_url = "http://127.0.0.1:{port}"\n'
        "[spool]\nmax_bytes = 1048576\nsegment_bytes = 65536\nmin_free_bytes = 0\n"
    )
    with daemon(tmp_path, config) as running:
        load = Load(running.proxy, port, clients=24)
        with load.running():
            (collector,) = running.children("collector.main")
            os.kill(collector, signal.SIGSTOP)
            deadline = time.monotonic() + 30
            dropped = 0
            while not dropped and time.monotonic() < deadline:
                time.sleep(0.2)
                status = json.loads((running.data / "run" / "worker-0.json").read_text())
                dropped = status["spool"]["dropped"].get("full", 0)
            assert dropped, "the spool's limit was reached"
            ended = len(load.ended)
            time.sleep(0.5)
            assert len(load.ended) > ended, "calls still pass"
            os.kill(collector, signal.SIGCONT)
            time.sleep(12)
        _drained(running)
        losses = running.rows("SELECT reason, sum(records) AS n FROM losses GROUP BY reason")
        assert [loss["reason"] for loss in losses] == ["full"]
        status = json.loads((running.data / "run" / "worker-0.json").read_text())
        assert int(losses[0]["n"]) == status["spool"]["dropped"]["full"]
        cut = running.rows("SELECT count() AS n FROM calls WHERE bitAnd(truncated, 4) != 0")[0]
        assert int(cut["n"]) > 0, "before dropping calls, bodies were left out"
        health = httpx.get(f"{running.admin}/healthz").json()
        assert health["ready"]


def test_worker_restart_keeps_waiting_connections(tmp_path: Path) -> None:
    """The supervisor holds the listening socket: while a worker is reborn, clients wait."""
    port = free_port()
    with daemon(tmp_path, f'[upstreams.b]\nbase_url = "http://127.0.0.1:{port}"\n') as running:
        (worker,) = running.children("proxy.worker")
        os.kill(worker, signal.SIGKILL)
        host, proxy_port = running.proxy.removeprefix("http://").split(":")
        with socket.create_connection((host, int(proxy_port)), timeout=10) as sock:
            sock.sendall(b"GET /_llmtap/readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.1 200")
