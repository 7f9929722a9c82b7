"""What a spool record means: the payloads that proxy workers write and the collector reads.

START payload:  u32 meta_len | meta | request bytes so far
END payload:    u32 meta_len | u32 arrivals_len | u32 rest_len | meta | arrivals | rest | response
(little endian). `meta` is the dataclass as JSON. Request bytes of a call are START's plus END's
`rest` (what came after START was written). Bodies are the bytes of the wire: transfer coding is
still on them (`chunked` says so) and content coding too. `arrivals` are u32 pairs (microseconds
since the call's first byte, bytes of response body in that read), saturating at 2**32-1.

No credentials: the writer only ever passes allow-listed headers and a cleaned query.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import orjson

Outcome = Literal["done", "aborted", "timeout", "upstream_closed", "refused"]
"""done: the response ended as framed · aborted: the client left · timeout: a limit of the route
ran out · upstream_closed: cut before the framed end · refused: llmtap answered itself."""

MAX_U32 = 0xFFFFFFFF
# No slots below: orjson writes a dataclass from its __dict__ three times as fast.
_ONE = struct.Struct("<I")
_THREE = struct.Struct("<III")


class PayloadError(ValueError):
    """The payload is not one this version wrote; the record goes to `dead/` with this text."""


@dataclass
class CallStart:
    """Known when the request is on its way. Times are wall-clock microseconds, UTC."""

    id: str
    ts_us: int
    upstream: str
    provider: str
    dialect: str
    method: str
    path: str
    """Path the upstream sees, with cleaned query."""
    trace_id: str
    span_id: str
    parent_span_id: str = ""
    capture: str = "full"
    chunked: bool = False
    """The request bytes carry chunked transfer coding."""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    """Allow-listed request headers, lower-case names."""
    tags: dict[str, str] = field(default_factory=dict[str, str])
    """llmtap-… headers by canonical name without prefix (`session-id`, `property-x`, …)."""


@dataclass
class CallEnd:
    """Known when the exchange is over. Durations in microseconds since the call's first byte."""

    id: str
    outcome: Outcome
    duration_us: int
    ttfb_us: int | None = None
    http_status: int = 0
    """Status the client saw; 0 when no head was sent."""
    error: str = ""
    """llmtap's own reason when it had to answer or cut (`upstream_unreachable`, …)."""
    error_message: str = ""
    chunked: bool = False
    """The response bytes carry chunked transfer coding."""
    framed_by_eof: bool = False
    request_complete: bool = True
    request_bytes: int = 0
    """Bytes of request body on the wire, stored or not."""
    response_bytes: int = 0
    truncated: int = 0
    """Bits: 1 request body cut at the cap, 2 response body, 4 bodies left out (spool low)."""
    headers: dict[str, str] = field(default_factory=dict[str, str])


TRUNCATED_REQUEST = 1
TRUNCATED_RESPONSE = 2
TRUNCATED_SPOOL = 4


def encode_start(start: CallStart, body: Sequence[bytes]) -> list[bytes]:
    """Payload of a START record as parts, ready for one write."""
    meta = orjson.dumps(start)
    return [_ONE.pack(len(meta)), meta, *body]


def encode_end(
    end: CallEnd, arrivals: array[int], rest: Sequence[bytes], response: Sequence[bytes]
) -> list[bytes]:
    """Payload of an END record as parts. `arrivals` is array('I') of pairs, see the module text."""
    meta = orjson.dumps(end)
    if sys.byteorder != "little":
        arrivals = array("I", arrivals)
        arrivals.byteswap()
    times = arrivals.tobytes()
    head = _THREE.pack(len(meta), len(times), sum(map(len, rest)) if rest else 0)
    return [head, meta, times, *rest, *response]


def decode_start(payload: bytes) -> tuple[CallStart, bytes]:
    """(meta, request bytes so far). Raises PayloadError."""
    try:
        (meta_len,) = _ONE.unpack_from(payload)
        start = CallStart(**orjson.loads(payload[4 : 4 + meta_len]))
    except (struct.error, TypeError, ValueError) as e:
        raise PayloadError(f"start record: {e}") from e
    return start, payload[4 + meta_len :]


def decode_end(payload: bytes) -> tuple[CallEnd, array[int], bytes, bytes]:
    """(meta, arrivals, request rest, response bytes). Raises PayloadError."""
    try:
        meta_len, times_len, rest_len = _THREE.unpack_from(payload)
        at = 12 + meta_len
        end = CallEnd(**orjson.loads(payload[12:at]))
        arrivals = array("I")
        arrivals.frombytes(payload[at : at + times_len])
    except (struct.error, TypeError, ValueError) as e:
        raise PayloadError(f"end record: {e}") from e
    if sys.byteorder != "little":
        arrivals.byteswap()
    at += times_len
    if at + rest_len > len(payload) or len(arrivals) % 2:
        raise PayloadError("end record: lengths disagree")
    return end, arrivals, payload[at : at + rest_len], payload[at + rest_len :]
