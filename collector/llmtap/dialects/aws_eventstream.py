"""`application/vnd.amazon.eventstream` frames (AWS event stream encoding, see Smithy and botocore).

Frame: total length u32 | headers length u32 | CRC-32 of these 8 bytes | headers | payload | CRC-32
of all before; big endian. Header: name length u8 | name | type u8 | value. Linear; a cut tail is no
frame, and a bad checksum ends the reading.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

_PRELUDE = struct.Struct(">III")
_CRC = struct.Struct(">I")
_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value by type: true, false, byte, short, int, long, timestamp, uuid."""
MAX_FRAME = 24 << 20
"""AWS allows 16 MiB of payload."""


class Frame(NamedTuple):
    """`end`: offset just past the frame. Headers: those that are strings."""

    end: int
    headers: dict[str, str]
    payload: bytes


def frames(body: bytes) -> tuple[list[Frame], str]:
    """(whole frames, what is wrong with the bytes behind them; empty for nothing, or a cut)."""
    found: list[Frame] = []
    at = 0
    while len(body) - at >= _PRELUDE.size:
        total, head, crc = _PRELUDE.unpack_from(body, at)
        if zlib.crc32(body[at : at + 8]) != crc:
            return found, "an event's prelude has a wrong checksum"
        if not 16 <= total <= MAX_FRAME or head > total - 16:
            return found, "an event has impossible lengths"
        end = at + total
        if end > len(body):
            return found, ""
        if zlib.crc32(body[at : end - 4]) != _CRC.unpack_from(body, end - 4)[0]:
            return found, "an event has a wrong checksum"
        begin = at + _PRELUDE.size
        headers = _headers(body[begin : begin + head])
        if headers is None:
            return found, "an event's headers are not valid"
        found.append(Frame(end, headers, body[begin + head : end - 4]))
        at = end
    return found, ""


def _headers(raw: bytes) -> dict[str, str] | None:
    headers: dict[str, str] = {}
    at = 0
    try:
        while at < len(raw):
            begin = at + 1
            at = begin + raw[at]
            name, kind = raw[begin:at].decode(), raw[at]
            at += 1
            if kind in (6, 7):  # bytes, string
                size = int.from_bytes(raw[at : at + 2])
                at += 2
                if kind == 7:
                    headers[name] = raw[at : at + size].decode()
                at += size
            else:
                at += _FIXED[kind]
    except (IndexError, KeyError, UnicodeDecodeError):
        return None
    return headers if at == len(raw) else None
