"""Body framing (RFC 9112 §6-7): finds where a body ends in the raw bytes, without changing them.

`feed(data, pos)` returns the index just past the body's last byte in `data`, or -1 when all of
`data[pos:]` belongs to the body and more is to come. Raises `BadMessage` on broken chunking.
Linear in time; memory is at most one line.
"""

from __future__ import annotations

import re
from typing import Protocol

from llmtap.proxy.wire.head import BadMessage

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")
_MAX_LINE = 16 << 10


class Body(Protocol):
    """How much of the bytes that follow a head is its body."""

    def feed(self, data: bytes, pos: int) -> int: ...


class Empty:
    """No body at all."""

    __slots__ = ()

    def feed(self, data: bytes, pos: int) -> int:
        return pos


class Length:
    """Exactly `left` bytes."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def feed(self, data: bytes, pos: int) -> int:
        have = len(data) - pos
        if have < self.left:
            self.left -= have
            return -1
        end = pos + self.left
        self.left = 0
        return end


class UntilClose:
    """Everything until the connection ends; also both directions of a tunnel."""

    __slots__ = ()

    def feed(self, data: bytes, pos: int) -> int:
        return -1


class Chunked:
    """Chunked transfer coding with extensions and trailers.

    When `payload` is a list, the decoded pieces are appended to it (for HTTP/1.0 clients).
    """

    __slots__ = ("_left", "_line", "_size", "_state", "payload")

    def __init__(self, payload: list[bytes] | None = None) -> None:
        self.payload = payload
        self._left = 0
        self._line = b""
        self._size = 0
        self._state = 0  # 0 size line, 1 data, 2 CRLF after data, 3 trailers

    def feed(self, data: bytes, pos: int) -> int:
        size = len(data)
        if self._state == 0 and not self._line:
            pos = self._whole_chunks(data, pos, size)
        while pos < size:
            state = self._state
            if state == 1:
                end = pos + self._left
                if end > size:
                    self._left = end - size
                    self._keep(data, pos, size)
                    return -1
                self._keep(data, pos, end)
                pos = end
                self._state = 2
            elif state == 0 and not self._line and (m := _SIZE_LINE.match(data, pos)):
                pos = m.end()
                self._begin_chunk(m)
            elif state == 2 and data.startswith(b"\r\n", pos) and not self._line:
                pos += 2
                self._state = 0
            else:
                pos = self._slow_line(data, pos)
                if self._state == 4:
                    return pos
        return -1

    def _whole_chunks(self, data: bytes, pos: int, size: int) -> int:
        """Steps over chunks that lie in `data` whole: what an event stream mostly is."""
        payload = self.payload
        while match := _SIZE_LINE.match(data, pos):
            start = match.end()
            end = start + int(match[1], 16)
            if end == start or end + 2 > size or data[end : end + 2] != b"\r\n":
                return pos
            if payload is not None:
                payload.append(data[start:end])
            pos = end + 2
        return pos

    def _keep(self, data: bytes, start: int, end: int) -> None:
        if self.payload is not None and end > start:
            self.payload.append(data[start:end])

    def _begin_chunk(self, match: re.Match[bytes]) -> None:
        self._left = int(match[1], 16)
        self._state = 1 if self._left else 3
        self._size = 0

    def _slow_line(self, data: bytes, pos: int) -> int:
        """Reads up to the next LF of a line that may straddle reads; returns the new position."""
        nl = data.find(b"\n", pos)
        end = len(data) if nl < 0 else nl + 1
        self._line += data[pos:end]
        self._size += end - pos
        if self._size > _MAX_LINE:
            raise BadMessage(400, "bad_chunk", "a chunk line or the trailers are too long")
        if nl >= 0:
            line, self._line = self._line, b""
            self._take_line(line)
        return end

    def _take_line(self, line: bytes) -> None:
        if self._state == 0:
            match = _SIZE_LINE.fullmatch(line)
            if match is None:
                raise BadMessage(400, "bad_chunk", "a chunk size is not valid")
            self._begin_chunk(match)
        elif self._state == 2:
            if line != b"\r\n":
                raise BadMessage(400, "bad_chunk", "a chunk does not end where its size says")
            self._state = 0
        elif line == b"\r\n":
            self._state = 4
        elif not (line.endswith(b"\r\n") and _TRAILER.fullmatch(line[:-2])):
            raise BadMessage(400, "bad_chunk", "a trailer field is not valid")
