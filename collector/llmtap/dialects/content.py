"""Removes content coding (gzip, deflate, br, zstd; stacked) from a captured copy of a body.

Incremental per arrival, so that decoded bytes keep their times. Bounded in size and in ratio
against decompression bombs. Total: a problem is a value, beside the prefix that could be decoded.
"""

from __future__ import annotations

import sys
import zlib
from typing import Any, NamedTuple, Protocol

import brotli

from llmtap.dialects.model import Arrivals

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_brotli: Any = brotli
"""It ships no types."""
MAX_BYTES = 64 << 20
MAX_RATIO = 1000
MAX_CODINGS = 4
MAX_MEMBERS = 1000
_RATIO_FROM = 1 << 20
"""Small bodies may compress as well as they like."""
_STEP = 64 << 10
_GZIP_MAGIC = b"\x1f\x8b"


class Decoded(NamedTuple):
    body: bytes
    arrivals: Arrivals
    complete: bool
    """Whether every coding reached its own end; False also for a body that was merely cut."""
    problem: str
    """Empty, or why decoding stopped at this prefix."""


class _Decoder(Protocol):
    """A decoder that hands out bounded pieces. Raises its library's error on bad input."""

    @property
    def ended(self) -> bool: ...

    def feed(self, data: bytes) -> None: ...

    def take(self) -> bytes:
        """The next piece of output; empty when all that was fed is used up."""
        ...


class _Zlib:
    """gzip (members in a row are one body); deflate, with zlib's header or, wrongly, without."""

    def __init__(self, gzip: bool) -> None:
        self._gzip = gzip
        self._engine = zlib.decompressobj(zlib.MAX_WBITS | 16) if gzip else None
        self._input = b""
        self._members = 1

    @property
    def ended(self) -> bool:
        return self._engine is not None and self._engine.eof and not self._input

    def feed(self, data: bytes) -> None:
        self._input += data

    def take(self) -> bytes:
        engine = self._engine = self._engine or self._deflate()
        while engine is not None:
            if engine.eof:
                if not (self._gzip and self._input.startswith(_GZIP_MAGIC)):
                    if self._input != _GZIP_MAGIC[:1]:  # else a next member may be on its way
                        self._input = b""  # padding
                    break
                self._members = _one_more(self._members)
                engine = self._engine = zlib.decompressobj(zlib.MAX_WBITS | 16)
            out = engine.decompress(self._input, _STEP)
            self._input = engine.unused_data or engine.unconsumed_tail
            if out or not (engine.eof and self._input):
                return out
        return b""

    def _deflate(self) -> zlib._Decompress | None:
        """Two bytes tell whether zlib's header is there; None until they came."""
        if len(self._input) < 2:
            return None
        head = int.from_bytes(self._input[:2])
        header = head >> 8 & 15 == 8 and head % 31 == 0
        return zlib.decompressobj(zlib.MAX_WBITS if header else -zlib.MAX_WBITS)


class _Brotli:
    def __init__(self) -> None:
        self._engine = _brotli.Decompressor()
        self._input = b""

    @property
    def ended(self) -> bool:
        return bool(self._engine.is_finished())

    def feed(self, data: bytes) -> None:
        self._input += data

    def take(self) -> bytes:
        if self._engine.is_finished():
            return b""
        # It takes input only after its output was drained.
        data = b""
        if self._engine.can_accept_more_data():
            data, self._input = self._input, b""
        out: bytes = self._engine.process(data, output_buffer_limit=_STEP)
        return out


class _Zstd:
    """Frames in a row are one body."""

    def __init__(self) -> None:
        self._engine = zstd.ZstdDecompressor()
        self._input = b""
        self._frames = 1

    @property
    def ended(self) -> bool:
        return self._engine.eof and not self._input

    def feed(self, data: bytes) -> None:
        self._input += data

    def take(self) -> bytes:
        while True:
            if self._engine.eof:
                if not self._input:
                    return b""
                self._frames = _one_more(self._frames)
                self._engine = zstd.ZstdDecompressor()
            if not self._input and self._engine.needs_input:
                return b""
            out = self._engine.decompress(self._input, max_length=_STEP)
            self._input = self._engine.unused_data if self._engine.eof else b""
            if out or not self._input:
                return out


def _one_more(members: int) -> int:
    """Each member costs a new engine: millions of empty ones would be a bomb too."""
    if members >= MAX_MEMBERS:
        raise ValueError(f"more than {MAX_MEMBERS} members")
    return members + 1


def _decoder(coding: str) -> _Decoder | None:
    match coding:
        case "gzip" | "x-gzip":
            return _Zlib(gzip=True)
        case "deflate":
            return _Zlib(gzip=False)
        case "br":
            return _Brotli()
        case "zstd":
            return _Zstd()
        case _:
            return None


def decode_content(body: bytes, arrivals: Arrivals, encoding: str) -> Decoded:
    """`body` without the codings that `encoding` (a Content-Encoding value) names."""
    named = [c.strip().lower() for c in encoding.split(",")]
    codings = [c for c in reversed(named) if c not in ("", "identity")]
    if len(codings) > MAX_CODINGS:
        return Decoded(b"", Arrivals(), False, f"{len(codings)} content codings on one body")
    complete = True
    for coding in codings:
        decoder = _decoder(coding)
        if decoder is None:
            problem = f"content-encoding {coding[:32]!r} is not known"
            return Decoded(b"", Arrivals(), False, problem)
        body, arrivals, ended, problem = _run(decoder, coding, body, arrivals)
        complete = complete and ended
        if problem:
            return Decoded(body, arrivals, False, problem)
    return Decoded(body, arrivals, complete, "")


def _run(decoder: _Decoder, coding: str, body: bytes, arrivals: Arrivals) -> Decoded:
    limit = min(MAX_BYTES, max(_RATIO_FROM, MAX_RATIO * len(body)))
    pieces: list[bytes] = []
    ends: list[int] = []
    total = start = 0
    problem = ""
    for end in [*arrivals.ends, len(body)]:
        # zlib hands back what it did not use: in slices, so that this stays linear.
        slices = [body[at : min(at + _STEP, end)] for at in range(start, end, _STEP)]
        start = max(start, end)
        try:
            for piece in slices:
                decoder.feed(piece)
                while total <= limit and (out := decoder.take()):
                    pieces.append(out)
                    total += len(out)
        except (zlib.error, _brotli.error, zstd.ZstdError, EOFError, ValueError) as e:
            problem = f"{coding}: {str(e)[:100]}"
        if total > limit:
            problem = f"{coding}: grows beyond {limit} bytes"
        ends.append(total)
        if problem:
            break
    times = list(arrivals.at_us[: len(ends)])
    ended = not problem and decoder.ended  # a broken brotli engine must not be asked
    return Decoded(b"".join(pieces), Arrivals(ends[: len(times)], times), ended, problem)
