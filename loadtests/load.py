"""A load generator on asyncio Protocols: closed loop (as fast as answers come) or paced.

`run(port, path, …)` in a process of its own, pinned away from what is measured. Bounded in time.
"""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import json
import os
import random
import struct
import sys
import time
from collections.abc import Callable
from typing import cast

import uvloop

TEXT = b"The quick brown fox jumps over the lazy dog. " * 40
BODY = (
    b'{"model":"gpt-4o-mini","messages":[{"role":"system","content":"You are a helpful assistant."},'
    b'{"role":"user","content":"' + TEXT + b'"}],"temperature":0.2}'
)


def request(path: str) -> bytes:
    return (
        b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer sk-1234\r\nUser-Agent: load/1\r\nAccept: */*\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (path.encode(), len(BODY), BODY)
    )


class Clock:
    """Calls back at exact times (Linux timerfd): loop timers tick in milliseconds, which would
    send requests that are due within one in a burst."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._libc = ctypes.CDLL(None)
        monotonic, nonblock = 1, os.O_NONBLOCK
        self._fd: int = self._libc.timerfd_create(monotonic, nonblock)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        loop.add_reader(self._fd, self._fire)

    def at(self, when: float, call: Callable[[], None]) -> None:
        """`when` by time.perf_counter (CLOCK_MONOTONIC on Linux)."""
        self._count += 1
        heapq.heappush(self._due, (when, self._count, call))
        if self._due[0][1] == self._count:
            self._arm()

    def _arm(self) -> None:
        when = max(self._due[0][0], 1e-9)
        setting = struct.pack("4q", 0, 0, int(when), int(when % 1 * 1e9) or 1)
        absolute = 1
        self._libc.timerfd_settime(self._fd, absolute, setting, None)

    def _fire(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return
        while self._due and self._due[0][0] <= time.perf_counter():
            heapq.heappop(self._due)[2]()
        if self._due:
            self._arm()


class Client(asyncio.Protocol):
    """One connection that sends a request, reads the answer, and sends the next."""

    def __init__(
        self, raw: bytes, stream: bool, gap_s: float, stop_at: float, clock: Clock
    ) -> None:
        self._raw, self._stream = raw, stream
        self._gap_s, self._stop_at, self._clock = gap_s, stop_at, clock
        self._left = 0
        self._tail = b""
        self.latencies: list[float] = []
        self.events = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.send()

    def send(self) -> None:
        self._begun = time.perf_counter()
        self._left = -1
        self._transport.write(self._raw)

    def data_received(self, data: bytes) -> None:
        if self._stream:
            self.events += data.count(b"data: {")
            done = (self._tail + data).endswith(b"0\r\n\r\n")
            self._tail = data[-8:]
        else:
            if self._left < 0:
                end = data.index(b"\r\n\r\n")
                head = data[:end].lower()
                at = head.find(b"content-length:")
                if at >= 0:
                    self._left = int(head[at + 15 :].split(b"\r\n")[0])
                    self._left -= len(data) - end - 4
                else:  # chunked, as aiohttp's forwarder answers
                    self._left = 0 if data.endswith(b"0\r\n\r\n") else 1 << 40
            elif self._left > 1 << 30:
                self._left = 0 if data.endswith(b"0\r\n\r\n") else self._left
            else:
                self._left -= len(data)
            done = self._left == 0
        if done:
            now = time.perf_counter()
            self.latencies.append(now - self._begun)
            if now < self._stop_at:
                if self._gap_s:
                    gap_s = self._gap_s * random.uniform(0.5, 1.5)  # not in step
                    self._clock.at(now + gap_s, self.send)
                else:
                    self.send()


async def run(port: int, path: str, clients: int, seconds: float, gap_s: float) -> dict[str, float]:
    """Totals over `seconds`: requests/s, events/s, latency p50 and p99 in microseconds."""
    loop = asyncio.get_running_loop()
    stop_at = time.perf_counter() + seconds
    stream = path.endswith("/stream")
    clock = Clock(loop)
    protocols = [Client(request(path), stream, gap_s, stop_at, clock) for _ in range(clients)]
    for protocol in protocols:
        await loop.create_connection(lambda p=protocol: p, "127.0.0.1", port)  # type: ignore[misc]
        if gap_s:
            await asyncio.sleep(gap_s / clients)  # spread over the gap
    begun = time.perf_counter()
    await asyncio.sleep(max(0.0, stop_at - begun))
    latencies = sorted(x for p in protocols for x in p.latencies)
    events = sum(p.events for p in protocols)
    if not latencies:
        return {"requests": 0, "events": events, "p50_us": 0, "p99_us": 0}
    return {
        "requests": len(latencies),
        "events": events,
        "p50_us": latencies[len(latencies) // 2] * 1e6,
        "p99_us": latencies[int(len(latencies) * 0.99)] * 1e6,
    }


if __name__ == "__main__":
    given_port, given_path, given_clients, given_seconds, given_gap = sys.argv[1:]
    found = uvloop.run(
        run(
            int(given_port),
            given_path,
            int(given_clients),
            float(given_seconds),
            float(given_gap),
        )
    )
    print(json.dumps(found))
