"""Identity of a call: UUIDv7 (RFC 9562 §5.7) ids and W3C trace context (version 00).

Randomness is the system's, taken in blocks: a call costs slices of a string, no system call.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import NamedTuple

_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_ZERO_TRACE = b"0" * 32
_ZERO_SPAN = b"0" * 16


class Trace(NamedTuple):
    """Where a call stands in its trace; hex, lower case. `parent` is empty for a root."""

    trace_id: str
    span_id: str
    parent: str
    flags: str

    def header(self) -> bytes:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}".encode()


_BLOCK_BYTES = 2048


class Ids:
    """Makes call ids, trace ids and span ids from blocks of random hex digits."""

    __slots__ = ("_at", "_hex", "_source")

    def __init__(self, source: Callable[[int], bytes] = os.urandom) -> None:
        self._source = source
        self._hex = ""
        self._at = 0

    def _digits(self, count: int) -> str:
        """`count` hex digits, never used before."""
        at = self._at
        end = at + count
        if end > len(self._hex):
            self._hex = self._source(_BLOCK_BYTES).hex()
            at, end = 0, count
        self._at = end
        return self._hex[at:end]

    def call_id(self, unix_ms: int) -> str:
        """A UUIDv7 as text, for a time in milliseconds since the epoch."""
        ms = f"{unix_ms:012x}"
        r = self._digits(19)
        variant = "89ab"[int(r[0], 16) & 3]
        return f"{ms[:8]}-{ms[8:]}-7{r[1:4]}-{variant}{r[4:7]}-{r[7:]}"

    def trace(self, incoming: bytes) -> Trace:
        """A new span: child of a valid incoming `traceparent`, else the root of a new trace."""
        span_id = self._digits(16)
        match = _TRACEPARENT.fullmatch(incoming) if incoming else None
        if match is None or match[1] == _ZERO_TRACE or match[2] == _ZERO_SPAN:
            return Trace(self._digits(32), span_id, "", "01")
        return Trace(match[1].decode(), span_id, match[2].decode(), match[3].decode())
