"""OpenAI (legacy) completions: a prompt in, `choices[].text` out. Paths end in `/completions`."""

from __future__ import annotations

from llmtap.dialects.jsonish import given, items, obj, parse_object, text
from llmtap.dialects.model import Call, Exchange, Message
from llmtap.dialects.openai_common import (
    begin,
    chunks,
    facts,
    is_event_stream,
    mark_token,
    take_error,
)
from llmtap.dialects.parts import text_part
from llmtap.dialects.usage import estimate_missing, last_usage, openai_usage, server_timings


class OpenAICompletions:
    name = "openai_completions"
    provider = "openai"

    def matches(self, path: str) -> bool:
        return path.endswith("/completions") and not path.endswith("/chat/completions")

    def decode(self, exchange: Exchange) -> Call:
        call, request = begin(exchange, self.name, "text_completion")
        prompt = request.get("prompt")
        several = isinstance(prompt, list) and all(isinstance(p, str) for p in items(prompt))
        for one in items(prompt) if several else given(prompt):
            call.input_messages.append(Message("user", [text_part(one)]))
        if is_event_stream(exchange):
            _stream(call, exchange)
        elif exchange.response_body:
            _whole(call, exchange)
        if call.output_messages:
            call.finish_reason = call.output_messages[0].finish_reason
        estimate_missing(call)
        return call


DIALECT = OpenAICompletions()


def _whole(call: Call, exchange: Exchange) -> None:
    answer = parse_object(exchange.response_body)
    if not answer:
        call.decode_error = call.decode_error or "the response body is not a JSON object"
    facts(call, answer)
    take_error(call, answer, exchange.http_status)
    for raw in items(answer.get("choices")):
        choice = obj(raw)
        finish = text(choice.get("finish_reason"))
        parts = [text_part(choice.get("text"))]
        call.output_messages.append(Message("assistant", parts, finish_reason=finish))
    openai_usage(call, obj(answer.get("usage")))
    server_timings(call, obj(answer.get("timings")))


def _stream(call: Call, exchange: Exchange) -> None:
    texts: dict[int, list[str]] = {}
    finish: dict[int, str] = {}
    events = chunks(call, exchange)
    for event, chunk in events:
        said = False
        for raw in items(chunk.get("choices")):
            choice = obj(raw)
            index = choice.get("index")
            index = index if isinstance(index, int) else 0
            piece = text(choice.get("text"))
            texts.setdefault(index, []).append(piece)
            finish[index] = text(choice.get("finish_reason")) or finish.get(index, "")
            said = said or bool(piece)
        if said:
            mark_token(call, exchange, event)
    for index in sorted(texts):
        parts = [text_part("".join(texts[index]))]
        call.output_messages.append(Message("assistant", parts, finish_reason=finish[index]))
    documents = [chunk for _, chunk in events]
    openai_usage(call, last_usage(documents))
    for chunk in reversed(documents):
        server_timings(call, obj(chunk.get("timings")))
