"""Asks for usage in streams that would tell none, and hides the answer from the app again.

OpenAI-compatible servers put usage into a stream only when `stream_options.include_usage` is set;
then one more event comes, with `choices: []`. Where the client left the option open, it is put into
the request (one insertion, no other byte changes) and that event is taken out of the response.
Source: OpenAI API reference, chat completions, `stream_options`.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from llmtap.proxy.routes import Route
from llmtap.proxy.wire.head import RequestHead, ResponseHead

MAX_BODY = 1 << 20
"""Larger requests are not held for it."""

_PATHS = ("/chat/completions", "/completions")
_OPTION = b'"stream_options":{"include_usage":true},'
_LENGTH = re.compile(rb"(?i)\r\ncontent-length:[^\r\n]*")
_EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')


def is_candidate(route: Route, head: RequestHead, path: str) -> bool:
    """Whether the request's body is worth holding until it is whole."""
    if not route.injects or head.method != b"POST" or head.expect_continue or head.chunked:
        return False
    if not 0 < head.content_length <= MAX_BODY:
        return False
    if not path.partition("?")[0].endswith(_PATHS):
        return False
    return not any(name.lower() == b"content-encoding" for name, _ in head.headers)


def inject(head: bytes, body: bytes) -> bytes | None:
    """Head and body with the option set; None where there is nothing to do."""
    if b'"stream"' not in body or b'"stream_options"' in body:
        return None
    try:
        request: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(request, dict) or request.get("stream") is not True:
        return None
    at = body.index(b"{") + 1
    changed = b"%b%b%b" % (body[:at], _OPTION, body[at:])
    return _LENGTH.sub(b"\r\nContent-Length: %d" % len(changed), head, count=1) + changed


def can_strip(head: ResponseHead) -> bool:
    """Whether the response is an event stream in the clear."""
    kind = b""
    for name, value in head.headers:
        key = name.lower()
        if key == b"content-encoding" and value.lower() != b"identity":
            return False
        if key == b"content-type":
            kind = value.lower()
    return head.status == 200 and kind.startswith(b"text/event-stream")


class UsageStripper:
    """Passes an event stream on, but for the event that only tells usage.

    Whole events go on at once; the beginning of one waits for its end. Linear in time.
    """

    __slots__ = ("_looked_at", "_tail")

    def __init__(self) -> None:
        self._tail = b""
        self._looked_at = 0

    def feed(self, piece: bytes) -> bytes:
        """What may go on of `piece` and of what waited."""
        data = self._tail + piece if self._tail else piece
        begin = 0
        kept: list[bytes] = []
        for end in _EVENT_END.finditer(data, max(0, self._looked_at - 3)):
            event = data[begin : end.end()]
            if not _tells_usage_only(event):
                kept.append(event)
            begin = end.end()
        self._tail = data[begin:]
        self._looked_at = len(self._tail)
        return kept[0] if len(kept) == 1 else b"".join(kept)

    def end(self) -> bytes:
        """What still waits when the stream is over."""
        tail, self._tail = self._tail, b""
        return tail


def _tells_usage_only(event: bytes) -> bool:
    if b'"usage"' not in event or not _NO_CHOICES.search(event):
        return False
    lines = [line[5:] for line in event.splitlines() if line.startswith(b"data:")]
    try:
        told: Any = orjson.loads(b"\n".join(lines))
    except orjson.JSONDecodeError:
        return False
    if not isinstance(told, dict):
        return False
    return told.get("choices") == [] and isinstance(told.get("usage"), dict)
