"""A call's two spool records → the `Exchange` that a dialect decodes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from llmtap.dialects.dechunk import dechunk
from llmtap.dialects.model import Arrivals, Exchange
from llmtap.spool.records import (
    TRUNCATED_REQUEST,
    TRUNCATED_RESPONSE,
    TRUNCATED_SPOOL,
    CallEnd,
    CallStart,
    decode_end,
    decode_start,
)


@dataclass(frozen=True, slots=True)
class Captured:
    """One call as the spool has it; `end` is None when the worker died before the call ended."""

    start: CallStart
    end: CallEnd | None
    exchange: Exchange
    worker: str


def assemble(start_payload: bytes, end_payload: bytes | None, worker: str) -> Captured:
    """Raises PayloadError when a payload is not one this version wrote."""
    start, request = decode_start(start_payload)
    path = start.path.partition("?")[0]
    if end_payload is None:
        body, _ = _request_body(start, request)
        exchange = Exchange(
            method=start.method,
            path=path,
            upstream=start.upstream,
            dialect=start.dialect,
            request_headers=start.headers,
            request_body=body,
            request_complete=False,
            response_complete=False,
        )
        return Captured(start, None, exchange, worker)
    end, pairs, rest, response = decode_end(end_payload)
    body, whole = _request_body(start, request + rest if rest else request)
    arrivals = Arrivals(list(accumulate(pairs[1::2])), pairs[0::2].tolist())
    complete = end.outcome == "done" and not end.truncated & (TRUNCATED_RESPONSE | TRUNCATED_SPOOL)
    if end.chunked:
        plain = dechunk(response)
        response, arrivals = plain.body, plain.arrivals(arrivals)
        complete = complete and plain.complete
    cut = end.truncated & (TRUNCATED_REQUEST | TRUNCATED_SPOOL)
    exchange = Exchange(
        method=start.method,
        path=path,
        upstream=start.upstream,
        dialect=start.dialect,
        request_headers=start.headers,
        request_body=body,
        request_complete=whole and end.request_complete and not cut,
        http_status=end.http_status,
        response_headers=end.headers,
        response_body=response,
        response_complete=complete,
        arrivals=arrivals,
    )
    return Captured(start, end, exchange, worker)


def _request_body(start: CallStart, raw: bytes) -> tuple[bytes, bool]:
    if not start.chunked:
        return raw, True
    plain = dechunk(raw)
    return plain.body, plain.complete
