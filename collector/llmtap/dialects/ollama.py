"""Ollama's native API: /api/chat, /api/generate, /api/embed, /api/embeddings.

Source: Ollama's API documentation and types. Streams are NDJSON and the default; the last object
has `done: true` and the counts; durations are nanoseconds.
"""

from __future__ import annotations

from llmtap.dialects.framing import Event, ndjson
from llmtap.dialects.jsonish import JSON, items, obj, parse_object, text
from llmtap.dialects.model import Call, Exchange, Message, Operation, Part
from llmtap.dialects.openai_common import mark_token, take_error
from llmtap.dialects.parts import (
    blob_part,
    reasoning_part,
    text_part,
    tool_call_part,
    tool_response_part,
)
from llmtap.dialects.usage import estimate_missing, ollama_usage

_OPERATIONS: dict[str, Operation] = {
    "/api/chat": "chat",
    "/api/generate": "text_completion",
    "/api/embed": "embeddings",
    "/api/embeddings": "embeddings",
}


class Ollama:
    name = "ollama"
    provider = "ollama"

    def matches(self, path: str) -> bool:
        return path.endswith(tuple(_OPERATIONS))

    def decode(self, exchange: Exchange) -> Call:
        operation: Operation = _OPERATIONS["/api/" + exchange.path.rpartition("/")[2]]
        call = Call(dialect=self.name, operation=operation, provider=self.provider)
        request = parse_object(exchange.request_body)
        if exchange.request_body and not request:
            call.decode_error = "the request body is not a JSON object"
        _request(call, request)
        _answer(call, exchange)
        estimate_missing(call)
        return call


DIALECT = Ollama()


def _request(call: Call, request: JSON) -> None:
    call.model_requested = text(request.get("model"))
    call.stream = call.operation != "embeddings" and request.get("stream") is not False
    options = obj(request.get("options"))
    call.request_params = {**options}
    for key in ("format", "think", "keep_alive"):
        if key in request:
            call.request_params[key] = request[key]
    call.tool_definitions = items(request.get("tools"))
    if request.get("system"):
        call.input_messages.append(Message("system", [text_part(request["system"])]))
    call.input_messages += [_message(obj(m)) for m in items(request.get("messages"))]
    given = request.get("prompt", request.get("input"))
    for one in items(given) if isinstance(given, list) else [given] if given else []:
        parts = [text_part(one), *_images(request)]
        call.input_messages.append(Message("user", parts))


def _images(message: JSON) -> list[Part]:
    return [blob_part(image, "", "image") for image in items(message.get("images"))]


def _message(message: JSON) -> Message:
    role = text(message.get("role"))
    if role == "tool":
        parts = [tool_response_part(message.get("tool_name"), message.get("content"))]
        return Message(role, parts)
    return Message(role, _parts(message) + _images(message))


def _parts(message: JSON) -> list[Part]:
    parts: list[Part] = []
    if message.get("thinking"):
        parts.append(reasoning_part(message["thinking"]))
    if said := message.get("content") or message.get("response"):
        parts.append(text_part(said))
    for tool in items(message.get("tool_calls")):
        function = obj(obj(tool).get("function"))
        parts.append(tool_call_part("", function.get("name"), function.get("arguments")))
    return parts


def _answer(call: Call, exchange: Exchange) -> None:
    body = exchange.response_body
    if not body:
        return
    events, clean = ndjson(body)
    if not clean:  # a single object needs no line end
        start = events[-1].end if events else 0
        events.append(Event(len(body), b"", body[start:].strip()))
    objects: list[JSON] = []
    parts: list[Part] = []
    for event in events:
        data = parse_object(event.data)
        if not data:
            call.decode_error = call.decode_error or "a line is not a JSON object"
            continue
        objects.append(data)
        if data.get("error"):
            take_error(call, data, exchange.http_status)
        said = _parts(obj(data.get("message")) or data)
        if said and call.stream:
            mark_token(call, exchange, event)
        parts += said
    final = objects[-1] if objects else {}
    call.model_served = text(final.get("model"))
    call.finish_reason = text(final.get("done_reason"))
    done = final.get("done") is True
    if exchange.http_status >= 400 and not call.error_type:
        take_error(call, final, exchange.http_status)
    if call.stream:
        call.stream_complete = done
    if call.operation != "embeddings" and (parts or done):
        message = Message("assistant", _merge(parts), finish_reason=call.finish_reason)
        call.output_messages = [message]
        call.tool_calls = [p["name"] for p in message.parts if p["type"] == "tool_call"]
    if done or (call.operation == "embeddings" and not call.error_type):
        ollama_usage(call, final)


def _merge(parts: list[Part]) -> list[Part]:
    """Joins the pieces of a stream: neighbours of one text type become one part."""
    merged: list[Part] = []
    pieces: list[str] = []
    kind = ""
    for part in [*parts, {"type": ""}]:
        if part["type"] != kind or kind == "tool_call":
            if pieces:
                merged.append({"type": kind, "content": "".join(pieces)})
            pieces, kind = [], part["type"]
        if kind == "tool_call":
            merged.append(part)
        elif kind:
            pieces.append(part["content"])
    return merged
