"""Reranking (paths end in `/rerank`): a query and documents in, their order and scores out.

Spoken alike by Cohere (v1, v2), Jina, Voyage, vLLM, llama.cpp and text-embeddings-inference (TEI:
`texts` in, a bare list out). Source: their API references. Documents in the answer are not kept.
"""

from __future__ import annotations

from typing import Any

from llmtap.dialects.answers import read_answer, read_request
from llmtap.dialects.errors import openai_error
from llmtap.dialects.jsonish import JSON, NotJSON, dumps, items, obj, parse, text
from llmtap.dialects.model import Call, Exchange, Message, Part
from llmtap.dialects.parts import text_part
from llmtap.dialects.usage import openai_usage

_PARAMETERS = frozenset(
    """top_n top_k return_documents max_tokens_per_doc max_chunks_per_doc truncation truncate
    raw_scores return_text rank_fields priority""".split()  # noqa: SIM905
)


class Rerank:
    name = "rerank"
    provider = ""
    error_body = staticmethod(openai_error)

    def matches(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith("/rerank")

    def decode(self, exchange: Exchange) -> Call:
        cohere = exchange.path.endswith("/v2/rerank")
        call = Call(dialect=self.name, operation="rerank", provider="cohere" if cohere else "")
        request = read_request(call, exchange)
        call.model_requested = text(request.get("model"))
        call.request_params = {key: request[key] for key in request if key in _PARAMETERS}
        documents = items(request.get("documents") or request.get("texts"))
        call.input_messages = [Message("user", [text_part(request.get("query"))])]
        if documents:
            parts = [text_part(_document(document)) for document in documents]
            call.input_messages.append(Message("user", parts, name="documents"))
        if exchange.response_body:
            _answer(call, exchange)
        return call


DIALECT = Rerank()


def _document(document: Any) -> Any:
    """A text, or an object around one."""
    return obj(document).get("text", document) if isinstance(document, dict) else document


def _answer(call: Call, exchange: Exchange) -> None:
    if exchange.http_status < 400 and exchange.response_body.lstrip()[:1] == b"[":  # TEI
        try:
            results = items(parse(exchange.response_body))
        except NotJSON:
            call.decode_error = "the response body is not JSON"
            return
    else:
        answer = read_answer(call, exchange)
        if call.error_type:
            return
        call.response_id = text(answer.get("id"))
        call.model_served = text(answer.get("model"))
        results = items(answer.get("results") or answer.get("data"))
        _usage(call, answer)
    call.output_messages = [Message("assistant", [_results(results)])]


def _results(results: list[Any]) -> Part:
    ranked: list[JSON] = []
    for raw in results:
        one = obj(raw)
        score = one.get("relevance_score", one.get("score"))
        ranked.append({"index": one.get("index"), "score": score})
    return {"type": "generic", "generic_type": "ranking", "results": ranked}


def _usage(call: Call, answer: JSON) -> None:
    """Tokens where they are told (Jina, Voyage: a total, which is all input), or search units."""
    raw = obj(answer.get("usage"))
    units = obj(obj(answer.get("meta")).get("billed_units"))
    if raw:
        into = raw.get("prompt_tokens", raw.get("total_tokens"))
        openai_usage(call, {"prompt_tokens": into, "completion_tokens": 0})
        call.usage_raw = dumps(raw)
    elif units:
        call.usage_source = "reported"
        call.usage_raw = dumps(units)
