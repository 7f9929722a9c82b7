"""Anthropic's message batches (`…/messages/batches`, `/{id}`, `/{id}/cancel`, `/{id}/results`).

Source: Anthropic API reference and SDK. Of the requests and results only their number is kept: they
are calls of their own, and a poll of a batch uses nothing.
"""

from __future__ import annotations

import re
from collections import Counter

from llmtap.dialects.answers import read_answer, read_request
from llmtap.dialects.errors import anthropic_error
from llmtap.dialects.framing import ndjson
from llmtap.dialects.jsonish import JSON, items, obj, parse_object, text
from llmtap.dialects.model import Call, Exchange, Message, Part
from llmtap.dialects.parts import generic_part

_PATH = re.compile(r"/messages/batches(?:/[^/]+(/cancel|/results)?)?\Z")
_FACTS = frozenset(
    """id processing_status request_counts created_at ended_at expires_at archived_at
    cancel_initiated_at results_url""".split()  # noqa: SIM905
)


class AnthropicBatches:
    name = "anthropic_batches"
    provider = "anthropic"
    error_body = staticmethod(anthropic_error)

    def matches(self, method: str, path: str) -> bool:
        return method in ("GET", "POST", "DELETE") and _PATH.search(path) is not None

    def decode(self, exchange: Exchange) -> Call:
        call = Call(dialect=self.name, operation="batch", provider=self.provider)
        _request(call, read_request(call, exchange))
        match = _PATH.search(exchange.path)
        if match is not None and match[1] == "/results" and exchange.http_status < 400:
            call.output_messages = [Message("assistant", [_results(exchange)])]
        elif exchange.response_body:
            _answer(call, exchange)
        return call


DIALECT = AnthropicBatches()


def _request(call: Call, request: JSON) -> None:
    """The model is named if all requests ask for one and the same."""
    if "requests" not in request:
        return
    asked = [obj(obj(one).get("params")) for one in items(request["requests"])]
    models = sorted({text(params.get("model")) for params in asked})
    call.request_params = {"requests": len(asked)}
    if len(models) == 1:
        call.model_requested = models[0]
    part = {"type": "batch_requests", "count": len(asked), "models": models}
    call.input_messages = [Message("user", [generic_part(part)])]


def _results(exchange: Exchange) -> Part:
    lines, _ = ndjson(exchange.response_body)
    results = [obj(parse_object(line.data).get("result")) for line in lines]
    kinds = Counter(text(result.get("type")) for result in results)
    size = len(exchange.response_body)
    return generic_part({"type": "batch_results", "size": size, "results": dict(kinds)})


def _answer(call: Call, exchange: Exchange) -> None:
    answer = read_answer(call, exchange)
    if call.error_type or not answer:
        return
    if isinstance(answer.get("data"), list):
        part: JSON = {"type": "batch_list", "count": len(items(answer["data"]))}
    else:
        call.response_id = text(answer.get("id"))
        told = {key: answer[key] for key in answer if key in _FACTS and answer[key] is not None}
        part = {**told, "type": "batch"}
    call.output_messages = [Message("assistant", [generic_part(part)])]
