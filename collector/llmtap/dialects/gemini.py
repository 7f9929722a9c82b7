"""Google's Gemini API (`…/models/MODEL:generateContent` and its kin), also as Vertex AI serves it.

Source: Gemini API and Vertex AI references (generateContent, countTokens, errors). The model and
the verb are in the path; streams are SSE or one JSON array: `gemini_stream`.
"""

from __future__ import annotations

from llmtap.dialects.answers import expect_stream, is_event_stream, read_answer, read_request
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
from llmtap.dialects.gemini_stream import Answers, is_array, read_stream
from llmtap.dialects.jsonish import JSON, items, obj
from llmtap.dialects.model import Call, Exchange, Operation

_OPERATIONS: dict[str, Operation] = {
    "generateContent": "chat",
    "streamGenerateContent": "chat",
    "countTokens": "count_tokens",
}
_STREAM = "streamGenerateContent"
_PARAMETERS = ("toolConfig", "safetySettings", "cachedContent", "serviceTier")


class Gemini:
    name = "gemini"
    provider = PROVIDER
    error_body = staticmethod(google_error)

    def matches(self, method: str, path: str) -> bool:
        return method == "POST" and route(path)[1] in _OPERATIONS

    def decode(self, exchange: Exchange) -> Call:
        model, verb = route(exchange.path)
        operation = _OPERATIONS.get(verb, "chat")
        call = Call(dialect=self.name, operation=operation, provider=self.provider)
        request = read_request(call, exchange)
        expect_stream(call, exchange, verb == _STREAM)
        _request(call, obj(get(request, "generateContentRequest")) or request)
        call.model_requested = model
        if _is_stream(exchange, verb):
            _finish(call, read_stream(call, exchange))
        elif exchange.response_body:
            _whole(call, exchange)
        if operation != "count_tokens":
            _estimate(call, exchange)
        return call


DIALECT = Gemini()


def _is_stream(exchange: Exchange, verb: str) -> bool:
    """Whether the answer is chunks. A refusal of the array form is an array too, of one error."""
    if is_event_stream(exchange):
        return True
    return verb == _STREAM and exchange.http_status < 400 and is_array(exchange.response_body)


def _request(call: Call, request: JSON) -> None:
    config = obj(get(request, "generationConfig"))
    named = {name: get(request, name) for name in _PARAMETERS}
    call.request_params = {**config, **{k: v for k, v in named.items() if v is not None}}
    for raw in many(request.get("tools")):
        tool = obj(raw)
        declared = items(get(tool, "functionDeclarations"))
        ours = ("functionDeclarations", "function_declarations")
        others = {key: tool[key] for key in tool if key not in ours}
        call.tool_definitions += [*declared, others] if others else declared
    if system := get(request, "systemInstruction"):
        call.input_messages.append(message(system, "system"))
    call.input_messages += [message(content) for content in many(request.get("contents"))]


def _whole(call: Call, exchange: Exchange) -> None:
    answer = read_answer(call, exchange)
    name_error(call, answer)
    if call.operation == "count_tokens":
        return
    if not exchange.response_complete and call.decode_error and answer:
        unsure = next(reversed(answer))
        if unsure in ("usageMetadata", "usage_metadata"):  # half a usage is none
            del answer[unsure]
    answers = Answers()
    answers.add(answer)
    _finish(call, answers)


def _finish(call: Call, answers: Answers) -> None:
    """Puts on the call what the answer, or all chunks of it, said."""
    call.response_id = answers.response_id
    call.model_served = answers.model
    call.output_messages = answers.messages()
    if call.output_messages:
        call.finish_reason = call.output_messages[0].finish_reason
    for said in call.output_messages:
        call.tool_calls += [p["name"] for p in said.parts if p["type"] == "tool_call"]
    if answers.blocked:
        call.finish_reason = call.finish_reason or answers.blocked
        call.error_type = call.error_type or "prompt_blocked"
        call.error_message = call.error_message or answers.block_message or answers.blocked
    gemini_usage(call, answers.usage, ended=answers.ended())


def _estimate(call: Call, exchange: Exchange) -> None:
    """Where nothing was reported; or only the input, of a stream that was cut."""
    if call.usage_source == "reported" and not call.stream_complete:
        _cut_usage(call, exchange)
    else:
        estimate_missing(call, exchange)


def _cut_usage(call: Call, exchange: Exchange) -> None:
    """Chunks count what they have seen so far; those before the first count name the input only."""
    reported = call.usage
    if reported.output_tokens is not None:
        return
    call.usage_source = ""
    estimate_missing(call, exchange)
    reported.output_tokens = call.usage.output_tokens
    call.usage = reported
    call.usage_source = call.usage_source or "reported"
