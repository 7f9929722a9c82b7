"""Gemini's embeddings: `:embedContent`, `:batchEmbedContents`, and Vertex AI's `:predict`.

Source: Gemini API and Vertex AI references (embeddings). Vectors are not kept. Vertex counts tokens
per text, beside each vector; Gemini in `usageMetadata`, where it counts at all.
"""

from __future__ import annotations

from llmtap.dialects.answers import read_answer, read_request
from llmtap.dialects.errors import google_error
from llmtap.dialects.estimate import estimate_missing
from llmtap.dialects.gemini_common import (
    PROVIDER,
    gemini_usage,
    get,
    many,
    message,
    name_error,
    route,
)
from llmtap.dialects.jsonish import JSON, items, obj
from llmtap.dialects.model import Call, Exchange, Message
from llmtap.dialects.parts import text_part

_VERBS = frozenset(["embedContent", "batchEmbedContents"])
_PREDICT = "predict"
_VERTEX_MODELS = ("embedding", "gecko")
_PARAMETERS = (
    *("taskType", "task_type", "title", "outputDimensionality", "output_dimensionality"),
    *("autoTruncate", "auto_truncate"),
)


class GeminiEmbeddings:
    name = "gemini_embeddings"
    provider = PROVIDER
    error_body = staticmethod(google_error)

    def matches(self, method: str, path: str) -> bool:
        model, verb = route(path)
        vertex = verb == _PREDICT and any(name in model for name in _VERTEX_MODELS)
        return method == "POST" and (verb in _VERBS or vertex)

    def decode(self, exchange: Exchange) -> Call:
        call = Call(dialect=self.name, operation="embeddings", provider=self.provider)
        call.model_requested, verb = route(exchange.path)
        request = read_request(call, exchange)
        if verb == _PREDICT:
            _instances(call, request)
        else:
            for one in many(request.get("requests")) or [request]:
                _one(call, obj(one))
        if exchange.response_body:
            answer = read_answer(call, exchange)
            name_error(call, answer)
            gemini_usage(call, obj(get(answer, "usageMetadata")) or _statistics(answer), ended=True)
        estimate_missing(call, exchange)
        return call


DIALECT = GeminiEmbeddings()


def _one(call: Call, request: JSON) -> None:
    config = {**request, **obj(get(request, "embedContentConfig"))}
    call.request_params |= {key: config[key] for key in config if key in _PARAMETERS}
    if content := request.get("content"):
        call.input_messages.append(message(content))


def _instances(call: Call, request: JSON) -> None:
    parameters = obj(request.get("parameters"))
    call.request_params = {key: parameters[key] for key in parameters if key in _PARAMETERS}
    for raw in items(request.get("instances")):
        instance = obj(raw)
        call.request_params |= {key: instance[key] for key in instance if key in _PARAMETERS}
        call.input_messages.append(Message("user", [text_part(instance.get("content"))]))


def _statistics(answer: JSON) -> JSON:
    """Vertex's counts of all vectors, as one usage."""
    found: list[int] = []
    for raw in items(answer.get("predictions")):
        counted = get(obj(obj(obj(raw).get("embeddings")).get("statistics")), "tokenCount")
        if isinstance(counted, int | float):
            found.append(int(counted))
    return {"promptTokenCount": sum(found)} if found else {}
