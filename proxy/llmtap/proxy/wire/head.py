"""Reads HTTP/1.x heads: bytes of one whole head in, a parsed head out, or `BadMessage`.

llhttp (through httptools) does the grammar, strictly; what RFC 9110/9112 leave to a proxy is
checked on top: one Host, one plain `chunked`, origin-form targets, sizes. Pure; no state between
heads.
"""

from __future__ import annotations

import re

import httptools

HEAD_END = b"\r\n\r\n"
_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_BARE_LF = re.compile(rb"(?<!\r)\n")

Header = tuple[bytes, bytes]


class BadMessage(ValueError):
    """The peer broke HTTP. `status` is what to answer a client with; `reason` is a short token."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class RequestHead:
    """One request head. `headers` as received; framing facts beside them."""

    __slots__ = (
        "chunked",
        "content_length",
        "expect_continue",
        "headers",
        "keep_alive",
        "method",
        "target",
        "upgrade",
        "version_1_1",
    )

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.headers: list[Header] = []
        self.version_1_1 = True
        self.keep_alive = True
        self.upgrade = False
        self.chunked = False
        self.content_length = 0
        self.expect_continue = False

    # httptools callbacks
    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))


class ResponseHead:
    """One response head. `reason` is the status line's text."""

    __slots__ = ("chunked", "content_length", "headers", "keep_alive", "reason", "status")

    def __init__(self) -> None:
        self.status = 0
        self.reason = b""
        self.headers: list[Header] = []
        self.keep_alive = True
        self.chunked = False
        self.content_length = -1

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))


def find_head(data: bytes, limit: int) -> int:
    """Index just past the head in `data`, or 0 when it is not complete. Raises BadMessage."""
    end = data.find(HEAD_END)
    if 0 <= end <= limit - 4:
        return end + 4
    if end >= 0 or len(data) > limit:
        raise BadMessage(431, "head_too_large", f"the request head is larger than {limit} bytes")
    if _BARE_LF.search(data):
        raise BadMessage(400, "bad_request", "a line of the head ends with LF instead of CRLF")
    return 0


def parse_request(head: bytes, max_headers: int) -> RequestHead:
    """Parses one whole request head (through its empty line). Raises BadMessage."""
    out = RequestHead()
    parser = httptools.HttpRequestParser(out)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        out.upgrade = True
    except httptools.HttpParserError as e:
        raise BadMessage(400, "bad_request", f"not valid HTTP: {e}") from e
    version = parser.get_http_version()
    if version not in ("1.1", "1.0"):
        raise BadMessage(505, "http_version", f"HTTP/{version} is not spoken here; use HTTP/1.1")
    out.method = parser.get_method()
    out.version_1_1 = version == "1.1"
    out.keep_alive = out.version_1_1
    if len(out.headers) > max_headers:
        raise BadMessage(431, "too_many_headers", f"more than {max_headers} header fields")
    _frame_request(out)
    if out.method == b"CONNECT" or not out.target.startswith(b"/"):
        raise BadMessage(400, "bad_target", "the target must be a path such as /openai/v1/…")
    return out


def _frame_request(out: RequestHead) -> None:
    hosts = 0
    for name, value in out.headers:
        size = len(name)
        if size == 4 and name.lower() == b"host":
            hosts += 1
            if not _HOST.fullmatch(value):
                raise BadMessage(400, "bad_host", "the Host header is not a host name")
        elif size == 14 and name.lower() == b"content-length":
            if not value.isdigit():
                raise BadMessage(400, "bad_request", "Content-Length is not a number")
            out.content_length = int(value)
        elif size == 17 and name.lower() == b"transfer-encoding":
            if out.chunked or value.lower() != b"chunked" or not out.version_1_1:
                raise BadMessage(400, "bad_request", "Transfer-Encoding may only be one `chunked`")
            out.chunked = True
        elif size == 10 and name.lower() == b"connection":
            out.keep_alive = _keeps_alive(value, out.keep_alive)
        elif size == 6 and name.lower() == b"expect":
            out.expect_continue = value.lower() == b"100-continue"
    if hosts != 1 and (hosts or out.version_1_1):
        raise BadMessage(400, "bad_host", "exactly one Host header is needed")


def _keeps_alive(connection: bytes, otherwise: bool) -> bool:
    """RFC 9112 §9.3. (llhttp forgets its own answer once a message without body is complete.)"""
    tokens = [token.strip() for token in connection.lower().split(b",")]
    if b"close" in tokens:
        return False
    return otherwise or b"keep-alive" in tokens


def parse_response(head: bytes) -> ResponseHead:
    """Parses one whole response head. Raises BadMessage (status 502)."""
    out = ResponseHead()
    parser = httptools.HttpResponseParser(out)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # 101: the caller looks at the status
    except httptools.HttpParserError as e:
        raise BadMessage(502, "upstream_bad_response", f"upstream sent no valid HTTP: {e}") from e
    out.status = parser.get_status_code()
    version = parser.get_http_version()
    if not 100 <= out.status <= 999 or version not in ("1.1", "1.0"):
        raise BadMessage(
            502, "upstream_bad_response", "upstream sent no valid HTTP/1.x status line"
        )
    out.keep_alive = version == "1.1"
    for name, value in out.headers:
        size = len(name)
        if size == 14 and name.lower() == b"content-length":
            if not value.isdigit():
                raise BadMessage(502, "upstream_bad_response", "upstream sent a bad Content-Length")
            out.content_length = int(value)
        elif size == 17 and name.lower() == b"transfer-encoding":
            out.chunked = value.lower().rsplit(b",", 1)[-1].strip() == b"chunked"
        elif size == 10 and name.lower() == b"connection":
            out.keep_alive = _keeps_alive(value, out.keep_alive)
    return out
