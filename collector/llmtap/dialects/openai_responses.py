"""OpenAI responses (`…/responses`), also as served by Azure, vLLM, SGLang, llama.cpp, Ollama.

Source: OpenAI API reference (responses). A background answer is fetched later, with its usage, by
GET; what is only fetched again is not counted again. Streams: `openai_responses_stream`.
"""

from __future__ import annotations

from llmtap.dialects.answers import is_event_stream, read_answer, take_error
from llmtap.dialects.errors import openai_error
from llmtap.dialects.estimate import estimate_missing
from llmtap.dialects.jsonish import JSON, dumps, items, obj, text
from llmtap.dialects.model import Call, Exchange, Message
from llmtap.dialects.openai_common import begin, facts
from llmtap.dialects.openai_responses_items import input_messages, output_messages
from llmtap.dialects.openai_responses_stream import read_stream
from llmtap.dialects.parts import text_part
from llmtap.dialects.usage import openai_usage

_PARAMETERS = frozenset(
    """max_output_tokens max_tool_calls text truncation store background include prompt
    previous_response_id conversation context_management prompt_cache_key prompt_cache_retention
    prompt_cache_options""".split()  # noqa: SIM905
)
_UNFINISHED = frozenset(["queued", "in_progress"])


class OpenAIResponses:
    name = "openai_responses"
    provider = "openai"
    error_body = staticmethod(openai_error)

    def matches(self, method: str, path: str) -> bool:
        if method == "POST":
            asked = path.endswith(("/responses", "/responses/compact"))
            return asked or (path.endswith("/cancel") and _names_one(path.removesuffix("/cancel")))
        return method == "GET" and _names_one(path)

    def decode(self, exchange: Exchange) -> Call:
        call, request = begin(exchange, self.name, "chat")
        _request(call, request)
        answer: JSON = {}
        if is_event_stream(exchange):
            answer = read_stream(call, exchange)
        elif exchange.response_body:
            answer = read_answer(call, exchange)
        fetched = exchange.method == "GET" or exchange.path.endswith("/cancel")
        background = answer.get("background") is True or request.get("background") is True
        _answer(call, answer)
        if background or not fetched:
            _usage(call, obj(answer.get("usage")))
        if not background and not fetched:
            estimate_missing(call, exchange)
        return call


DIALECT = OpenAIResponses()


def _names_one(path: str) -> bool:
    """Whether it is `…/responses/ID`."""
    parent, _, name = path.rpartition("/")
    return parent.endswith("/responses") and bool(name)


def _request(call: Call, request: JSON) -> None:
    call.request_params |= {key: request[key] for key in request if key in _PARAMETERS}
    instructions = request.get("instructions")
    if isinstance(instructions, str):
        if instructions:
            call.input_messages.append(Message("system", [text_part(instructions)]))
    else:
        call.input_messages += input_messages(instructions)
    call.input_messages += input_messages(request.get("input"))


def _answer(call: Call, answer: JSON) -> None:
    """Takes a response object; of a stream the last one, its output put together where needed."""
    facts(call, answer)
    call.user_id = call.user_id or text(answer.get("user") or answer.get("safety_identifier"))
    status = text(answer.get("status"))
    reason = text(obj(answer.get("incomplete_details")).get("reason"))
    call.finish_reason = reason or ("" if status in _UNFINISHED else status)
    if answer.get("error") and not call.error_type:
        take_error(call, answer, 0)
    if status == "failed" and not call.error_type:
        call.error_type = status
    call.output_messages = output_messages(items(answer.get("output")))
    for message in call.output_messages:
        if message.role == "assistant":
            message.finish_reason = call.finish_reason
        call.tool_calls += [p["name"] for p in message.parts if p["type"] == "tool_call"]


def _usage(call: Call, raw: JSON) -> None:
    """The object differs from that of chat completions by the names of its fields only."""
    if not raw:
        return
    as_chat = {
        "prompt_tokens": raw.get("input_tokens", raw.get("prompt_tokens")),
        "completion_tokens": raw.get("output_tokens", raw.get("completion_tokens")),
        "total_tokens": raw.get("total_tokens"),
        "prompt_tokens_details": raw.get("input_tokens_details"),
        "completion_tokens_details": raw.get("output_tokens_details"),
    }
    openai_usage(call, as_chat)
    call.usage_raw = dumps(raw)
