"""Anthropic messages (`…/v1/messages`), also as served by llama.cpp, vLLM, SGLang, Ollama.

Source: Anthropic API reference (messages, streaming). Stream usage: `message_start` gives the first
counts, each `message_delta` overwrites those it carries; nothing is ever added up.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from llmtap.dialects.answers import (
    expect_stream,
    is_event_stream,
    mark_tokens,
    read_answer,
    read_request,
    stream_events,
    take_error,
)
from llmtap.dialects.errors import anthropic_error
from llmtap.dialects.estimate import estimate_missing
from llmtap.dialects.jsonish import JSON, NotJSON, items, obj, parse, parse_object, text
from llmtap.dialects.model import Call, Exchange, Message, Part
from llmtap.dialects.parts import (
    anthropic_block,
    anthropic_content,
    reasoning_part,
    text_part,
    tool_call_part,
)
from llmtap.dialects.usage import anthropic_usage

_PARAMETERS = frozenset(
    """max_tokens temperature top_p top_k stop_sequences thinking tool_choice service_tier
    output_config""".split()  # noqa: SIM905
)


class AnthropicMessages:
    name = "anthropic_messages"
    provider = "anthropic"
    error_body = staticmethod(anthropic_error)

    def matches(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith("/v1/messages")

    def decode(self, exchange: Exchange) -> Call:
        call = Call(dialect=self.name, operation="chat", provider=self.provider)
        request = read_request(call, exchange)
        expect_stream(call, exchange, request.get("stream") is True)
        _request(call, request)
        if is_event_stream(exchange):
            _stream(call, exchange)
        elif exchange.response_body:
            _whole(call, exchange)
        for message in call.output_messages:
            call.tool_calls += [p["name"] for p in message.parts if p["type"] == "tool_call"]
        estimate_missing(call, exchange)
        return call


DIALECT = AnthropicMessages()


def _request(call: Call, request: JSON) -> None:
    call.model_requested = text(request.get("model"))
    call.request_params = {key: request[key] for key in request if key in _PARAMETERS}
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


def _whole(call: Call, exchange: Exchange) -> None:
    answer = read_answer(call, exchange)
    if call.error_type or "content" not in answer:
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
                return anthropic_block(self.start)


def _arguments(partial: str) -> object:
    """The object that the JSON fragments make up; the text itself when it was cut."""
    try:
        return parse(partial.encode())
    except NotJSON:
        return partial


def _stream(call: Call, exchange: Exchange) -> None:
    blocks: dict[int, _Block] = {}
    token_ends: list[int] = []
    usage: JSON = {}
    started = stopped = False
    call.stream = True
    for event in stream_events(exchange):
        data = parse_object(event.data)
        match data.get("type"):
            case "content_block_delta":
                delta = obj(data.get("delta"))
                piece = delta.get("text") or delta.get("partial_json") or delta.get("thinking")
                if piece:  # signatures and citations are no tokens
                    _block(blocks, data).pieces.append(text(piece))
                    token_ends.append(event.end)
            case "content_block_start":
                block = _block(blocks, data)
                block.start = obj(data.get("content_block"))
                if text(block.start.get("type")).endswith("tool_use"):
                    token_ends.append(event.end)
            case "message_start":
                started = True
                message = obj(data.get("message"))
                _facts(call, message)
                usage |= _present(obj(message.get("usage")))
            case "message_delta":
                delta = obj(data.get("delta"))
                call.finish_reason = text(delta.get("stop_reason")) or call.finish_reason
                usage |= _present(obj(data.get("usage")))
            case "message_stop":
                stopped = True
            case "error":
                take_error(call, data, 0)
            case _:
                if not data:
                    call.decode_error = call.decode_error or "a stream event is not a JSON object"
    call.stream_complete = stopped
    mark_tokens(call, exchange, token_ends)
    if started or blocks:
        parts = [blocks[i].part() for i in sorted(blocks)]
        call.output_messages = [Message("assistant", parts, finish_reason=call.finish_reason)]
    if call.finish_reason or not started:
        anthropic_usage(call, usage)
    elif usage:
        _cut_usage(call, exchange, usage)


def _cut_usage(call: Call, exchange: Exchange, usage: JSON) -> None:
    """A stream cut before `message_delta`: the input is reported, the output only estimated."""
    anthropic_usage(call, usage)
    reported = call.usage
    call.usage_source = ""
    estimate_missing(call, exchange)
    reported.output_tokens = call.usage.output_tokens
    call.usage, call.usage_source = reported, "estimated"


def _block(blocks: dict[int, _Block], data: JSON) -> _Block:
    index = data.get("index")
    index = index if isinstance(index, int) else 0
    block = blocks.get(index)
    if block is None:
        block = blocks[index] = _Block({"type": "text"})
    return block


def _present(usage: JSON) -> JSON:
    return {key: value for key, value in usage.items() if value is not None}
