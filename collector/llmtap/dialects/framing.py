"""Stream framings over a captured body: Server-Sent Events and newline-delimited JSON.

In: the whole body as far as it came. Out: events with the offset at which each ended, so that its
arrival can be looked up; an incomplete tail is not an event. Linear time.
SSE: WHATWG HTML §9.2.6 — CRLF, LF or CR lines, comments, multi-line data, one leading BOM.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_BOM = b"\xef\xbb\xbf"
_BLANK = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
_LINES = re.compile(rb"\r\n|\n|\r")


class Event(NamedTuple):
    """`end`: offset just past the event. `name` is empty for SSE's default and for NDJSON."""

    end: int
    name: bytes
    data: bytes


def sse(body: bytes) -> tuple[list[Event], Event | None]:
    """(events that carry data, the one at the end that has no blank line yet: cut, or the last)."""
    events: list[Event] = []
    start = len(_BOM) if body.startswith(_BOM) else 0
    if blank := _blank(body):
        for block in body[start:].split(blank)[:-1]:
            start += len(block) + len(blank)
            if block.startswith(b"data: ") and b"\n" not in block:  # nearly all look like this
                events.append(Event(start, b"", block[6:]))
            else:
                _take(events, start, block)
    else:
        while match := _BLANK.search(body, start):
            _take(events, match.end(), body[start : match.start()])
            start = match.end()
    tail: list[Event] = []
    if start < len(body):
        _take(tail, len(body), body[start:])
    return events, tail[0] if tail else None


def _blank(body: bytes) -> bytes:
    """What ends an event where all lines end alike; empty where they do not."""
    returns = body.count(b"\r")
    if not returns:
        return b"\n\n"
    return b"\r\n\r\n" if returns == body.count(b"\n") == body.count(b"\r\n") else b""


def _take(events: list[Event], end: int, block: bytes) -> None:
    """Adds the event that `block` is, if it carries data."""
    name = b""
    data: list[bytes] = []
    for line in _LINES.split(block) if b"\r" in block else block.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    if data:
        events.append(Event(end, name, b"\n".join(data)))


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
