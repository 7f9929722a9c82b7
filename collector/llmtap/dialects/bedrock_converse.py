"""Amazon Bedrock's Converse API: `/model/{id}/converse` and `/model/{id}/converse-stream`.

Source: Bedrock Runtime API reference and botocore's service model. The model is in the path (URL
encoded; an ARN or inference profile too). Streams are event-stream frames; exceptions come as
frames as well. Input tokens exclude cache reads and writes, as Anthropic's.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from llmtap.dialects.answers import mark_tokens, read_answer, read_request
from llmtap.dialects.aws_eventstream import frames
from llmtap.dialects.errors import openai_error
from llmtap.dialects.estimate import estimate_missing
from llmtap.dialects.jsonish import JSON, clean, dumps, items, obj, parse_object, text
from llmtap.dialects.model import Call, Exchange, Message, Part
from llmtap.dialects.parts import (
    blob_part,
    generic_part,
    reasoning_part,
    text_part,
    tool_call_part,
    tool_response_part,
)
from llmtap.dialects.usage import anthropic_usage

_STREAM = "/converse-stream"


class BedrockConverse:
    name = "bedrock_converse"
    provider = "aws"
    error_body = staticmethod(openai_error)

    def matches(self, method: str, path: str) -> bool:
        ours = "/model/" in path and path.endswith(("/converse", _STREAM))
        return method == "POST" and ours

    def decode(self, exchange: Exchange) -> Call:
        call = Call(dialect=self.name, operation="chat", provider=self.provider)
        request = read_request(call, exchange)
        model = exchange.path.rpartition("/model/")[2].rpartition("/")[0]
        call.model_requested = clean(unquote(model))
        _request(call, request)
        call.stream = exchange.path.endswith(_STREAM)
        if not exchange.response_body:
            call.stream_complete = not call.stream
        elif call.stream and exchange.http_status < 300:
            _stream(call, exchange)
        else:
            _whole(call, exchange)
        for message in call.output_messages:
            call.tool_calls += [p["name"] for p in message.parts if p["type"] == "tool_call"]
        estimate_missing(call, exchange)
        return call


DIALECT = BedrockConverse()


def _request(call: Call, request: JSON) -> None:
    call.request_params = {
        **obj(request.get("inferenceConfig")),
        **obj(request.get("additionalModelRequestFields")),
    }
    tools = obj(request.get("toolConfig"))
    call.tool_definitions = items(tools.get("tools"))
    if choice := tools.get("toolChoice"):
        call.request_params["toolChoice"] = choice
    if system := items(request.get("system")):
        call.input_messages.append(Message("system", _parts(system)))
    for raw in items(request.get("messages")):
        message = obj(raw)
        parts = _parts(items(message.get("content")))
        call.input_messages.append(Message(text(message.get("role")), parts))


def _parts(blocks: list[Any]) -> list[Part]:
    return [_part(obj(block)) for block in blocks]


def _part(block: JSON) -> Part:
    """A block is an object with one key that says what it is."""
    kind = next(iter(block), "")
    value = block.get(kind)
    inner = obj(value)
    match kind:
        case "text":
            return text_part(value)
        case "toolUse":
            return tool_call_part(inner.get("toolUseId"), inner.get("name"), inner.get("input"))
        case "toolResult":
            result = [_tool_result(obj(one)) for one in items(inner.get("content"))]
            return tool_response_part(inner.get("toolUseId"), result)
        case "reasoningContent":
            return reasoning_part(obj(inner.get("reasoningText")).get("text"))
        case "image" | "document" | "video" | "audio":
            return _media(inner, "file" if kind == "document" else kind)
        case _:
            return generic_part({**inner, "type": kind})


def _tool_result(block: JSON) -> Any:
    return block["json"] if "json" in block else _part(block)


def _media(media: JSON, modality: str) -> Part:
    source = obj(media.get("source"))
    if "bytes" in source:
        return blob_part(source["bytes"], text(media.get("format")), modality)
    if uri := obj(source.get("s3Location")).get("uri"):
        return {"type": "uri", "modality": modality, "uri": text(uri)[:4096]}
    return generic_part({**media, "type": modality})


def _whole(call: Call, exchange: Exchange) -> None:
    answer = read_answer(call, exchange)
    if exchange.http_status >= 400:
        kind = exchange.response_headers.get("x-amzn-errortype", "")
        call.error_type = kind.partition(":")[0] or call.error_type
        call.error_message = text(answer.get("message")) or call.error_message
        return
    if call.error_type or "output" not in answer:
        return
    message = obj(obj(answer.get("output")).get("message"))
    call.finish_reason = text(answer.get("stopReason"))
    call.service_tier = text(obj(answer.get("serviceTier")).get("type"))
    parts = _parts(items(message.get("content")))
    role = text(message.get("role")) or "assistant"
    call.output_messages = [Message(role, parts, finish_reason=call.finish_reason)]
    _usage(call, obj(answer.get("usage")))


def _stream(call: Call, exchange: Exchange) -> None:
    found, problem = frames(exchange.response_body)
    call.stream_complete = False
    call.decode_error = call.decode_error or problem
    said: dict[int, _Block] = {}
    ends: list[int] = []
    for frame in found:
        told = parse_object(frame.payload)
        if frame.headers.get(":message-type") in ("exception", "error"):
            named = frame.headers.get(":exception-type") or frame.headers.get(":error-code")
            call.error_type = named or "error"
            call.error_message = text(told.get("message")) or text(
                frame.headers.get(":error-message")
            )
            call.stream_complete = True
        elif _take(call, said, frame.headers.get(":event-type", ""), told):
            ends.append(frame.end)
    mark_tokens(call, exchange, ends)
    if said or call.finish_reason:
        parts = [said[index].part() for index in sorted(said)]
        call.output_messages = [Message("assistant", parts, finish_reason=call.finish_reason)]


class _Block:
    """One content block of a stream."""

    def __init__(self) -> None:
        self.tool: JSON = {}
        self.text: list[str] = []
        self.thought: list[str] = []
        self.arguments: list[str] = []

    def part(self) -> Part:
        if self.tool:
            name = self.tool.get("name")
            return tool_call_part(self.tool.get("toolUseId"), name, "".join(self.arguments))
        if self.thought:
            return reasoning_part("".join(self.thought))
        return text_part("".join(self.text))


def _take(call: Call, said: dict[int, _Block], event: str, told: JSON) -> bool:
    """Takes one event; whether it carried content."""
    index = told.get("contentBlockIndex")
    index = index if isinstance(index, int) else 0
    match event:
        case "contentBlockStart":
            block = said.setdefault(index, _Block())
            block.tool = obj(obj(told.get("start")).get("toolUse"))
            return bool(block.tool)
        case "contentBlockDelta":
            block = said.setdefault(index, _Block())
            delta = obj(told.get("delta"))
            pieces = (
                (block.text, delta.get("text")),
                (block.arguments, obj(delta.get("toolUse")).get("input")),
                (block.thought, obj(delta.get("reasoningContent")).get("text")),
            )
            content = False
            for into, piece in pieces:
                if piece:
                    into.append(text(piece))
                    content = True
            return content
        case "messageStop":
            call.finish_reason = text(told.get("stopReason"))
        case "metadata":  # always the last
            call.stream_complete = True
            _usage(call, obj(told.get("usage")))
            call.service_tier = text(obj(told.get("serviceTier")).get("type"))
        case _:
            pass
    return False


def _usage(call: Call, raw: JSON) -> None:
    if not raw:
        return
    anthropic_usage(
        call,
        {
            "input_tokens": raw.get("inputTokens"),
            "output_tokens": raw.get("outputTokens"),
            "cache_read_input_tokens": raw.get("cacheReadInputTokens"),
            "cache_creation_input_tokens": raw.get("cacheWriteInputTokens"),
        },
    )
    call.usage_raw = dumps(raw)
