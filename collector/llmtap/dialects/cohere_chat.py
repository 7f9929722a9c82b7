"""Cohere's chat (`/v2/chat`), whole and as an event stream.

Source: Cohere API reference v2. Events: message-start, content-start|delta|end, tool-plan-delta,
tool-call-start|delta|end, citation-*, message-end (with finish reason and usage). The plan of tool
calls is reasoning. `usage.tokens` counts; `billed_units` stays in `usage_raw`.
"""

from __future__ import annotations

from llmtap.dialects.answers import (
    expect_stream,
    is_event_stream,
    mark_tokens,
    read_answer,
    read_request,
    stream_events,
    take_error,
)
from llmtap.dialects.errors import openai_error
from llmtap.dialects.estimate import estimate_missing
from llmtap.dialects.jsonish import JSON, dumps, items, obj, parse_object, text
from llmtap.dialects.model import Call, Exchange, Message, Part
from llmtap.dialects.parts import (
    generic_part,
    openai_content,
    reasoning_part,
    text_part,
    tool_call_part,
    tool_response_part,
)
from llmtap.dialects.usage import openai_usage

_PARAMETERS = frozenset(
    """temperature max_tokens p k seed stop_sequences frequency_penalty presence_penalty logprobs
    response_format tool_choice strict_tools safety_mode citation_options thinking
    priority""".split()  # noqa: SIM905
)


class CohereChat:
    name = "cohere_chat"
    provider = "cohere"
    error_body = staticmethod(openai_error)

    def matches(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith("/v2/chat")

    def decode(self, exchange: Exchange) -> Call:
        call = Call(dialect=self.name, operation="chat", provider=self.provider)
        request = read_request(call, exchange)
        expect_stream(call, exchange, request.get("stream") is True)
        _request(call, request)
        if is_event_stream(exchange):
            _stream(call, exchange)
        elif exchange.response_body:
            _whole(call, exchange)
        for message in call.output_messages:
            call.tool_calls += [p["name"] for p in message.parts if p["type"] == "tool_call"]
        estimate_missing(call, exchange)
        return call


DIALECT = CohereChat()


def _request(call: Call, request: JSON) -> None:
    call.model_requested = text(request.get("model"))
    call.request_params = {key: request[key] for key in request if key in _PARAMETERS}
    call.tool_definitions = items(request.get("tools"))
    if documents := items(request.get("documents")):
        parts = [
            generic_part({**obj(d), "type": "document"}) if isinstance(d, dict) else text_part(d)
            for d in documents
        ]
        call.input_messages.append(Message("user", parts, name="documents"))
    for raw in items(request.get("messages")):
        message = obj(raw)
        role = text(message.get("role"))
        if role == "tool":
            content = message.get("content")
            if isinstance(content, list):
                content = openai_content(content)
            parts = [tool_response_part(message.get("tool_call_id"), content)]
        else:
            parts = _parts(message)
        call.input_messages.append(Message(role, parts))


def _parts(message: JSON) -> list[Part]:
    parts: list[Part] = []
    if plan := message.get("tool_plan"):
        parts.append(reasoning_part(plan))
    parts += openai_content(message.get("content"))
    for raw in items(message.get("tool_calls")):
        parts.append(_tool_call(obj(raw)))
    return parts


def _tool_call(tool: JSON) -> Part:
    function = obj(tool.get("function"))
    return tool_call_part(tool.get("id"), function.get("name"), function.get("arguments"))


def _whole(call: Call, exchange: Exchange) -> None:
    answer = read_answer(call, exchange)
    if call.error_type or "message" not in answer:
        return
    call.response_id = text(answer.get("id"))
    call.finish_reason = text(answer.get("finish_reason"))
    message = obj(answer.get("message"))
    role = text(message.get("role")) or "assistant"
    call.output_messages = [Message(role, _parts(message), finish_reason=call.finish_reason)]
    _usage(call, obj(answer.get("usage")))


class _Said:
    """The parts of a streamed answer, by the index of their content or tool call."""

    def __init__(self) -> None:
        self.plan: list[str] = []
        self.contents: dict[int, tuple[str, list[str]]] = {}
        self.tools: dict[int, tuple[JSON, list[str]]] = {}

    def content(self, index: int, kind: str, piece: str) -> bool:
        known = self.contents.setdefault(index, (kind, []))
        known[1].append(piece)
        return bool(piece)

    def tool(self, index: int, begun: JSON) -> bool:
        function = obj(begun.get("function"))
        known = self.tools.setdefault(index, (begun, []))
        known[1].append(text(function.get("arguments")))
        return True

    def parts(self) -> list[Part]:
        parts = [reasoning_part("".join(self.plan))] if self.plan else []
        for _, (kind, pieces) in sorted(self.contents.items()):
            said = "".join(pieces)
            if said:
                parts.append(reasoning_part(said) if kind == "thinking" else text_part(said))
        for _, (begun, pieces) in sorted(self.tools.items()):
            name = obj(begun.get("function")).get("name")
            parts.append(tool_call_part(begun.get("id"), name, "".join(pieces)))
        return parts


def _stream(call: Call, exchange: Exchange) -> None:
    said = _Said()
    ends: list[int] = []
    call.stream, call.stream_complete = True, False
    seen = False
    for event in stream_events(exchange):
        told = parse_object(event.data)
        seen = seen or bool(told)
        if _take(call, said, told):
            ends.append(event.end)
    mark_tokens(call, exchange, ends)
    if seen and (said.parts() or call.stream_complete):
        message = Message("assistant", said.parts(), finish_reason=call.finish_reason)
        call.output_messages = [message]


def _take(call: Call, said: _Said, told: JSON) -> bool:
    """Takes one event; whether it carried content."""
    raw_index = told.get("index")
    index = raw_index if isinstance(raw_index, int) else 0
    delta = obj(told.get("delta"))
    message = obj(delta.get("message"))
    match told.get("type"):
        case "message-start":
            call.response_id = text(told.get("id"))
        case "content-start" | "content-delta":
            content = obj(message.get("content"))
            kind = "thinking" if "thinking" in content else text(content.get("type")) or "text"
            return said.content(index, kind, text(content.get("thinking") or content.get("text")))
        case "tool-plan-delta":
            said.plan.append(text(message.get("tool_plan")))
            return True
        case "tool-call-start" | "tool-call-delta":
            return said.tool(index, obj(message.get("tool_calls")))
        case "message-end":
            call.finish_reason = text(delta.get("finish_reason"))
            call.stream_complete = True
            if delta.get("error"):
                call.error_type, call.error_message = "error", text(delta["error"])
            _usage(call, obj(delta.get("usage")))
        case _:
            if "type" not in told:
                take_error(call, told, 0)
    return False


def _usage(call: Call, raw: JSON) -> None:
    tokens = obj(raw.get("tokens")) or obj(raw.get("billed_units"))
    if not tokens:
        return
    details = {"cached_tokens": raw["cached_tokens"]} if "cached_tokens" in raw else None
    openai_usage(
        call,
        {
            "prompt_tokens": tokens.get("input_tokens"),
            "completion_tokens": tokens.get("output_tokens"),
            "prompt_tokens_details": details,
        },
    )
    call.usage_raw = dumps(raw)
