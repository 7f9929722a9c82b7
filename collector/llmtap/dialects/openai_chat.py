"""OpenAI chat completions, and what vLLM, SGLang, llama.cpp, Ollama, Groq, DeepSeek, OpenRouter,
Azure and others speak under a path that ends in `/chat/completions`.

Source: OpenAI API reference (chat), vLLM and llama.cpp server sources; reasoning is read from
`reasoning_content` or `reasoning`, whichever is there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from llmtap.dialects.framing import Event
from llmtap.dialects.jsonish import JSON, items, obj, parse_object, text
from llmtap.dialects.model import Call, Exchange, Message, Part
from llmtap.dialects.openai_common import (
    begin,
    chunks,
    facts,
    is_event_stream,
    mark_token,
    take_error,
)
from llmtap.dialects.parts import (
    openai_content,
    reasoning_part,
    refusal_part,
    text_part,
    tool_call_part,
    tool_response_part,
)
from llmtap.dialects.usage import estimate_missing, last_usage, openai_usage, server_timings


class OpenAIChat:
    name = "openai_chat"
    provider = "openai"

    def matches(self, path: str) -> bool:
        return path.endswith("/chat/completions")

    def decode(self, exchange: Exchange) -> Call:
        call, request = begin(exchange, self.name, "chat")
        call.input_messages = [_message(obj(m)) for m in items(request.get("messages"))]
        if is_event_stream(exchange):
            _stream(call, exchange)
        elif exchange.response_body:
            _whole(call, exchange)
        estimate_missing(call)
        return call


DIALECT = OpenAIChat()


def _message(message: JSON) -> Message:
    role = text(message.get("role"))
    if role in ("tool", "function"):
        content = message.get("content")
        if isinstance(content, list):
            content = openai_content(content)
        parts = [tool_response_part(message.get("tool_call_id"), content)]
        return Message(role, parts, text(message.get("name")))
    return Message(role, _parts(message), text(message.get("name")))


def _reasoning(message: JSON) -> str:
    return text(message.get("reasoning_content") or message.get("reasoning"))


def _parts(message: JSON) -> list[Part]:
    parts: list[Part] = []
    if thought := _reasoning(message):
        parts.append(reasoning_part(thought))
    parts += openai_content(message.get("content"))
    if message.get("refusal"):
        parts.append(refusal_part(message["refusal"]))
    if audio := obj(message.get("audio")):
        parts.append(text_part(audio.get("transcript")))
    for tool in items(message.get("tool_calls")):
        function = obj(obj(tool).get("function") or obj(tool).get("custom"))
        arguments = function.get("arguments", function.get("input"))
        parts.append(tool_call_part(obj(tool).get("id"), function.get("name"), arguments))
    if legacy := obj(message.get("function_call")):
        parts.append(tool_call_part("", legacy.get("name"), legacy.get("arguments")))
    return parts


def _whole(call: Call, exchange: Exchange) -> None:
    answer = parse_object(exchange.response_body)
    if not answer:
        call.decode_error = call.decode_error or "the response body is not a JSON object"
    facts(call, answer)
    take_error(call, answer, exchange.http_status)
    for choice in items(answer.get("choices")):
        message = obj(obj(choice).get("message"))
        finish = text(obj(choice).get("finish_reason"))
        role = text(message.get("role")) or "assistant"
        call.output_messages.append(Message(role, _parts(message), finish_reason=finish))
    _outputs(call)
    openai_usage(call, obj(answer.get("usage")))
    server_timings(call, obj(answer.get("timings")))


def _outputs(call: Call) -> None:
    """Facts of the call that follow from its output messages."""
    if call.output_messages:
        call.finish_reason = call.output_messages[0].finish_reason
    for message in call.output_messages:
        call.tool_calls += [p["name"] for p in message.parts if p["type"] == "tool_call"]


@dataclass(slots=True)
class _Choice:
    """One choice of a stream, being put together."""

    role: str = "assistant"
    text: list[str] = field(default_factory=list[str])
    reasoning: list[str] = field(default_factory=list[str])
    refusal: list[str] = field(default_factory=list[str])
    tools: dict[int, _Tool] = field(default_factory=dict[int, "_Tool"])
    finish: str = ""

    def message(self) -> Message:
        parts: list[Part] = []
        if self.reasoning:
            parts.append(reasoning_part("".join(self.reasoning)))
        if self.text:
            parts.append(text_part("".join(self.text)))
        if self.refusal:
            parts.append(refusal_part("".join(self.refusal)))
        for index in sorted(self.tools):
            tool = self.tools[index]
            parts.append(tool_call_part(tool.id, tool.name, "".join(tool.arguments)))
        return Message(self.role, parts, finish_reason=self.finish)


@dataclass(slots=True)
class _Tool:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list[str])


def _stream(call: Call, exchange: Exchange) -> None:
    choices: dict[int, _Choice] = {}
    events = chunks(call, exchange)
    for event, chunk in events:
        _chunk(call, exchange, event, chunk, choices)
    call.output_messages = [choices[index].message() for index in sorted(choices)]
    _outputs(call)
    documents = [chunk for _, chunk in events]
    openai_usage(call, last_usage(documents))
    for chunk in reversed(documents):
        server_timings(call, obj(chunk.get("timings")))


def _chunk(
    call: Call, exchange: Exchange, event: Event, chunk: JSON, choices: dict[int, _Choice]
) -> None:
    content = False
    for raw in items(chunk.get("choices")):
        item = obj(raw)
        index = item.get("index")
        choice = choices.setdefault(index if isinstance(index, int) else 0, _Choice())
        choice.finish = text(item.get("finish_reason")) or choice.finish
        content |= _delta(choice, obj(item.get("delta") or item.get("message")))
    if content:
        mark_token(call, exchange, event)


def _delta(choice: _Choice, delta: JSON) -> bool:
    """Adds one delta; whether it carried content."""
    content = False
    if delta.get("role"):
        choice.role = text(delta["role"])
    if said := delta.get("content"):
        if isinstance(said, str):
            choice.text.append(text(said))
        else:
            for part in openai_content(said):
                kept = choice.reasoning if part["type"] == "reasoning" else choice.text
                kept.append(text(part.get("content")))
        content = True
    if thought := _reasoning(delta):
        choice.reasoning.append(thought)
        content = True
    if delta.get("refusal"):
        choice.refusal.append(text(delta["refusal"]))
        content = True
    fragments = items(delta.get("tool_calls"))
    if legacy := obj(delta.get("function_call")):
        fragments = [*fragments, {"index": 0, "function": legacy}]
    for raw in fragments:
        fragment = obj(raw)
        index = fragment.get("index")
        tool = choice.tools.setdefault(index if isinstance(index, int) else 0, _Tool())
        function = obj(fragment.get("function"))
        tool.id = tool.id or text(fragment.get("id"))
        tool.name = tool.name or text(function.get("name"))
        tool.arguments.append(text(function.get("arguments")))
        content = True
    return content
