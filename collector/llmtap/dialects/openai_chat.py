"""OpenAI chat completions, and what vLLM, SGLang, llama.cpp, Ollama, Groq, DeepSeek, OpenRouter,
Azure and others speak under a path that ends in `/chat/completions`.

Source: OpenAI API reference (chat), vLLM and llama.cpp server sources; reasoning is read from
`reasoning_content` or `reasoning`, whichever is there. Streams: `openai_chat_stream`.
"""

from __future__ import annotations

from llmtap.dialects.answers import is_event_stream, read_answer
from llmtap.dialects.errors import openai_error
from llmtap.dialects.estimate import estimate_missing
from llmtap.dialects.jsonish import JSON, items, obj, text
from llmtap.dialects.model import Call, Exchange, Message, Part
from llmtap.dialects.openai_chat_stream import read_stream
from llmtap.dialects.openai_common import begin, facts, usage
from llmtap.dialects.parts import (
    blob_part,
    openai_content,
    reasoning_part,
    refusal_part,
    text_part,
    tool_call_part,
    tool_response_part,
)


class OpenAIChat:
    name = "openai_chat"
    provider = "openai"
    error_body = staticmethod(openai_error)

    def matches(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith("/chat/completions")

    def decode(self, exchange: Exchange) -> Call:
        call, request = begin(exchange, self.name, "chat")
        call.input_messages = [_message(obj(m)) for m in items(request.get("messages"))]
        if is_event_stream(exchange):
            call.output_messages = read_stream(call, exchange)
        elif exchange.response_body:
            _whole(call, exchange)
        if call.output_messages:
            call.finish_reason = call.output_messages[0].finish_reason
        for message in call.output_messages:
            call.tool_calls += [p["name"] for p in message.parts if p["type"] == "tool_call"]
        estimate_missing(call, exchange)
        return call


DIALECT = OpenAIChat()


def _message(message: JSON) -> Message:
    role = text(message.get("role"))
    name = text(message.get("name"))
    if role in ("tool", "function"):
        content = message.get("content")
        if isinstance(content, list):
            content = openai_content(content)
        return Message(role, [tool_response_part(message.get("tool_call_id"), content)], name)
    return Message(role, _parts(message), name)


def _parts(message: JSON) -> list[Part]:
    parts: list[Part] = []
    if thought := message.get("reasoning_content") or message.get("reasoning"):
        parts.append(reasoning_part(thought))
    parts += openai_content(message.get("content"))
    if message.get("refusal"):
        parts.append(refusal_part(message["refusal"]))
    if audio := obj(message.get("audio")):
        parts += _audio(audio)
    parts += openai_content(message.get("images"))  # OpenRouter: images that were made
    for raw in items(message.get("tool_calls")):
        tool = obj(raw)
        function = obj(tool.get("function") or tool.get("custom"))
        arguments = function.get("arguments", function.get("input"))
        parts.append(tool_call_part(tool.get("id"), function.get("name"), arguments))
    if legacy := obj(message.get("function_call")):
        parts.append(tool_call_part("", legacy.get("name"), legacy.get("arguments")))
    return parts


def _audio(audio: JSON) -> list[Part]:
    """A spoken answer: what was said, and the sound as a blob."""
    parts: list[Part] = []
    if audio.get("transcript"):
        parts.append(text_part(audio["transcript"]))
    if audio.get("data"):
        parts.append(blob_part(audio["data"], "", "audio"))
    return parts


def _whole(call: Call, exchange: Exchange) -> None:
    answer = read_answer(call, exchange)
    facts(call, answer)
    for raw in items(answer.get("choices")):
        choice = obj(raw)
        message = obj(choice.get("message"))
        finish = text(choice.get("finish_reason"))
        role = text(message.get("role")) or "assistant"
        call.output_messages.append(Message(role, _parts(message), finish_reason=finish))
    usage(call, answer)
