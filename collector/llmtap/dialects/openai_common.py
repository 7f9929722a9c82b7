"""What the OpenAI-style dialects share: request fields, errors, stream reading."""

from __future__ import annotations

from llmtap.dialects.framing import Event, sse
from llmtap.dialects.jsonish import JSON, items, obj, parse_object, text
from llmtap.dialects.model import Call, Exchange, Operation

PARAMETERS = """temperature top_p top_k n max_tokens max_completion_tokens stop seed
frequency_penalty presence_penalty reasoning_effort response_format tool_choice
parallel_tool_calls logprobs top_logprobs service_tier dimensions encoding_format suffix echo
best_of verbosity thinking""".split()  # noqa: SIM905


def begin(exchange: Exchange, name: str, operation: Operation) -> tuple[Call, JSON]:
    """A call with all that the request says, and the request's object."""
    request = parse_object(exchange.request_body)
    call = Call(dialect=name, operation=operation, provider="openai")
    if exchange.request_body and not request:
        call.decode_error = "the request body is not a JSON object"
    call.model_requested = text(request.get("model"))
    call.stream = request.get("stream") is True
    call.request_params = {key: request[key] for key in PARAMETERS if key in request}
    call.user_id = text(request.get("user") or request.get("safety_identifier"))
    call.tool_definitions = items(request.get("tools") or request.get("functions"))
    return call, request


def is_event_stream(exchange: Exchange) -> bool:
    kind = exchange.response_headers.get("content-type", "")
    return kind.startswith("text/event-stream") or exchange.response_body.startswith(b"data:")


def take_error(call: Call, answer: JSON, http_status: int) -> None:
    """Fills error type and message from an OpenAI-shaped (or near) error body."""
    error = answer.get("error")
    if isinstance(error, dict):
        fields = obj(answer.get("error"))
        kind = text(fields.get("type") or fields.get("code") or fields.get("status"))
        call.error_message = text(fields.get("message") or fields)
    elif error:
        kind, call.error_message = "", text(error)
    elif http_status >= 400:
        kind = text(answer.get("type") or answer.get("code"))
        call.error_message = text(answer.get("message") or answer.get("detail"))
    else:
        return
    call.error_type = kind or (str(http_status) if http_status >= 400 else "error")


def facts(call: Call, answer: JSON) -> None:
    """Ids and names that responses and chunks carry alike; the first non-empty wins."""
    call.response_id = call.response_id or text(answer.get("id"))
    call.model_served = call.model_served or text(answer.get("model"))
    call.system_fingerprint = call.system_fingerprint or text(answer.get("system_fingerprint"))
    call.service_tier = text(answer.get("service_tier")) or call.service_tier


def chunks(call: Call, exchange: Exchange) -> list[tuple[Event, JSON]]:
    """The JSON events of an SSE body; sets `stream_complete` and a mid-stream error."""
    events, _ = sse(exchange.response_body)
    found: list[tuple[Event, JSON]] = []
    done = False
    for event in events:
        if event.data.strip() == b"[DONE]":
            done = True
            continue
        chunk = parse_object(event.data)
        if not chunk:
            call.decode_error = call.decode_error or "a stream event is not a JSON object"
            continue
        if chunk.get("error") or event.name == b"error":
            take_error(call, chunk if chunk.get("error") else {"error": chunk}, 0)
        facts(call, chunk)
        found.append((event, chunk))
    call.stream = True
    call.stream_complete = done
    return found


def mark_token(call: Call, exchange: Exchange, event: Event) -> None:
    """Notes the arrival of an event that carries content."""
    call.chunks += 1
    at = exchange.arrivals.when(event.end)
    if at is not None:
        if call.first_token_us is None:
            call.first_token_us = at
        call.last_token_us = at
