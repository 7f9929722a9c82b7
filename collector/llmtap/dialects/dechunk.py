"""Removes chunked transfer coding (RFC 9112 §7.1) from captured wire bytes.

Total: whatever the bytes, the result is what was understood, and whether that was all. Offsets are
kept, so that arrival times of wire bytes become arrival times of body bytes.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field

from llmtap.dialects.model import Arrivals

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")


@dataclass(slots=True)
class Dechunked:
    """`starts[i]`, `body_starts[i]`: where piece i lies in the wire bytes and in the body."""

    body: bytes = b""
    complete: bool = False
    starts: list[int] = field(default_factory=list[int])
    body_starts: list[int] = field(default_factory=list[int])

    def body_offset(self, wire_offset: int) -> int:
        """How much of the body had arrived when `wire_offset` bytes of the wire had."""
        i = bisect_right(self.starts, wire_offset) - 1
        if i < 0:
            return 0
        inside = self.body_starts[i] + wire_offset - self.starts[i]
        limit = self.body_starts[i + 1] if i + 1 < len(self.body_starts) else len(self.body)
        return min(inside, limit)

    def arrivals(self, wire: Arrivals) -> Arrivals:
        """The same arrivals, over the body instead of the wire bytes."""
        return Arrivals([self.body_offset(end) for end in wire.ends], wire.at_us)


def dechunk(raw: bytes) -> Dechunked:
    """The body inside `raw`."""
    out = Dechunked()
    pieces: list[bytes] = []
    pos = length = 0
    while match := _SIZE_LINE.match(raw, pos):
        size = int(match[1], 16)
        pos = match.end()
        if size == 0:
            end = (
                raw.find(b"\r\n", pos)
                if raw.startswith(b"\r\n", pos)
                else raw.find(b"\r\n\r\n", pos)
            )
            out.complete = end >= 0
            break
        piece = raw[pos : pos + size]
        out.starts.append(pos)
        out.body_starts.append(length)
        pieces.append(piece)
        length += len(piece)
        pos += size + 2
        if len(piece) < size or raw[pos - 2 : pos] != b"\r\n":
            break
    out.body = b"".join(pieces)
    return out
