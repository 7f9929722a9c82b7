"""Identity of a call: UUIDv7 (RFC 9562 §5.7) ids and W3C trace context (version 00).

Randomness is a per-process generator seeded by the system; ids need to be unique, not secret.
"""

from __future__ import annotations

import random
import re
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


class Ids:
    """Makes call ids, trace ids and span ids."""

    __slots__ = ("_bits",)

    def __init__(self, source: random.Random | None = None) -> None:
        self._bits = (source or random.Random(random.SystemRandom().getrandbits(256))).getrandbits

    def call_id(self, unix_ms: int) -> str:
        """A UUIDv7 as text, for a time in milliseconds since the epoch."""
        bits = self._bits(74)
        value = (unix_ms & 0xFFFFFFFFFFFF) << 80 | 0x7 << 76 | (bits >> 62) << 64
        text = f"{value | 0x2 << 62 | bits & 0x3FFFFFFFFFFFFFFF:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def trace(self, incoming: bytes) -> Trace:
        """A new span: child of a valid incoming `traceparent`, else the root of a new trace."""
        span_id = f"{self._bits(64) or 1:016x}"
        match = _TRACEPARENT.fullmatch(incoming) if incoming else None
        if match is None or match[1] == _ZERO_TRACE or match[2] == _ZERO_SPAN:
            return Trace(f"{self._bits(128) or 1:032x}", span_id, "", "01")
        return Trace(match[1].decode(), span_id, match[2].decode(), match[3].decode())
