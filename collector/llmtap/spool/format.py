"""On-disk format of spool segments, version 1. All integers little endian.

    <root>/<writer_id>/            one folder per writer process, 0700
        lock                       flock held exclusively while the writer lives
        <first seq, 016x>.seg      segments, append-only, 0600
        carry-<n, 016x>.seg        records the collector moved out of older segments, same format
    <root>/checkpoint.json         the collector's (checkpoint.py)
    <root>/collector.lock          flock of the one collector
    <root>/quarantine/             bytes that were not records

Segment = header, then records without gaps:

    header  magic "LLMTAPS1" | version u16 | reserved u16 | header size u32 | first seq u64
            | created (wall µs) u64 | writer id, 32 bytes ASCII                        = 64 bytes
    record  magic a7 4c 54 52 | length u32 | crc u32 | seq u64 | kind u8 | 3 × 00      = 24 bytes
            | payload, `length` bytes

`crc` is CRC-32 (zlib) over the header from `seq` on, then the payload. `seq` rises by one per
record of a writer, over all its segments. A record is whole or it is not there: a reader stops at
the first record that does not fit. Behind a torn record nothing is ever appended: the writer
truncates, or leaves the segment. Between damage and the next whole record the reader finds its
way by magic and crc, and puts the bytes between into quarantine/.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

SEGMENT_MAGIC = b"LLMTAPS1"
RECORD_MAGIC = b"\xa7LTR"
VERSION = 1
MAX_PAYLOAD = 40 << 20
"""A request and a response body at their largest cap, plus what is said about them."""

KIND_START = 1
KIND_END = 2
KIND_LOSS = 3

SEGMENT_HEADER = struct.Struct("<8sHHIQQ32s")
RECORD_HEADER = struct.Struct("<4sIIQB3x")
_TAIL = struct.Struct("<QB3x")


def segment_header(writer_id: str, first_seq: int, created_us: int) -> bytes:
    """The first 64 bytes of a segment."""
    size = SEGMENT_HEADER.size
    return SEGMENT_HEADER.pack(
        SEGMENT_MAGIC, VERSION, 0, size, first_seq, created_us, writer_id.encode()
    )


def record_header(kind: int, seq: int, parts: Sequence[bytes]) -> bytes:
    """The header for a payload given in parts."""
    crc = zlib.crc32(_TAIL.pack(seq, kind))
    length = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
        length += len(part)
    return RECORD_HEADER.pack(RECORD_MAGIC, length, crc, seq, kind)


def crc_of(kind: int, seq: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(_TAIL.pack(seq, kind)))
