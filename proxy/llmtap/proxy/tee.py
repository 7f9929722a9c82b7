"""The exchange being recorded: references to the bytes that passed and when they arrived.

One Tee per call. The START record is written before the request's last byte is forwarded, the END
record before the response's last byte: a client that saw the end can rely on the record. Never
raises towards the wire; what cannot be written is counted by the spool's writer.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from typing import Protocol

from llmtap.spool.format import KIND_END, KIND_START
from llmtap.spool.records import (
    MAX_U32,
    TRUNCATED_REQUEST,
    TRUNCATED_RESPONSE,
    TRUNCATED_SPOOL,
    CallEnd,
    CallStart,
    Outcome,
    encode_end,
    encode_start,
)
from llmtap.spool.writer import Level


class Spool(Protocol):
    """What the tee needs of a spool writer."""

    @property
    def level(self) -> Level: ...

    def append_parts(self, kind: int, parts: Sequence[bytes]) -> bool: ...


class Tee:
    """Records one call."""

    __slots__ = (
        "_cap",
        "_kept_request",
        "_kept_response",
        "_request",
        "_response",
        "_spool",
        "_start_ns",
        "_started",
        "_times",
        "_uncounted",
        "chunked",
        "ended",
        "first_ns",
        "framed_by_eof",
        "headers",
        "http_status",
        "request_bytes",
        "request_complete",
        "start",
        "truncated",
    )

    def __init__(self, spool: Spool, start: CallStart, start_ns: int, cap: int) -> None:
        self._spool = spool
        self._cap = cap
        self._start_ns = start_ns
        self._request: list[bytes] = []
        self._response: list[bytes] = []
        self._times: list[int] = []
        self._kept_request = 0
        self._kept_response = 0
        self._uncounted = 0
        self._started = False
        self.start = start
        self.ended = False
        self.first_ns = 0
        self.request_bytes = 0
        self.request_complete = False
        self.truncated = 0
        self.http_status = 0
        self.chunked = False
        self.framed_by_eof = False
        self.headers: dict[str, str] = {}

    def request_data(self, piece: bytes) -> None:
        """Bytes of request body that arrived."""
        self.request_bytes += len(piece)
        room = self._cap - self._kept_request
        if len(piece) > room:
            self.truncated |= TRUNCATED_REQUEST
            piece = piece[:room]
        if piece:
            self._kept_request += len(piece)
            self._request.append(piece)

    def response_data(self, piece: bytes, now_ns: int) -> None:
        """Bytes of response body that arrived, at monotonic `now_ns`."""
        kept = self._kept_response + len(piece)
        if kept > self._cap:
            room = self._cap - self._kept_response
            self.truncated |= TRUNCATED_RESPONSE
            self._uncounted += len(piece) - room
            piece, kept = piece[:room], self._cap
            if not piece:
                return
        self._kept_response = kept
        self._response.append(piece)
        self._times.append(now_ns)

    def _arrivals(self) -> array[int]:
        """When the response's pieces came, as END records want it."""
        start = self._start_ns
        pairs = array("I")
        for now_ns, piece in zip(self._times, self._response, strict=True):
            at_us = (now_ns - start) // 1000
            pairs.append(at_us if at_us < MAX_U32 else MAX_U32)
            pairs.append(len(piece))
        return pairs

    def write_start(self) -> None:
        """Puts the START record into the spool, once."""
        if self._started:
            return
        body = self._request
        self._request = []
        if self._spool.level >= Level.METADATA_ONLY:
            self.truncated |= TRUNCATED_SPOOL
            body = []
        self._started = self._spool.append_parts(KIND_START, encode_start(self.start, body))
        if not self._started:  # tried again, without the body, before the END record
            self.truncated |= TRUNCATED_SPOOL

    def write_end(self, outcome: Outcome, error: str = "", message: str = "") -> None:
        """Puts the END record into the spool, once (with START before it if that is missing)."""
        if self.ended:
            return
        self.ended = True
        self.write_start()
        if not self._started:
            return  # an END without its START would say nothing
        rest, response, arrivals = self._request, self._response, self._arrivals()
        self._request, self._response, self._times = [], [], []
        if self._spool.level >= Level.METADATA_ONLY:
            self.truncated |= TRUNCATED_SPOOL
            rest, response, arrivals = [], [], array("I")
        first = self.first_ns
        end = CallEnd(
            id=self.start.id,
            outcome=outcome,
            duration_us=(time.monotonic_ns() - self._start_ns) // 1000,
            ttfb_us=(first - self._start_ns) // 1000 if first else None,
            http_status=self.http_status,
            error=error,
            error_message=message,
            chunked=self.chunked,
            framed_by_eof=self.framed_by_eof,
            request_complete=self.request_complete,
            request_bytes=self.request_bytes,
            response_bytes=self._kept_response + self._uncounted,
            truncated=self.truncated,
            headers=self.headers,
        )
        self._spool.append_parts(KIND_END, encode_end(end, arrivals, rest, response))


class SilentTee(Tee):
    """Records nothing: for calls that asked for `llmtap-capture: off`."""

    __slots__ = ()

    def request_data(self, piece: bytes) -> None:
        return

    def response_data(self, piece: bytes, now_ns: int) -> None:
        return

    def write_start(self) -> None:
        return

    def write_end(self, outcome: Outcome, error: str = "", message: str = "") -> None:
        self.ended = True
