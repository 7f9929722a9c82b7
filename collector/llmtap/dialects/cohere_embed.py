"""Cohere's embeddings (`/v2/embed`, `/v1/embed`): texts or images in; vectors are not kept.

Source: Cohere API reference. `meta.billed_units` counts tokens of texts; images are billed apart.
"""

from __future__ import annotations

from llmtap.dialects.answers import read_answer, read_request
from llmtap.dialects.errors import openai_error
from llmtap.dialects.estimate import estimate_missing
from llmtap.dialects.jsonish import dumps, items, obj, text
from llmtap.dialects.model import Call, Exchange, Message
from llmtap.dialects.parts import media_part, openai_content, text_part
from llmtap.dialects.usage import openai_usage

_PARAMETERS = frozenset(
    "input_type embedding_types truncate output_dimension max_tokens priority".split()  # noqa: SIM905
)


class CohereEmbed:
    name = "cohere_embed"
    provider = "cohere"
    error_body = staticmethod(openai_error)

    def matches(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith(("/v2/embed", "/v1/embed"))

    def decode(self, exchange: Exchange) -> Call:
        call = Call(dialect=self.name, operation="embeddings", provider=self.provider)
        request = read_request(call, exchange)
        call.model_requested = text(request.get("model"))
        call.request_params = {key: request[key] for key in request if key in _PARAMETERS}
        for one in items(request.get("texts")):
            call.input_messages.append(Message("user", [text_part(one)]))
        for one in items(request.get("images")):
            call.input_messages.append(Message("user", [media_part(one, "image")]))
        for one in items(request.get("inputs")):
            parts = openai_content(obj(one).get("content"))
            call.input_messages.append(Message("user", parts))
        if exchange.response_body:
            answer = read_answer(call, exchange)
            call.response_id = text(answer.get("id"))
            units = obj(obj(answer.get("meta")).get("billed_units"))
            if units.get("input_tokens") is not None:
                told = {"prompt_tokens": units["input_tokens"], "completion_tokens": 0}
                openai_usage(call, told)
                call.usage_raw = dumps(units)
        estimate_missing(call, exchange)
        return call


DIALECT = CohereEmbed()
