"""Chunked coding removed: against h11 as the writer, at every cut, and on any bytes."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtap.dialects.dechunk import dechunk
from llmtap.dialects.model import Arrivals

_PIECES = st.lists(st.binary(min_size=1, max_size=40), max_size=8)


def written_by_h11(pieces: list[bytes], trailers: list[tuple[str, str]]) -> list[bytes]:
    """The wire bytes of each piece, and of the end."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    server.next_event()
    server.send(h11.Response(status_code=200, headers=[("transfer-encoding", "chunked")]))
    wire = [server.send(h11.Data(data=piece)) or b"" for piece in pieces]
    return [*wire, server.send(h11.EndOfMessage(headers=trailers)) or b""]


@given(pieces=_PIECES, trailer=st.booleans())
def test_what_h11_writes_is_read(pieces: list[bytes], trailer: bool) -> None:
    wire = b"".join(written_by_h11(pieces, [("t", "1")] if trailer else []))
    plain = dechunk(wire)
    assert (plain.body, plain.complete) == (b"".join(pieces), True)
    for cut in range(len(wire)):
        part = dechunk(wire[:cut])
        assert plain.body.startswith(part.body)
        assert not part.complete


@given(pieces=_PIECES, sizes=st.lists(st.integers(1, 30), min_size=1))
def test_arrivals_follow_the_body(pieces: list[bytes], sizes: list[int]) -> None:
    """At every arrival, the body has what the wire prefix holds."""
    wire = b"".join(written_by_h11(pieces, []))
    ends: list[int] = []
    while (at := sum(sizes[i % len(sizes)] for i in range(len(ends) + 1))) < len(wire):
        ends.append(at)
    ends.append(len(wire))
    plain = dechunk(wire)
    mapped = plain.arrivals(Arrivals(ends, range(len(ends))))
    assert list(mapped.ends) == [len(dechunk(wire[:end]).body) for end in ends]
    assert list(mapped.at_us) == list(range(len(ends)))


def test_a_byte_arrives_when_its_wire_byte_did() -> None:
    wire = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    arrivals = dechunk(wire).arrivals(Arrivals([10, 16, len(wire)], [100, 200, 300]))
    assert [arrivals.when(end) for end in (1, 5, 8, 9, 11)] == [100, 100, 200, 300, 300]


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b"", b""),
        (b"hello", b""),
        (b"5\r\nhelloXX0\r\n\r\n", b"hello"),
        (b"5g\r\nhello\r\n0\r\n\r\n", b""),
        (b"-5\r\nhello\r\n0\r\n\r\n", b""),
        (b"2\r\nhi\r\nzz\r\n", b"hi"),
        (b"fffffffffffffff\r\nhi", b"hi"),
        (b"ffffffffffffffffffffff\r\nhi", b""),
        (b"2\nhi\n0\n\n", b""),
    ],
)
def test_garbage_is_incomplete(raw: bytes, body: bytes) -> None:
    plain = dechunk(raw)
    assert (plain.body, plain.complete) == (body, False)


def test_extensions_and_blanks_behind_the_size() -> None:
    plain = dechunk(b'2 \r\nhi\r\n1;a=b;c="d"\r\n!\r\n0;last\r\n\r\n')
    assert (plain.body, plain.complete) == (b"hi!", True)


@given(st.binary(max_size=300))
def test_any_bytes_are_survived(raw: bytes) -> None:
    plain = dechunk(raw)
    assert len(plain.body) <= len(raw)
    assert plain.body_offset(len(raw)) <= len(plain.body)
