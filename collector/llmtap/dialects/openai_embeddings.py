"""OpenAI embeddings (paths end in `/embeddings`): texts in, vectors out. Vectors are not kept."""

from __future__ import annotations

from llmtap.dialects.jsonish import given, items, obj, parse_object
from llmtap.dialects.model import Call, Exchange, Message
from llmtap.dialects.openai_common import begin, facts, take_error
from llmtap.dialects.parts import openai_content, text_part
from llmtap.dialects.usage import estimate_missing, openai_usage


class OpenAIEmbeddings:
    name = "openai_embeddings"
    provider = "openai"

    def matches(self, path: str) -> bool:
        return path.endswith("/embeddings") and not path.endswith("/api/embeddings")

    def decode(self, exchange: Exchange) -> Call:
        call, request = begin(exchange, self.name, "embeddings")
        what = request.get("input")
        several = isinstance(what, list) and not all(isinstance(i, int) for i in items(what))
        for one in items(what) if several else given(what):
            if isinstance(one, list) and not all(isinstance(i, int) for i in items(one)):
                call.input_messages.append(Message("user", openai_content(one)))
            else:
                call.input_messages.append(Message("user", [text_part(one)]))
        if exchange.response_body:
            answer = parse_object(exchange.response_body)
            if not answer:
                call.decode_error = call.decode_error or "the response body is not a JSON object"
            facts(call, answer)
            take_error(call, answer, exchange.http_status)
            openai_usage(call, obj(answer.get("usage")))
        estimate_missing(call)
        return call


DIALECT = OpenAIEmbeddings()
