"""OpenAI (legacy) completions: a prompt in, `choices[].text` out. Paths end in `/completions`.

Also read there: Mistral's fill-in-the-middle (choices with messages) and llama.cpp's own
`/completion`, `/completions` and `/infill` (`content` and `stop` without choices, no `[DONE]`).
"""

from __future__ import annotations

from llmtap.dialects.answers import is_event_stream, mark_tokens, read_answer
from llmtap.dialects.errors import openai_error
from llmtap.dialects.estimate import estimate_missing
from llmtap.dialects.jsonish import JSON, given, items, obj, text
from llmtap.dialects.model import Call, Exchange, Message
from llmtap.dialects.openai_common import begin, chunks, facts, usage
from llmtap.dialects.parts import is_token_ids, prompt_part, text_part


class OpenAICompletions:
    name = "openai_completions"
    provider = "openai"
    error_body = staticmethod(openai_error)

    def matches(self, method: str, path: str) -> bool:
        ours = path.endswith(("/completions", "/completion", "/infill"))
        return method == "POST" and ours and not path.endswith("/chat/completions")

    def decode(self, exchange: Exchange) -> Call:
        call, request = begin(exchange, self.name, "text_completion")
        prompt = request.get("prompt")
        if exchange.path.endswith("/infill"):
            sides = (request.get("input_prefix"), prompt, request.get("input_suffix"))
            prompt = "".join(text(side) for side in sides if side)
        several = isinstance(prompt, list) and not is_token_ids(prompt)
        for one in items(prompt) if several else given(prompt):
            call.input_messages.append(Message("user", [prompt_part(one)]))
        if is_event_stream(exchange):
            _stream(call, exchange)
        elif exchange.response_body:
            _whole(call, exchange)
        if call.output_messages:
            call.finish_reason = call.output_messages[0].finish_reason
        estimate_missing(call, exchange)
        return call


DIALECT = OpenAICompletions()


def _choices(answer: JSON) -> list[JSON]:
    if "choices" not in answer and "content" in answer:  # llama.cpp's own
        return [{**answer, "text": answer["content"], "finish_reason": answer.get("stop_type")}]
    return [obj(choice) for choice in items(answer.get("choices"))]


def _said(choice: JSON) -> str:
    message = obj(choice.get("delta") or choice.get("message"))
    return text(choice.get("text") or message.get("content"))


def _whole(call: Call, exchange: Exchange) -> None:
    answer = read_answer(call, exchange)
    facts(call, answer)
    for choice in _choices(answer):
        finish = text(choice.get("finish_reason"))
        parts = [text_part(_said(choice))]
        call.output_messages.append(Message("assistant", parts, finish_reason=finish))
    usage(call, answer)


def _stream(call: Call, exchange: Exchange) -> None:
    texts: dict[int, list[str]] = {}
    finish: dict[int, str] = {}
    token_ends: list[int] = []
    for end, chunk in chunks(call, exchange):
        content = False
        for choice in _choices(chunk):
            index = choice.get("index")
            index = index if isinstance(index, int) else 0
            piece = _said(choice)
            texts.setdefault(index, []).append(piece)
            finish[index] = text(choice.get("finish_reason")) or finish.get(index, "")
            content = content or bool(piece)
        if content:
            token_ends.append(end)
        if chunk.get("stop") is True:
            call.stream_complete = True
    for index in sorted(texts):
        parts = [text_part("".join(texts[index]))]
        call.output_messages.append(Message("assistant", parts, finish_reason=finish[index]))
    mark_tokens(call, exchange, token_ends)
