"""Ollama's native API: /api/chat, /api/generate, /api/embed, /api/embeddings.

Source: Ollama's API documentation and types. Streams are NDJSON and the default; the last object
has `done: true` and the counts; durations are nanoseconds.
"""

from __future__ import annotations

from llmtap.dialects.answers import (
    expect_stream,
    mark_tokens,
    read_answer,
    read_request,
    take_error,
)
from llmtap.dialects.errors import ollama_error
from llmtap.dialects.estimate import estimate_missing
from llmtap.dialects.framing import ndjson
from llmtap.dialects.jsonish import JSON, items, obj, parse_object, text
from llmtap.dialects.model import Call, Exchange, Message, Operation, Part
from llmtap.dialects.parts import (
    blob_part,
    reasoning_part,
    text_part,
    tool_call_part,
    tool_response_part,
)
from llmtap.dialects.usage import ollama_usage

_OPERATIONS: dict[str, Operation] = {
    "/api/chat": "chat",
    "/api/generate": "text_completion",
    "/api/embed": "embeddings",
    "/api/embeddings": "embeddings",
}


_OPTIONS = frozenset(
    """temperature top_p top_k min_p typical_p seed stop num_predict num_ctx num_keep repeat_last_n
    repeat_penalty presence_penalty frequency_penalty mirostat mirostat_eta
    mirostat_tau""".split()  # noqa: SIM905
)
_PARAMETERS = frozenset(["format", "think", "keep_alive", "truncate", "dimensions", "raw"])


class Ollama:
    name = "ollama"
    provider = "ollama"
    error_body = staticmethod(ollama_error)

    def matches(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith(tuple(_OPERATIONS))

    def decode(self, exchange: Exchange) -> Call:
        operation = _OPERATIONS.get("/api/" + exchange.path.rpartition("/")[2], "chat")
        call = Call(dialect=self.name, operation=operation, provider=self.provider)
        request = read_request(call, exchange)
        streams = operation != "embeddings" and request.get("stream") is not False
        expect_stream(call, exchange, streams)
        _request(call, request)
        if exchange.response_body:
            _answer(call, exchange)
        estimate_missing(call, exchange)
        return call


DIALECT = Ollama()


def _request(call: Call, request: JSON) -> None:
    call.model_requested = text(request.get("model"))
    options = obj(request.get("options"))
    call.request_params = {key: options[key] for key in options if key in _OPTIONS}
    call.request_params |= {key: request[key] for key in request if key in _PARAMETERS}
    call.tool_definitions = items(request.get("tools"))
    if request.get("system"):
        call.input_messages.append(Message("system", [text_part(request["system"])]))
    call.input_messages += [_message(obj(m)) for m in items(request.get("messages"))]
    images = _images(request)
    given = request.get("prompt", request.get("input"))
    for one in items(given) if isinstance(given, list) else [given] if given or images else []:
        call.input_messages.append(Message("user", [text_part(one), *images]))


def _images(message: JSON) -> list[Part]:
    return [blob_part(image, "", "image") for image in items(message.get("images"))]


def _message(message: JSON) -> Message:
    role = text(message.get("role"))
    if role == "tool":
        call_id = message.get("tool_call_id") or message.get("tool_name")
        parts = [tool_response_part(call_id, message.get("content"))]
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
        call_id = obj(tool).get("id")
        parts.append(tool_call_part(call_id, function.get("name"), function.get("arguments")))
    return parts


def _answer(call: Call, exchange: Exchange) -> None:
    parts: list[Part] = []
    objects: list[JSON] = []
    token_ends: list[int] = []
    for end, data in _objects(call, exchange):
        objects.append(data)
        if data.get("error"):
            take_error(call, data, exchange.http_status)
        call.model_served = call.model_served or text(data.get("model"))
        if said := _parts(obj(data.get("message")) or data):
            parts += said
            token_ends.append(end)
    final = objects[-1] if objects else {}
    done = final.get("done") is True
    call.finish_reason = text(final.get("done_reason"))
    if call.stream:
        call.stream_complete = done or exchange.http_status >= 300
        mark_tokens(call, exchange, token_ends)
    if call.operation != "embeddings" and (parts or done):
        message = Message("assistant", _merge(parts), finish_reason=call.finish_reason)
        call.output_messages = [message]
        call.tool_calls = [p["name"] for p in message.parts if p["type"] == "tool_call"]
    if done or (call.operation == "embeddings" and not call.error_type):
        ollama_usage(call, final)


def _objects(call: Call, exchange: Exchange) -> list[tuple[int, JSON]]:
    """What the answer is made of, each with its end: lines of a stream, or the one object."""
    body = exchange.response_body
    if not call.stream or exchange.http_status >= 400:
        answer = read_answer(call, exchange)
        return [(len(body), answer)] if answer else []
    events, clean = ndjson(body)
    found: list[tuple[int, JSON]] = []
    for event in events:
        if data := parse_object(event.data):
            found.append((event.end, data))
        else:
            call.decode_error = call.decode_error or "a line is not a JSON object"
    if not clean:  # the last line needs no end; one that was cut is no object
        tail = parse_object(body[events[-1].end if events else 0 :])
        if tail:
            found.append((len(body), tail))
    return found


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
