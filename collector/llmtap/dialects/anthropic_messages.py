"""Anthropic messages (`…/v1/messages`), also as served by llama.cpp, vLLM, SGLang, Ollama.

Source: Anthropic API reference (messages, streaming). Stream usage: `message_start` gives the first
counts, each `message_delta` overwrites those it carries; nothing is ever added up.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from llmtap.dialects.framing import sse
from llmtap.dialects.jsonish import JSON, NotJSON, items, obj, parse, parse_object, text
from llmtap.dialects.model import Call, Exchange, Message, Operation, Part
from llmtap.dialects.openai_common import is_event_stream, mark_token
from llmtap.dialects.parts import (
    anthropic_content,
    reasoning_part,
    text_part,
    tool_call_part,
)
from llmtap.dialects.usage import anthropic_usage, estimate_missing

_PARAMETERS = [
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "stop_sequences",
    "thinking",
    "tool_choice",
    "service_tier",
]


class AnthropicMessages:
    name = "anthropic_messages"
    provider = "anthropic"

    def matches(self, path: str) -> bool:
        return path.endswith(("/v1/messages", "/v1/messages/count_tokens"))

    def decode(self, exchange: Exchange) -> Call:
        request = parse_object(exchange.request_body)
        counting = exchange.path.endswith("/count_tokens")
        operation: Operation = "unknown" if counting else "chat"
        call = Call(dialect=self.name, operation=operation, provider=self.provider)
        _request(call, request)
        if exchange.request_body and not request:
            call.decode_error = "the request body is not a JSON object"
        if is_event_stream(exchange) or exchange.response_body.startswith(b"event:"):
            _stream(call, exchange)
        elif exchange.response_body:
            _whole(call, exchange, counting)
        for message in call.output_messages:
            call.tool_calls += [p["name"] for p in message.parts if p["type"] == "tool_call"]
        estimate_missing(call)
        return call


DIALECT = AnthropicMessages()


def _request(call: Call, request: JSON) -> None:
    call.model_requested = text(request.get("model"))
    call.stream = request.get("stream") is True
    call.request_params = {key: request[key] for key in _PARAMETERS if key in request}
    call.user_id = text(obj(request.get("metadata")).get("user_id"))
    call.tool_definitions = items(request.get("tools"))
    if request.get("system"):
        call.input_messages.append(Message("system", anthropic_content(request["system"])))
    for raw in items(request.get("messages")):
        message = obj(raw)
        role = text(message.get("role"))
        call.input_messages.append(Message(role, anthropic_content(message.get("content"))))


def _facts(call: Call, message: JSON) -> None:
    call.response_id = text(message.get("id"))
    call.model_served = text(message.get("model"))
    call.service_tier = text(obj(message.get("usage")).get("service_tier"))


def _error(call: Call, answer: JSON) -> None:
    error = obj(answer.get("error"))
    call.error_type = text(error.get("type")) or "error"
    call.error_message = text(error.get("message") or answer.get("error") or answer)


def _whole(call: Call, exchange: Exchange, counting: bool) -> None:
    answer = parse_object(exchange.response_body)
    if not answer:
        call.decode_error = call.decode_error or "the response body is not a JSON object"
    if answer.get("type") == "error" or answer.get("error") or exchange.http_status >= 400:
        _error(call, answer)
        if not obj(answer.get("error")).get("type") and exchange.http_status >= 400:
            call.error_type = str(exchange.http_status)
        return
    if counting:
        return
    _facts(call, answer)
    call.finish_reason = text(answer.get("stop_reason"))
    parts = anthropic_content(answer.get("content"))
    role = text(answer.get("role")) or "assistant"
    call.output_messages = [Message(role, parts, finish_reason=call.finish_reason)]
    anthropic_usage(call, obj(answer.get("usage")))


@dataclass(slots=True)
class _Block:
    """One content block of a stream, being put together."""

    start: JSON
    pieces: list[str] = field(default_factory=list[str])

    def part(self) -> Part:
        said = "".join(self.pieces)
        match self.start.get("type"):
            case "text":
                return text_part(text(self.start.get("text")) + said)
            case "thinking":
                return reasoning_part(text(self.start.get("thinking")) + said)
            case "tool_use" | "server_tool_use" | "mcp_tool_use":
                arguments = _arguments(said) if said else self.start.get("input")
                return tool_call_part(self.start.get("id"), self.start.get("name"), arguments)
            case _:
                return anthropic_content([self.start])[0]


def _arguments(partial: str) -> object:
    """The object that the JSON fragments make up; the text itself when it was cut."""
    try:
        return parse(partial.encode())
    except NotJSON:
        return partial


def _stream(call: Call, exchange: Exchange) -> None:
    events, _ = sse(exchange.response_body)
    blocks: dict[int, _Block] = {}
    usage: JSON = {}
    started = stopped = False
    call.stream = True
    for event in events:
        data = parse_object(event.data)
        if not data:
            call.decode_error = call.decode_error or "a stream event is not a JSON object"
            continue
        match data.get("type"):
            case "message_start":
                started = True
                message = obj(data.get("message"))
                _facts(call, message)
                usage = {**usage, **_present(obj(message.get("usage")))}
            case "content_block_start":
                block = obj(data.get("content_block"))
                blocks[_index(data)] = _Block(block)
                if block.get("type") in ("tool_use", "server_tool_use"):
                    mark_token(call, exchange, event)
            case "content_block_delta":
                piece = _piece(obj(data.get("delta")))
                blocks.setdefault(_index(data), _Block({"type": "text"})).pieces.append(piece)
                if piece:
                    mark_token(call, exchange, event)
            case "message_delta":
                delta = obj(data.get("delta"))
                call.finish_reason = text(delta.get("stop_reason")) or call.finish_reason
                usage = {**usage, **_present(obj(data.get("usage")))}
            case "message_stop":
                stopped = True
            case "error":
                _error(call, data)
            case _:
                continue
    call.stream_complete = stopped
    if started:
        parts = [blocks[i].part() for i in sorted(blocks)]
        call.output_messages = [Message("assistant", parts, finish_reason=call.finish_reason)]
    if call.finish_reason or not started:
        anthropic_usage(call, usage)
    elif usage:
        _cut_usage(call, usage)


def _cut_usage(call: Call, usage: JSON) -> None:
    """A stream cut before `message_delta`: the input is reported, the output count is not."""
    anthropic_usage(call, usage)
    reported, raw = call.usage, call.usage_raw
    call.usage_source = ""
    estimate_missing(call)
    reported.output_tokens = call.usage.output_tokens
    call.usage, call.usage_raw = reported, raw


def _present(usage: JSON) -> JSON:
    return {key: value for key, value in usage.items() if value is not None}


def _index(data: JSON) -> int:
    index = data.get("index")
    return index if isinstance(index, int) else 0


def _piece(delta: JSON) -> str:
    return text(delta.get("text") or delta.get("partial_json") or delta.get("thinking"))
