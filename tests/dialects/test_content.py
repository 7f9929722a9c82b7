"""Content codings removed: round trips at any arrival, prefixes of cut bodies, capped bombs."""

from __future__ import annotations

import gzip
import random
import sys
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtap.dialects.content import MAX_BYTES, MAX_MEMBERS, decode_content
from llmtap.dialects.model import Arrivals

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_brotli: Any = brotli


def raw_deflate(body: bytes) -> bytes:
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return engine.compress(body) + engine.flush()


def br(body: bytes) -> bytes:
    return bytes(_brotli.compress(body, quality=4))


CODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": (" X-GZIP ", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "br": ("br", br),
    "zstd": ("zstd", zstd.compress),
    "identity": ("identity", bytes),
    "none": ("", bytes),
    "stacked": ("gzip, br", lambda body: br(gzip.compress(body))),
}
each_coding = pytest.mark.parametrize("name", CODINGS)


def pieces_of(size: int, step: int) -> Arrivals:
    ends = [*range(step, size, step), size]
    return Arrivals(ends, range(len(ends)))


@each_coding
@pytest.mark.parametrize("size", [0, 1, 1000, 65536, 65537, 200_001])
@pytest.mark.parametrize("random_bytes", [False, True])
def test_round_trip(name: str, size: int, random_bytes: bool) -> None:
    header, encode = CODINGS[name]
    body = random.Random(size).randbytes(size) if random_bytes else bytes(size)
    coded = encode(body)
    steps = [1000, len(coded) + 1] if len(coded) > 3000 else [1, 7, len(coded) + 1]
    for step in steps:
        decoded = decode_content(coded, pieces_of(len(coded), step), header)
        assert decoded.body == body
        assert (decoded.complete, decoded.problem) == (True, "")


@pytest.mark.parametrize("name", ["gzip", "deflate", "raw deflate", "br", "zstd", "stacked"])
def test_every_cut_gives_a_prefix_and_says_so(name: str) -> None:
    header, encode = CODINGS[name]
    body = b"The quick brown fox. " * 20
    coded = encode(body)
    for cut in range(len(coded)):
        decoded = decode_content(coded[:cut], Arrivals(), header)
        assert body.startswith(decoded.body)
        assert (decoded.complete, decoded.problem) == (False, "")


@pytest.mark.parametrize("flush", [zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH], ids=["sync", "full"])
def test_flushed_pieces_keep_their_times(flush: int) -> None:
    """A server that flushes after each event: each event's bytes arrive with its own piece."""
    engine = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    events = [b"data: %d\n\n" % i for i in range(20)]
    coded, ends = b"", list[int]()
    for event in events:
        coded += engine.compress(event) + engine.flush(flush)
        ends.append(len(coded))
    coded += engine.flush()
    decoded = decode_content(coded, Arrivals(ends, [i * 10 for i in range(20)]), "gzip")
    at = 0
    for i, event in enumerate(events):
        at += len(event)
        assert decoded.arrivals.when(at) == i * 10


@pytest.mark.parametrize(("header", "encode"), [("gzip", gzip.compress), ("zstd", zstd.compress)])
@pytest.mark.parametrize("step", [1, 5, 1000])
def test_members_in_a_row_are_one_body(
    header: str, encode: Callable[[bytes], bytes], step: int
) -> None:
    coded = encode(b"one ") + encode(b"") + encode(b"two")
    decoded = decode_content(coded, pieces_of(len(coded), step), header)
    assert (decoded.body, decoded.complete, decoded.problem) == (b"one two", True, "")


@pytest.mark.parametrize(("header", "encode"), [("gzip", gzip.compress), ("zstd", zstd.compress)])
def test_members_are_counted(header: str, encode: Callable[[bytes], bytes]) -> None:
    decoded = decode_content(encode(b"") * (MAX_MEMBERS + 1), Arrivals(), header)
    assert decoded.problem == f"{header}: more than {MAX_MEMBERS} members"


def test_padding_behind_gzip_is_ignored() -> None:
    decoded = decode_content(gzip.compress(b"x") + bytes(9), Arrivals(), "gzip")
    assert (decoded.body, decoded.complete, decoded.problem) == (b"x", True, "")


def test_what_came_before_the_damage_is_kept() -> None:
    coded = bytearray(gzip.compress(random.Random(1).randbytes(200_000)))
    coded[150_000:150_100] = bytes(100)
    decoded = decode_content(bytes(coded), Arrivals(), "gzip")
    assert decoded.body and not decoded.complete


@pytest.mark.parametrize("name", ["gzip", "deflate", "raw deflate", "br", "zstd"])
def test_bombs_are_capped(name: str) -> None:
    header, encode = CODINGS[name]
    decoded = decode_content(encode(bytes(MAX_BYTES + (2 << 20))), Arrivals(), header)
    assert "grows beyond" in decoded.problem and not decoded.complete
    assert len(decoded.body) <= MAX_BYTES + (1 << 20)


def test_bombs_in_bombs_and_endless_stacks() -> None:
    nested = gzip.compress(gzip.compress(bytes(32 << 20)))
    assert "grows beyond" in decode_content(nested, Arrivals(), "gzip, gzip").problem
    assert "codings" in decode_content(b"x", Arrivals(), ", ".join(["gzip"] * 50)).problem


def test_unknown_coding_is_a_problem() -> None:
    decoded = decode_content(b"x", Arrivals(), "gzip, snappy")
    assert decoded.body == b"" and "snappy" in decoded.problem


@given(
    body=st.binary(max_size=200),
    coding=st.sampled_from(["gzip", "deflate", "br", "zstd", "deflate, gzip", "zstd,br"]),
    step=st.integers(1, 50),
)
def test_any_bytes_are_survived(body: bytes, coding: str, step: int) -> None:
    arrivals = pieces_of(len(body), step)
    decoded = decode_content(body, arrivals, coding)
    ends = list(decoded.arrivals.ends)
    assert ends == sorted(ends) and len(ends) == len(decoded.arrivals.at_us)
    assert ends[-1:] <= [len(decoded.body)]
