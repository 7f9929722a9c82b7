"""ClickHouse's Native format, as far as telling where each column of a block ends.

The embedded engine writes Native blocks of protocol revision 0. Clients that name a newer revision
(`client_protocol_version`; clickhouse-go, so Grafana, does) read two things more: eight bytes of
block information before a block, and a byte "custom serialization: no" behind each column's type.
Values are skipped over, never decoded. Source: ClickHouse `NativeWriter.cpp`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

REVISION_WITH_CUSTOM_SERIALIZATION = 54454
_BLOCK_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"
_WIDTHS = {
    **{f"{sign}Int{bits}": bits // 8 for sign in ("", "U") for bits in (8, 16, 32, 64, 128, 256)},
    "Float32": 4,
    "Float64": 8,
    "BFloat16": 2,
    "Bool": 1,
    "Nothing": 1,
    "UUID": 16,
    "Date": 2,
    "Date32": 4,
    "DateTime": 4,
    "DateTime64": 8,
    "Time": 4,
    "Time64": 8,
    "IPv4": 4,
    "IPv6": 16,
    "Enum8": 1,
    "Enum16": 2,
    "Decimal32": 4,
    "Decimal64": 8,
    "Decimal128": 16,
    "Decimal256": 32,
}
_ALIASES = {
    "Point": "Tuple(Float64, Float64)",
    "Ring": "Array(Point)",
    "LineString": "Array(Point)",
    "MultiLineString": "Array(LineString)",
    "Polygon": "Array(Ring)",
    "MultiPolygon": "Array(Polygon)",
}
_TYPE = re.compile(r"(\w+)(?:\((.*)\))?", re.DOTALL)
_FIELD_NAME = re.compile(r"(?:`(?:[^`\\]|\\.)*`|\w+) (?=\w)")


class NativeError(ValueError):
    """A type whose length is not known here, or bytes that are not Native."""


class _Kind(NamedTuple):
    name: str
    width: int
    parts: tuple[_Kind, ...]


def with_revision(data: bytes, revision: int) -> bytes:
    """Blocks of revision 0 as blocks of `revision`. Raises NativeError."""
    if revision < REVISION_WITH_CUSTOM_SERIALIZATION:
        return data
    out: list[bytes] = []
    at = 0
    try:
        while at < len(data):
            out.append(_BLOCK_INFO)
            begun = at
            columns, at = _varint(data, at)
            rows, at = _varint(data, at)
            for _ in range(columns):
                _, at = _string(data, at)
                name, at = _string(data, at)
                out += (data[begun:at], b"\x00")
                begun = at
                if rows:
                    kind = _kind(name.decode())
                    at = _skip(kind, data, _skip_prefix(kind, at), rows)
            out.append(data[begun:at])
    except IndexError:
        raise NativeError("the result is not in the Native format") from None
    if at != len(data):
        raise NativeError("the result is not in the Native format")
    return b"".join(out)


def header(columns: Iterable[tuple[str, str]]) -> bytes:
    """A block of revision 0 with names and types and no rows (chDB writes nothing then)."""
    pairs = list(columns)
    out = bytearray(_from_int(len(pairs)) + b"\x00")
    for pair in pairs:
        for text in pair:
            raw = text.encode()
            out += _from_int(len(raw)) + raw
    return bytes(out)


def _from_int(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while (byte := data[at]) & 0x80:
        value |= (byte & 0x7F) << shift
        shift += 7
        at += 1
    return value | byte << shift, at + 1


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    length, at = _varint(data, at)
    return data[at : at + length], at + length


def _uint64(data: bytes, at: int) -> int:
    if at + 8 > len(data):
        raise IndexError
    return int.from_bytes(data[at : at + 8], "little")


@lru_cache(maxsize=1000)
def _kind(text: str) -> _Kind:
    match = _TYPE.fullmatch(_ALIASES.get(text, text))
    if match is None:
        raise NativeError(f"type {text} is not known here; use toString()")
    name, arguments = match[1], match[2] or ""
    if name in _WIDTHS:
        return _Kind("fixed", _WIDTHS[name], ())
    if name.startswith("Interval"):
        return _Kind("fixed", 8, ())
    match name:
        case "String":
            return _Kind("string", 0, ())
        case "FixedString":
            return _Kind("fixed", int(arguments), ())
        case "Decimal":
            digits = int(arguments.split(",")[0])
            return _Kind("fixed", next(w for w, d in _DECIMALS if digits <= d), ())
        case "Nullable" | "Array" | "LowCardinality":
            return _Kind(name, 0, (_kind(arguments),))
        case "Tuple":
            return _Kind("Tuple", 0, _fields(arguments))
        case "Map" | "Nested":
            return _Kind("Array", 0, (_Kind("Tuple", 0, _fields(arguments)),))
        case "SimpleAggregateFunction":
            return _fields(arguments.partition(",")[2].strip())[0]
        case _:
            raise NativeError(f"type {text} is not known here; use toString()")


_DECIMALS = ((4, 9), (8, 18), (16, 38), (32, 76))


def _fields(arguments: str) -> tuple[_Kind, ...]:
    """Types of `a UInt8, Array(String)`, named or not."""
    found: list[_Kind] = []
    depth, start, quote = 0, 0, ""
    i = 0
    while i < len(arguments):
        c = arguments[i]
        if quote:
            i += c == "\\"
            quote = "" if c == quote else quote
        elif c in "'`":
            quote = c
        elif c in "()":
            depth += 1 if c == "(" else -1
        elif c == "," and not depth:
            found.append(_field(arguments[start:i]))
            start = i + 1
        i += 1
    if arguments.strip():
        found.append(_field(arguments[start:]))
    return tuple(found)


def _field(text: str) -> _Kind:
    text = text.strip()
    return _kind(text[m.end() :] if (m := _FIELD_NAME.match(text)) else text)


def _skip_prefix(kind: _Kind, at: int) -> int:
    """Dictionary versions of all LowCardinality parts stand before the column."""
    if kind.name == "LowCardinality":
        return at + 8
    for part in kind.parts:
        at = _skip_prefix(part, at)
    return at


def _skip(kind: _Kind, data: bytes, at: int, rows: int) -> int:
    """Where `rows` values that begin at `at` end."""
    match kind.name:
        case "fixed":
            return at + rows * kind.width
        case "string":
            for _ in range(rows):
                length = data[at]
                at += 1
                if length & 0x80:
                    length, at = _varint(data, at - 1)
                at += length
            return at
        case "Nullable":
            return _skip(kind.parts[0], data, at + rows, rows)
        case "Array":
            end = at + rows * 8
            return _skip(kind.parts[0], data, end, _uint64(data, end - 8)) if rows else at
        case "Tuple":
            for part in kind.parts:
                at = _skip(part, data, at, rows)
            return at if kind.parts else at + rows
        case _:
            return _skip_dictionary(kind, data, at) if rows else at


def _skip_dictionary(kind: _Kind, data: bytes, at: int) -> int:
    """LowCardinality: flags with the width of indexes, keys (NULL is one of them), indexes."""
    width = 1 << (_uint64(data, at) & 0xFF)
    inner = kind.parts[0]
    inner = inner.parts[0] if inner.name == "Nullable" else inner
    at = _skip(inner, data, at + 16, _uint64(data, at + 8))
    return at + 8 + width * _uint64(data, at)
