"""What all dialects share in reading answers: stream or whole, errors, arrival of tokens."""

from __future__ import annotations

from bisect import bisect_right

from llmtap.dialects.framing import Event, sse
from llmtap.dialects.jsonish import JSON, NotJSON, items, obj, parse, parse_object, text
from llmtap.dialects.model import Call, Exchange
from llmtap.dialects.salvage import closed

_ERROR_TEXT = 500


def read_request(call: Call, exchange: Exchange) -> JSON:
    """The request's object; what is wrong with it is on the call."""
    request = parse_object(exchange.request_body)
    if exchange.request_body and not request:
        call.decode_error = "the request body is not a JSON object"
        if not exchange.request_complete:
            request = parse_object(closed(exchange.request_body))
            call.decode_error = "the request body was cut"
    return request


def expect_stream(call: Call, exchange: Exchange, asked: bool) -> None:
    """Notes that a stream was asked for: not complete until its end, or a whole answer, is seen."""
    call.stream = asked
    call.stream_complete = not asked or exchange.http_status >= 300


def is_event_stream(exchange: Exchange) -> bool:
    """Whether the answer is SSE, by its shape first: errors are JSON under any content type."""
    body = exchange.response_body[:64].lstrip(b"\xef\xbb\xbf \r\n")
    if body.startswith((b"data:", b"event:", b":", b"id:", b"retry:")):
        return True
    kind = exchange.response_headers.get("content-type", "")
    return kind[:17].lower() == "text/event-stream" and not body.startswith(b"{")


def read_answer(call: Call, exchange: Exchange) -> JSON:
    """The object of an answer that is no stream, its error taken."""
    try:
        value = parse(exchange.response_body)
    except NotJSON:
        value = None if exchange.response_complete else _cut_answer(call, exchange.response_body)
    if isinstance(value, list):  # Google's compatible endpoint sends [{"error": …}]
        value = next(iter(items(value)), None)
    answer = obj(value)
    if answer:
        call.stream_complete = True
    elif exchange.http_status < 400:
        call.decode_error = call.decode_error or "the response body is not a JSON object"
    take_error(call, answer, exchange.http_status)
    if exchange.http_status >= 400 and not call.error_message:
        call.error_message = _error_text(exchange)
    return answer


def _cut_answer(call: Call, body: bytes) -> JSON:
    """What had come of an answer. Its last field is unsure: half a usage is none."""
    answer = parse_object(closed(body))
    if answer:
        call.decode_error = call.decode_error or "the response body was cut"
        if next(reversed(answer)) == "usage":
            del answer["usage"]
    return answer


def _error_text(exchange: Exchange) -> str:
    """What a gateway said in plain words."""
    if not exchange.response_headers.get("content-type", "").startswith("text/"):
        return ""
    return exchange.response_body[:_ERROR_TEXT].decode("utf-8", "replace").strip()


def stream_events(exchange: Exchange) -> list[Event]:
    """The events of an SSE answer; the last one needs no blank line if it is whole otherwise."""
    events, tail = sse(exchange.response_body)
    if tail and (tail.data.strip() == b"[DONE]" or parse_object(tail.data)):
        events.append(tail)
    return events


def take_error(call: Call, answer: JSON, http_status: int) -> None:
    """Fills error type and message from an error body, in any shape we know."""
    error = answer.get("error")
    if isinstance(error, dict):
        fields = obj(answer.get("error"))
        kind = text(fields.get("type") or fields.get("code") or fields.get("status"))
        call.error_message = text(fields.get("message") or fields)
    elif error:
        kind, call.error_message = "", text(error)
    elif http_status >= 400 or answer.get("object") == "error":  # the latter: older vLLM
        kind = text(answer.get("type") or answer.get("code"))
        call.error_message = text(answer.get("message") or answer.get("detail"))
    else:
        return
    call.error_type = kind or (str(http_status) if http_status >= 400 else "error")


def mark_tokens(call: Call, exchange: Exchange, ends: list[int]) -> None:
    """Notes the events that carried content, by the offsets at which they ended."""
    call.chunks = len(ends)
    arrivals = exchange.arrivals
    captured = bisect_right(ends, arrivals.ends[-1]) if arrivals.ends else 0
    if captured:
        call.first_token_us = arrivals.when(ends[0])
        call.last_token_us = arrivals.when(ends[captured - 1])
