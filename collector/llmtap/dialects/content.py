"""Removes content coding (gzip, deflate, br, zstd; stacked) from a captured copy of a body.

Incremental per arrival, so that decoded bytes keep their times. Bounded in size and in ratio
against decompression bombs. Total: a problem is a value, beside the prefix that could be decoded.
"""

from __future__ import annotations

import sys
import zlib
from typing import NamedTuple, Protocol

import brotli

from llmtap.dialects.model import Arrivals

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_BYTES = 64 << 20
MAX_RATIO = 1000
_RATIO_FROM = 1 << 20
"""Small bodies may compress as well as they like."""
_STEP = 64 << 10


class Decoded(NamedTuple):
    body: bytes
    arrivals: Arrivals
    problem: str
    """Empty, or why the body is only a prefix."""


class _Decoder(Protocol):
    def decode(self, data: bytes, limit: int) -> bytes: ...


class _Zlib:
    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._engine = zlib.decompressobj(wbits)
        self._fresh = True

    def decode(self, data: bytes, limit: int) -> bytes:
        if not data:
            return b""
        try:
            out = self._engine.decompress(data, limit)
        except zlib.error:
            if not (self._fresh and self._wbits == zlib.MAX_WBITS):
                raise
            self._engine = zlib.decompressobj(-zlib.MAX_WBITS)  # "deflate" without zlib's header
            out = self._engine.decompress(data, limit)
        self._fresh = False
        return out


class _Brotli:
    def __init__(self) -> None:
        self._engine = brotli.Decompressor()

    def decode(self, data: bytes, limit: int) -> bytes:
        out: bytes = self._engine.process(data, output_buffer_limit=limit)
        return out


class _Zstd:
    def __init__(self) -> None:
        self._engine = zstd.ZstdDecompressor()

    def decode(self, data: bytes, limit: int) -> bytes:
        if self._engine.eof:
            return b""
        return self._engine.decompress(data, max_length=limit)


def _decoder(coding: str) -> _Decoder | None:
    match coding:
        case "gzip" | "x-gzip":
            return _Zlib(zlib.MAX_WBITS | 16)
        case "deflate":
            return _Zlib(zlib.MAX_WBITS)
        case "br":
            return _Brotli()
        case "zstd":
            return _Zstd()
        case _:
            return None


def decode_content(body: bytes, arrivals: Arrivals, encoding: str) -> Decoded:
    """`body` without the codings that `encoding` (a Content-Encoding value) names."""
    for coding in reversed([c.strip().lower() for c in encoding.split(",")]):
        if coding in ("", "identity"):
            continue
        decoder = _decoder(coding)
        if decoder is None:
            return Decoded(b"", Arrivals(), f"content-encoding {coding[:32]!r} is not known")
        body, arrivals, problem = _run(decoder, coding, body, arrivals)
        if problem:
            return Decoded(body, arrivals, problem)
    return Decoded(body, arrivals, "")


def _run(decoder: _Decoder, coding: str, body: bytes, arrivals: Arrivals) -> Decoded:
    limit = min(MAX_BYTES, max(_RATIO_FROM, MAX_RATIO * len(body)))
    pieces: list[bytes] = []
    ends: list[int] = []
    total = start = 0
    problem = ""
    for end in [*arrivals.ends, len(body)]:
        piece = body[start:end]
        start = max(start, end)
        try:
            # An empty input drains what a limited call left inside the engine.
            while total <= limit:
                out = decoder.decode(piece, _STEP)
                piece = _left_over(decoder)
                pieces.append(out)
                total += len(out)
                if len(out) < _STEP and not piece:
                    break
        except (zlib.error, brotli.error, zstd.ZstdError, EOFError, ValueError) as e:
            problem = f"{coding}: {str(e)[:100]}"
        if total > limit:
            problem = f"{coding}: grows beyond {limit} bytes"
        ends.append(total)
        if problem:
            break
    times = list(arrivals.at_us[: len(ends)])
    return Decoded(b"".join(pieces), Arrivals(ends[: len(times)], times), problem)


def _left_over(decoder: _Decoder) -> bytes:
    if isinstance(decoder, _Zlib):
        tail: bytes = decoder._engine.unconsumed_tail  # pyright: ignore[reportPrivateUsage]
        return tail
    return b""
