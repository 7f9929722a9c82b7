"""Stream framings over a captured body: Server-Sent Events and newline-delimited JSON.

In: the whole body as far as it came. Out: events with the offset at which each ended, so that its
arrival can be looked up; an incomplete tail is not an event. Linear time.
SSE: WHATWG HTML §9.2.6 — CRLF, LF or CR lines, comments, multi-line data, one leading BOM.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_BOM = b"\xef\xbb\xbf"
_BLANK = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n|\r\n\n|\r\n\r(?!\n)")
_LINES = re.compile(rb"\r\n|\n|\r")


class Event(NamedTuple):
    """`end`: offset just past the event. `name` is empty for SSE's default and for NDJSON."""

    end: int
    name: bytes
    data: bytes


def sse(body: bytes) -> tuple[list[Event], bool]:
    """(events that carry data, whether the body ended between events)."""
    events: list[Event] = []
    start = len(_BOM) if body.startswith(_BOM) else 0
    simple = b"\r" not in body
    size = len(body)
    while start < size:
        if simple:
            at = body.find(b"\n\n", start)
            if at < 0:
                break
            end = at + 2
        else:
            match = _BLANK.search(body, start)
            if match is None:
                break
            at, end = match.span()
        block = body[start:at]
        if block.startswith(b"data: ") and b"\n" not in block and b"\r" not in block:
            events.append(Event(end, b"", block[6:]))
        else:
            name, data = _fields(block)
            if data is not None:
                events.append(Event(end, name, data))
        start = end
    return events, not body[start:].strip()


def _fields(block: bytes) -> tuple[bytes, bytes | None]:
    name = b""
    data: list[bytes] = []
    for line in _LINES.split(block):
        field, colon, value = line.partition(b":")
        if not colon and field not in (b"data", b"event"):
            continue
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return name, b"\n".join(data) if data else None


def ndjson(body: bytes) -> tuple[list[Event], bool]:
    """(non-empty lines, whether the body ended after a whole line)."""
    events: list[Event] = []
    start = 0
    while (at := body.find(b"\n", start)) >= 0:
        line = body[start:at].strip()
        if line:
            events.append(Event(at + 1, b"", line))
        start = at + 1
    return events, not body[start:].strip()
