"""multipart/form-data: the parts of a request's form, as far as they came.

In: the body and its content-type. Out: parts in wire order, values as bytes. Never raises; linear.
Source: RFC 7578, RFC 2046 §5.1, HTML (percent-encoded names). The boundary is also found without a
header; lines that end in LF alone are read too. A cut value lacks what may be the next delimiter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote

MAX_PARTS = 256
MAX_HEADER = 16 * 1024
_KIND = "multipart/form-data"
_MAX_BOUNDARY = 200
_SNIFFED = re.compile(rb"--([^\r\n]{1,200})(?:\r\n|\n)content-", re.IGNORECASE)
_PARAMETER = re.compile(
    r';\s*+([^=;\s"]++)\s*+=\s*+(?:"((?:[^"\\]|\\.)*+)"?|([^;\s]*+))', re.DOTALL
)
_ESCAPED = re.compile(r'\\(["\\ \t])')
_AFTER = re.compile(rb"[ \t]*+(\r\n|\n)")
_MAYBE_AFTER = re.compile(rb"(?:-|[ \t]*+\r?)\Z")


class FormPart(NamedTuple):
    """One field. `filename` is None where the part names none: it is no file then."""

    name: str
    filename: str | None
    content_type: str
    value: bytes


class Form(NamedTuple):
    """`complete`: the closing delimiter was seen."""

    parts: list[FormPart]
    complete: bool


def boundary_of(content_type: str, body: bytes) -> bytes:
    """The boundary, by the header, else by the body's own first line; empty when it is no form."""
    kind, _, _ = content_type.partition(";")
    if kind.strip().lower() == _KIND:
        named = _parameters(content_type).get("boundary", "")
        if 0 < len(named) <= _MAX_BOUNDARY:
            return named.encode("utf-8", "replace")
    elif content_type:
        return b""
    sniffed = _SNIFFED.match(body)
    return sniffed[1].rstrip() if sniffed else b""


def read_form(body: bytes, boundary: bytes) -> Form:
    """The parts of `body`, at most `MAX_PARTS`."""
    delimiter = b"--" + boundary
    if body.startswith(delimiter):
        at: int = len(delimiter)
    else:  # a preamble, which says nothing
        found = body.find(b"\n" + delimiter)
        if found < 0:
            return Form([], False)
        at = found + 1 + len(delimiter)
    line = _AFTER.match(body, at)
    newline = line[1] if line else b"\r\n"
    parts: list[FormPart] = []
    while not body.startswith(b"--", at):
        line = _AFTER.match(body, at)
        if not line or len(parts) == MAX_PARTS:
            return Form(parts, False)
        head = line.start(1)
        blank = body.find(newline * 2, head, head + MAX_HEADER)
        if blank < 0:
            return Form(parts, False)
        start = blank + 2 * len(newline)
        end, at = _end(body, start, newline, newline + delimiter)
        parts.append(_part(body[head:blank], body[start:end]))
        if not at:
            return Form(parts, False)
    return Form(parts, True)


def _end(body: bytes, start: int, newline: bytes, delimiter: bytes) -> tuple[int, int]:
    """(where the value that begins at `start` ends, where its delimiter does; 0: cut before)."""
    found = body.find(delimiter, start)
    if body.startswith(delimiter[len(newline) :], start):
        after = start + len(delimiter) - len(newline)
        if _is_delimiter(body, after):  # no value at all, not even the line end before the next
            return start, after
    while found >= 0:
        after = found + len(delimiter)
        if _is_delimiter(body, after):
            return found, after
        if _MAYBE_AFTER.match(body, after):
            return found, 0
        found = body.find(delimiter, found + 1)
    for size in range(min(len(delimiter), len(body) - start), 0, -1):
        if body.endswith(delimiter[:size]):
            return len(body) - size, 0
    return len(body), 0


def _is_delimiter(body: bytes, after: int) -> bool:
    return body.startswith(b"--", after) or _AFTER.match(body, after) is not None


def _part(head: bytes, value: bytes) -> FormPart:
    name, filename, content_type = "", None, ""
    for key, said in _headers(head):
        if key == "content-disposition":
            given = _parameters(said)
            name = given.get("name", "")
            filename = given.get("filename")
        elif key == "content-type":
            content_type = said
    return FormPart(name, filename, content_type, value)


def _headers(head: bytes) -> Iterator[tuple[str, str]]:
    for line in head.decode("utf-8", "replace").split("\n"):
        key, _, said = line.partition(":")
        yield key.strip().lower(), said.strip()


def _parameters(header: str) -> dict[str, str]:
    """A header's `; name=value` parameters. `name*` (RFC 8187) is stronger than `name`."""
    plain: dict[str, str] = {}
    extended: dict[str, str] = {}
    for match in _PARAMETER.finditer(header):
        key, quoted, token = match.groups()
        value = token if quoted is None else _ESCAPED.sub(r"\1", quoted)
        if key.endswith("*"):
            extended[key[:-1].lower()] = unquote(value.rpartition("''")[2])
        elif key.lower() in ("name", "filename"):
            plain.setdefault(key.lower(), unquote(value))
        else:
            plain.setdefault(key.lower(), value)
    return plain | extended
