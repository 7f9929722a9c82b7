"""OpenAI moderations (paths end in `/moderations`), as also served by Mistral.

Source: OpenAI and Mistral API references. A verdict keeps the categories that hold, with scores.
"""

from __future__ import annotations

from typing import Any

from llmtap.dialects.answers import read_answer
from llmtap.dialects.errors import openai_error
from llmtap.dialects.jsonish import JSON, given, items, obj, text
from llmtap.dialects.model import Call, Exchange, Message
from llmtap.dialects.openai_common import begin, facts, usage
from llmtap.dialects.parts import openai_content, text_part


class OpenAIModerations:
    name = "openai_moderations"
    provider = "openai"
    error_body = staticmethod(openai_error)

    def matches(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith("/moderations")

    def decode(self, exchange: Exchange) -> Call:
        call, request = begin(exchange, self.name, "moderation")
        call.input_messages = _asked(request.get("input"))
        if exchange.response_body:
            answer = read_answer(call, exchange)
            facts(call, answer)
            call.output_messages = [_verdict(obj(raw)) for raw in items(answer.get("results"))]
            usage(call, answer)
        return call


DIALECT = OpenAIModerations()


def _asked(what: Any) -> list[Message]:
    """One message per text; typed parts are one together, as they get one verdict."""
    messages: list[Message] = []
    typed: Message | None = None
    for one in items(what) if isinstance(what, list) else given(what):
        item = obj(one)
        if "role" in item:  # Mistral judges chats
            role = text(item["role"])
            messages.append(Message(role, openai_content(item.get("content"))))
        elif isinstance(one, list):
            messages += _asked(one)
        elif not item:
            messages.append(Message("user", [text_part(one)]))
        elif typed is None:
            typed = Message("user", openai_content([item]))
            messages.append(typed)
        else:
            typed.parts += openai_content([item])
    return messages


def _verdict(result: JSON) -> Message:
    scores = obj(result.get("category_scores"))
    held = [name for name, holds in obj(result.get("categories")).items() if holds is True]
    flagged = result.get("flagged")
    part = {
        "type": "generic",
        "generic_type": "moderation",
        "flagged": flagged if isinstance(flagged, bool) else bool(held),
        "categories": {name: scores.get(name) for name in held},
    }
    return Message("assistant", [part])
