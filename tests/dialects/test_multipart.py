"""Forms as real clients write them are read back equal, and no bytes make the reader raise."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import httpx
import httpx2
import pytest
from aiohttp.abc import AbstractStreamWriter
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmtap.dialects.multipart import MAX_PARTS, FormPart, boundary_of, read_form

_TEXT = st.text(st.characters(exclude_characters="%", exclude_categories=["Cs", "Cc"]), max_size=12)
_NAMES = _TEXT.filter(lambda name: bool(name.strip()) and name == name.strip())
_BOUNDARIES = st.from_regex(r"[A-Za-z0-9'()+_,./:=?-]{1,30}", fullmatch=True)
_SCRAPS = st.sampled_from([b"\r\n", b"\n", b"\r", b"--", b"-", b"\r\n--", b"\r\n--B", b"B", b" "])
_VALUES = st.lists(_SCRAPS | st.binary(max_size=9), max_size=8).map(b"".join)
_FILES = st.lists(st.tuples(_NAMES, _NAMES, _VALUES), min_size=1, max_size=4)


class _Kept(AbstractStreamWriter):
    """What aiohttp would have sent."""

    def __init__(self) -> None:
        self.body = b""

    async def write(self, chunk: object) -> None:
        assert isinstance(chunk, bytes | bytearray | memoryview)
        self.body += bytes(chunk)

    async def write_eof(self, chunk: bytes = b"") -> None:
        self.body += chunk

    async def drain(self) -> None: ...

    def enable_compression(self, *_: object, **__: object) -> None: ...

    def enable_chunking(self) -> None: ...

    async def write_headers(self, status_line: str, headers: object) -> None: ...


def _mentions(files: list[tuple[str, str, bytes]], boundary: str) -> bool:
    """Whether a value holds what no form with this boundary may hold."""
    return any(f"--{boundary}".encode() in b"\n" + value for _, _, value in files)


def _expected(files: list[tuple[str, str, bytes]]) -> list[tuple[str, str | None, bytes]]:
    return [(name, filename, value) for name, filename, value in files]


def _got(parts: list[FormPart]) -> list[tuple[str, str | None, bytes]]:
    return [(part.name, part.filename, part.value) for part in parts]


def _check_cuts(body: bytes, boundary: bytes) -> None:
    """A cut form is a beginning of the whole one."""
    whole = read_form(body, boundary)
    for cut in range(len(body)):
        form = read_form(body[:cut], boundary)
        assert len(form.parts) <= len(whole.parts)
        for part, other in zip(form.parts, whole.parts, strict=False):
            assert part[:3] == other[:3]
            assert other.value.startswith(part.value)
        assert form.parts[:-1] == whole.parts[: len(form.parts)][:-1]
        if form.complete:
            assert form == whole


@settings(max_examples=150, deadline=None)
@given(files=_FILES, boundary=_BOUNDARIES, fields=st.dictionaries(_NAMES, _TEXT, max_size=3))
@example(files=[("a", "f", b"\r\n--B")], boundary="B-", fields={})
@example(files=[("a", 'q"\\;=', b"")], boundary="B", fields={"x": ""})
@pytest.mark.parametrize("library", [httpx, httpx2])
def test_httpx_is_read_back(
    library: object,
    files: list[tuple[str, str, bytes]],
    boundary: str,
    fields: dict[str, str],
) -> None:
    texts = [(name, "", value.encode()) for name, value in fields.items()]
    if _mentions(files + texts, boundary):
        return
    header = f'multipart/form-data; boundary="{boundary}"'
    make = httpx.Request if library is httpx else httpx2.Request
    request = make(
        "POST",
        "http://peer/",
        files=[(name, (filename, value)) for name, filename, value in files],
        data=fields,
        headers={"content-type": header},
    )
    body = request.read()
    kind = request.headers["content-type"]
    named = boundary_of(kind, body)
    form = read_form(body, named)
    assert form.complete
    plain = [(name, None, value) for name, _, value in texts]
    assert _got(form.parts) == plain + _expected(files)
    _check_cuts(body, named)


@settings(max_examples=60, deadline=None)
@given(files=_FILES, boundary=_BOUNDARIES)
def test_aiohttp_is_read_back(files: list[tuple[str, str, bytes]], boundary: str) -> None:
    if _mentions(files, boundary):
        return

    async def written() -> tuple[bytes, str]:
        writer = aiohttp.MultipartWriter("form-data", boundary)
        for name, filename, value in files:
            part = writer.append(value)
            part.set_content_disposition("form-data", name=name, filename=filename)
        kept = _Kept()
        await writer.write(kept)
        return kept.body, writer.content_type

    body, kind = asyncio.run(written())
    named = boundary_of(kind, body)
    assert named == boundary.encode()
    form = read_form(body, named)
    assert form.complete
    assert _got(form.parts) == _expected(files)
    assert {part.content_type for part in form.parts} == {"application/octet-stream"}


@settings(max_examples=300)
@given(body=st.lists(_SCRAPS | st.binary(max_size=20), max_size=20).map(b"".join), kind=st.text())
def test_any_bytes_are_a_form(body: bytes, kind: str) -> None:
    boundary_of(kind, body)
    for wire in (body, b"--B\r\n" + body, b"--B\nContent-Disposition: " + body):
        read_form(wire, b"B")
        read_form(wire, boundary_of("", wire) or b"B")


def test_a_form_by_hand() -> None:
    """A preamble, LF alone, padding, no headers, no value, names in quotes or not, an epilogue."""
    body = (
        b'preamble\n--B \n\nbare\n--B\t\nContent-Disposition: form-data; name=a; filename=""\n\n'
        b"--B\nCONTENT-DISPOSITION: form-data;name=\"b\"; filename*=UTF-8''%C3%BC.txt\n"
        b"Content-Type: text/plain\n\n1\r\n2\n--B--\nepilogue\n--B\n\nno"
    )
    form = read_form(body, b"B")
    assert form.complete
    assert form.parts == [
        FormPart("", None, "", b"bare"),
        FormPart("a", "", "", b""),
        FormPart("b", "ü.txt", "text/plain", b"1\r\n2"),
    ]


def test_a_boundary_without_a_header() -> None:
    body = b"--x y\r\ncontent-disposition: form-data; name=a\r\n\r\n1\r\n--x y--"
    assert boundary_of("", body) == boundary_of("Multipart/Form-Data", body) == b"x y"
    assert boundary_of("application/json", body) == b""
    assert boundary_of("", b"--- hello\r\nworld") == b""
    assert read_form(body, b"x y") == ([FormPart("a", None, "", b"1")], True)
    assert read_form(b"", b"B") == ([], False)


def test_a_value_may_hold_what_only_begins_like_a_delimiter() -> None:
    body = b"--B\r\n\r\n\r\n--Bx\r\n--B--"
    assert read_form(body, b"B") == ([FormPart("", None, "", b"\r\n--Bx")], True)


def test_limits() -> None:
    one = b"--B\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n"
    form = read_form(one * (MAX_PARTS + 1) + b"--B--", b"B")
    assert (len(form.parts), form.complete) == (MAX_PARTS, False)
    long = b"--B\r\nX: " + b"x" * 20_000 + b"\r\n\r\n1\r\n--B--"
    assert read_form(long, b"B") == ([], False)


@pytest.mark.parametrize(
    "hostile",
    [b"\r\n--B ", b"\r\n--B" + b" " * 50, b"\r\n--", b'; a="\\', b";" + b" " * 40, b"\r\n--B\r\n;"],
)
def test_no_bytes_are_slow(hostile: bytes) -> None:
    size = 2_000_000
    body = b"--B\r\nContent-Disposition: form-data" + hostile * 200 + b"\r\n\r\n"
    body += hostile * (size // len(hostile))
    started = time.perf_counter()
    read_form(body, b"B")
    assert time.perf_counter() - started < 2
