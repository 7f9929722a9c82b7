"""OpenAI embeddings (paths end in `/embeddings`): texts in, vectors out. Vectors are not kept."""

from __future__ import annotations

from llmtap.dialects.answers import read_answer
from llmtap.dialects.errors import openai_error
from llmtap.dialects.estimate import estimate_missing
from llmtap.dialects.jsonish import given, items
from llmtap.dialects.model import Call, Exchange, Message
from llmtap.dialects.openai_common import begin, facts, usage
from llmtap.dialects.parts import is_token_ids, openai_content, prompt_part


class OpenAIEmbeddings:
    name = "openai_embeddings"
    provider = "openai"
    error_body = staticmethod(openai_error)

    def matches(self, method: str, path: str) -> bool:
        ours = path.endswith("/embeddings") and not path.endswith("/api/embeddings")
        return method == "POST" and ours

    def decode(self, exchange: Exchange) -> Call:
        call, request = begin(exchange, self.name, "embeddings")
        what = request.get("input")
        several = isinstance(what, list) and not is_token_ids(what)
        for one in items(what) if several else given(what):
            if isinstance(one, list) and not is_token_ids(one):
                call.input_messages.append(Message("user", openai_content(one)))
            else:
                call.input_messages.append(Message("user", [prompt_part(one)]))
        if exchange.response_body:
            answer = read_answer(call, exchange)
            facts(call, answer)
            usage(call, answer)
        estimate_missing(call, exchange)
        return call


DIALECT = OpenAIEmbeddings()
