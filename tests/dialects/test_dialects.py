"""Dialects: what they make of recorded exchanges. `test_laws` has what holds for all of them."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import random

import orjson
import pytest
from anthropic.types import Message as AnthropicMessage
from anthropic.types import MessageTokensCount, RawMessageStreamEvent
from ollama import ChatResponse
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import TypeAdapter

from llmtap.collector.enrich.assemble import assemble
from llmtap.dialects.errors import error_body
from llmtap.dialects.framing import sse
from llmtap.dialects.model import Arrivals, Call, Message, Usage
from llmtap.dialects.registry import decode
from llmtap.spool.records import CallStart, encode_start
from tests.dialects.samples import (
    CHAT_ANSWER,
    CHAT_USAGE,
    CLAUDE_ANSWER,
    OLLAMA_LINES,
    SAMPLES,
    chunk,
    exchange,
)
from tests.dialects.samples import sse as sse_body


def text_of(call: Call) -> list[list[tuple[str, object]]]:
    return [
        [(p["type"], p.get("content", p.get("name"))) for p in m.parts]
        for m in call.output_messages
    ]


def test_samples_are_what_the_sdks_accept() -> None:
    """The real SDKs judge the samples."""
    assert ChatCompletion.model_validate(CHAT_ANSWER).choices[0].message.content == "Hallo"
    assert AnthropicMessage.model_validate(CLAUDE_ANSWER).usage.output_tokens == 9
    assert ChatResponse.model_validate(OLLAMA_LINES[-1]).eval_count == 3
    for name in ("chat_stream", "chat_stream_tools", "chat_stream_two_choices"):
        for event in sse(SAMPLES[name].response_body)[0][:-1]:
            document = json.loads(event.data)
            if document["id"]:  # Azure's first chunk is less than the SDK's own type
                ChatCompletionChunk.model_validate(document)
    claude_event: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
    for event in sse(SAMPLES["claude_stream"].response_body)[0]:
        if event.name != b"ping":  # the SDK drops it by its name
            assert claude_event.validate_json(event.data).type == event.name.decode()
    MessageTokensCount.model_validate_json(SAMPLES["claude_count_tokens"].response_body)
    Completion.model_validate(json.loads(SAMPLES["completion"].response_body))
    CreateEmbeddingResponse.model_validate(json.loads(SAMPLES["embeddings"].response_body))


def test_chat_whole_call() -> None:
    assert decode(SAMPLES["chat"]) == Call(
        dialect="openai_chat",
        operation="chat",
        provider="openai",
        model_requested="gpt-4o-mini",
        model_served="gpt-4o-mini-x",
        response_id="c1",
        input_messages=[
            Message("system", [{"type": "text", "content": "Be brief."}]),
            Message(
                "user",
                [
                    {"type": "text", "content": "Grüße?"},
                    {
                        "type": "blob",
                        "mime_type": "image/png",
                        "modality": "image",
                        "size": 5,
                        "sha256": hashlib.sha256(b"hello").hexdigest(),
                    },
                ],
            ),
            Message(
                "assistant", [{"type": "tool_call", "id": "t1", "name": "f", "arguments": "{}"}]
            ),
            Message("tool", [{"type": "tool_call_response", "id": "t1", "response": "42"}]),
        ],
        output_messages=[
            Message("assistant", [{"type": "text", "content": "Hallo"}], finish_reason="stop")
        ],
        request_params={"temperature": 0.5},
        finish_reason="stop",
        usage=Usage(20, 7, 5, None, 2),
        usage_source="reported",
        usage_raw=orjson.dumps(CHAT_USAGE).decode(),
        service_tier="default",
        system_fingerprint="fp",
        user_id="ada",
    )


def test_claude_stream_whole_call() -> None:
    assert decode(SAMPLES["claude_stream"]) == Call(
        dialect="anthropic_messages",
        operation="chat",
        provider="anthropic",
        model_requested="claude-sonnet-4-5",
        model_served="claude-sonnet-4-5-20250929",
        response_id="m1",
        stream=True,
        input_messages=[
            Message("system", [{"type": "text", "content": "Be brief."}]),
            Message("user", [{"type": "text", "content": "2+2?"}]),
        ],
        output_messages=[
            Message(
                "assistant",
                [
                    {"type": "reasoning", "content": "easy"},
                    {"type": "text", "content": "4"},
                    {"type": "tool_call", "id": "u1", "name": "add", "arguments": {"a": 2}},
                ],
                finish_reason="tool_use",
            )
        ],
        request_params={"max_tokens": 100},
        finish_reason="tool_use",
        tool_calls=["add"],
        usage=Usage(115, 9, 100, 5),
        usage_source="reported",
        usage_raw=(
            '{"input_tokens":10,"cache_read_input_tokens":100,'
            '"cache_creation_input_tokens":5,"output_tokens":9}'
        ),
        user_id="grace",
        chunks=5,
    )


def test_ollama_stream_whole_call() -> None:
    assert decode(SAMPLES["ollama_stream"]) == Call(
        dialect="ollama",
        operation="chat",
        provider="ollama",
        model_requested="llama3.2",
        model_served="llama3.2",
        stream=True,
        input_messages=[Message("user", [{"type": "text", "content": "hi"}])],
        output_messages=[
            Message(
                "assistant",
                [{"type": "reasoning", "content": "hm"}, {"type": "text", "content": "hello"}],
                finish_reason="stop",
            )
        ],
        finish_reason="stop",
        usage=Usage(11, 3),
        usage_source="reported",
        usage_raw='{"prompt_eval_count":11,"eval_count":3,"total_duration":5}',
        chunks=3,
    )


def test_several_choices_are_kept_apart() -> None:
    call = decode(SAMPLES["chat_stream_two_choices"])
    assert text_of(call) == [[("text", "Bb"), ("refusal", "No.")], [("text", "Aa")]]
    assert [m.finish_reason for m in call.output_messages] == ["stop", "length"]
    assert (call.finish_reason, call.model_served, call.chunks) == ("stop", "gpt-4o-mini-x", 5)


def test_a_stream_that_never_began_is_not_complete() -> None:
    """A client that hangs up before the first byte must not look like one that got its answer."""
    for name in ("chat_stream", "completion_stream", "claude_stream", "ollama_stream"):
        silent = dataclasses.replace(
            SAMPLES[name], http_status=0, response_headers={}, response_body=b""
        )
        assert (decode(silent).stream, decode(silent).stream_complete) == (True, False)
        refused = dataclasses.replace(silent, http_status=503)
        assert decode(refused).stream_complete, "no stream began"


def test_errors_are_json_under_any_content_type() -> None:
    body = b'{"error": {"message": "boom", "type": "server_error"}}'
    call = decode(dataclasses.replace(SAMPLES["chat_stream"], response_body=body))
    assert (call.error_type, call.error_message) == ("server_error", "boom")
    html = {"content-type": "text/html"}
    gateway = dataclasses.replace(
        SAMPLES["chat"], http_status=502, response_headers=html, response_body=b"Bad Gateway\n"
    )
    call = decode(gateway)
    assert (call.error_type, call.error_message, call.decode_error) == ("502", "Bad Gateway", "")


def test_tool_calls_without_index_begin_with_their_ids() -> None:
    def fragment(call_id: str | None, name: str | None, arguments: str) -> dict[str, object]:
        function = {"name": name, "arguments": arguments}
        return chunk({"tool_calls": [{"id": call_id, "function": function}]})

    stream = sse_body(
        fragment("a", "one", '{"x'), fragment(None, None, '":1}'), fragment("b", "two", "{}")
    )
    call = decode(dataclasses.replace(SAMPLES["chat_stream"], response_body=stream))
    assert call.tool_calls == ["one", "two"]
    assert [p["arguments"] for p in call.output_messages[0].parts] == ['{"x":1}', "{}"]


def test_count_tokens_is_no_chat() -> None:
    call = decode(SAMPLES["claude_count_tokens"])
    assert (call.dialect, call.operation) == ("anthropic_count_tokens", "count_tokens")
    assert (call.usage, call.usage_source) == (Usage(), "")


def test_llamacpp_own_completions() -> None:
    call = decode(SAMPLES["completion_llamacpp"])
    assert text_of(call) == [[("text", " upon")]]
    assert (call.finish_reason, call.stream_complete) == ("limit", True)
    assert (call.usage, call.usage_source) == (Usage(1, 2, 0), "server_timings")


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,{}"}},
        {"type": "image_url", "image_url": "DATA:image/png;base64,{}"},
        {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,{}"}},
        {"type": "input_audio", "input_audio": {"data": "{}", "format": "wav"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,{}"}},
        {"type": "file", "file": {"file_data": "{}"}},
        {"type": "something_new", "inner": [{"url": "data:model/obj;base64,{}"}]},
        {"type": "something_new", "data": "{}"},
    ],
)
def test_media_are_never_kept(part: dict[str, object]) -> None:
    media = random.Random(1).randbytes(3000)
    encoded = base64.b64encode(media).decode()
    content = json.loads(json.dumps([part]).replace("{}", encoded))
    for role in ("user", "tool"):
        request = {"model": "m", "messages": [{"role": role, "content": content}]}
        call = decode(exchange("/v1/chat/completions", request, CHAT_ANSWER))
        kept = json.dumps([m.parts for m in call.input_messages])
        assert len(kept) < 500
        assert hashlib.sha256(media).hexdigest() in kept


def test_claude_blocks_of_tools_and_media() -> None:
    data = base64.b64encode(b"\x89PNG").decode()
    source = {"type": "base64", "media_type": "image/png", "data": data}
    blocks = [
        {"type": "tool_result", "tool_use_id": "u1", "content": [{"type": "text", "text": "4"}]},
        {"type": "image", "source": source},
        {"type": "image", "source": {"type": "url", "url": "https://a/b.png"}},
        {"type": "document", "source": {"type": "file", "file_id": "f1"}},
        {"type": "redacted_thinking", "data": "secret"},
        {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [{"title": "t"}]},
    ]
    request = {"model": "c", "messages": [{"role": "user", "content": blocks}]}
    assert decode(exchange("/v1/messages", request, CLAUDE_ANSWER)).input_messages[0].parts == [
        {
            "type": "tool_call_response",
            "id": "u1",
            "response": [{"type": "text", "content": "4"}],
        },
        {
            "type": "blob",
            "mime_type": "image/png",
            "modality": "image",
            "size": 4,
            "sha256": hashlib.sha256(b"\x89PNG").hexdigest(),
        },
        {"type": "uri", "modality": "image", "uri": "https://a/b.png"},
        {"type": "file", "file_id": "f1"},
        {"type": "reasoning", "content": "", "redacted": True},
        {"type": "tool_call_response", "id": "s1", "response": [{"title": "t"}]},
    ]


def test_chat_stream_is_the_chat() -> None:
    call = decode(SAMPLES["chat_stream"])
    assert text_of(call) == [[("reasoning", "Hm. "), ("text", "Hallo ü")]]
    assert call.usage == Usage(20, 7, 5, None, 2)
    assert (call.stream, call.stream_complete, call.chunks) == (True, True, 3)
    assert call.finish_reason == "stop"
    crlf = decode(SAMPLES["chat_stream_crlf"])
    assert text_of(crlf) == [[("text", "Hallo")]]
    assert crlf.usage_source == "estimated"


def test_stream_tool_calls_are_merged_by_index() -> None:
    call = decode(SAMPLES["chat_stream_tools"])
    assert call.tool_calls == ["one", "two"]
    parts = call.output_messages[0].parts
    assert [p["arguments"] for p in parts] == ["{}", '{"y":1}']
    assert [p["id"] for p in parts] == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("chat_error", "rate_limit_error", "Rate limit reached"),
        ("chat_stream_error", "server_error", "boom"),
        ("claude_error", "invalid_request_error", "no"),
        ("claude_stream_error", "overloaded_error", "Overloaded"),
        ("ollama_error", "404", "model 'x' not found"),
        ("ollama_stream_error", "error", "out of memory"),
        ("chat_200_error", "500", "boom"),
    ],
)
def test_errors(name: str, kind: str, message: str) -> None:
    call = decode(SAMPLES[name])
    assert (call.error_type, call.error_message) == (kind, message)


def test_failed_call_without_output_has_no_usage() -> None:
    assert decode(SAMPLES["chat_error"]).usage_source == ""
    assert decode(SAMPLES["chat_error"]).usage.input_tokens is None


def test_cut_streams_keep_what_came() -> None:
    call = decode(SAMPLES["chat_stream_cut"])
    assert text_of(call) == [[("text", "Hallo")]]
    assert not call.stream_complete and call.usage_source == "estimated"
    assert (call.usage.output_tokens or 0) > 0
    claude = decode(SAMPLES["claude_stream_cut"])
    assert claude.usage.input_tokens == 115, "the input was reported before the cut"
    assert claude.usage_source == "estimated" and not claude.stream_complete


def test_claude_usage_is_inclusive_and_stream_equals_whole() -> None:
    whole, stream = decode(SAMPLES["claude"]), decode(SAMPLES["claude_stream"])
    assert whole.usage == Usage(115, 9, 100, 5, None) == stream.usage
    assert text_of(whole) == text_of(stream)
    assert whole.tool_calls == stream.tool_calls == ["add"]
    assert stream.output_messages[0].parts[2]["arguments"] == {"a": 2}
    assert whole.finish_reason == stream.finish_reason == "tool_use"
    assert [m.role for m in whole.input_messages] == ["system", "user"]


def test_ollama() -> None:
    call = decode(SAMPLES["ollama_stream"])
    assert text_of(call) == [[("reasoning", "hm"), ("text", "hello")]]
    assert call.usage == Usage(11, 3)
    assert call.stream and call.stream_complete and call.finish_reason == "stop"
    assert decode(SAMPLES["ollama"]).tool_calls == ["f"]
    assert decode(SAMPLES["ollama_embed"]).usage == Usage(1, 0)


def test_server_timings_and_embeddings() -> None:
    call = decode(SAMPLES["chat_timings"])
    assert (call.usage_source, call.usage) == ("server_timings", Usage(10, 3, 4))
    embedded = decode(SAMPLES["embeddings"])
    assert embedded.usage == Usage(2, 0)
    assert "0.1" not in str(embedded), "vectors are not kept"


def test_unknown_path_is_recorded_as_unknown() -> None:
    call = decode(SAMPLES["unknown"])
    assert (call.dialect, call.operation, call.decode_error) == ("unknown", "unknown", "")


@pytest.mark.parametrize(
    ("method", "path", "named", "dialect"),
    [
        ("POST", "/openai/deployments/gpt4/chat/completions", "auto", "openai_chat"),
        ("POST", "/openai/v1/chat/completions", "auto", "openai_chat"),
        ("POST", "/api/v1/chat/completions", "auto", "openai_chat"),
        ("POST", "/v1/chat/completions/", "auto", "openai_chat"),
        ("POST", "/v1/chat/completions", "no-such-dialect", "openai_chat"),
        ("POST", "/v1/chat/completions", "ollama", "openai_chat"),
        ("POST", "/v2/my/own/route", "openai_chat", "openai_chat"),
        ("POST", "/v2/my/own/route", "auto", "unknown"),
        ("GET", "/v1/chat/completions", "auto", "unknown"),
        ("GET", "/v1/chat/completions", "openai_chat", "unknown"),
    ],
)
def test_dialect_is_found_by_path_then_by_name(
    method: str, path: str, named: str, dialect: str
) -> None:
    captured = dataclasses.replace(SAMPLES["chat"], method=method, path=path, dialect=named)
    assert decode(captured).dialect == dialect


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/api/embed/", "embeddings"),
        ("/api/generate/", "text_completion"),
        ("/v1/messages/count_tokens/", "count_tokens"),
    ],
)
def test_a_slash_behind_the_path_changes_nothing(path: str, operation: str) -> None:
    sample = next(s for s in SAMPLES.values() if s.path == path.rstrip("/"))
    call = decode(dataclasses.replace(sample, path=path))
    assert call.operation == operation
    assert call == decode(sample)


def test_shape_overrules_a_name_that_only_looks_like_ours() -> None:
    """Others have paths that end like ours; a body that holds nothing of ours says so."""
    theirs = exchange("/jobs/completions", {"job": 7}, {"done": True})
    assert decode(theirs).dialect == "unknown"
    verdict = exchange(
        "/v1/verdicts", {"model": "m", "input": "x"}, {"results": []}, dialect="openai_chat"
    )
    assert decode(verdict).dialect == "unknown"
    bodies_dropped = dataclasses.replace(SAMPLES["chat"], request_body=b"", response_body=b"")
    assert decode(bodies_dropped).dialect == "openai_chat"


def test_unknown_path_still_says_why_it_failed() -> None:
    call = decode(SAMPLES["unknown_error"])
    assert (call.dialect, call.error_type, call.error_message) == (
        "unknown",
        "404",
        "no such route",
    )


def test_timing_comes_from_the_chunk_that_carried_the_token() -> None:
    sample = SAMPLES["chat_stream"]
    events, _ = sse(sample.response_body)
    ends = [e.end for e in events]
    at = [(i + 1) * 1000 for i in range(len(ends))]
    call = decode(dataclasses.replace(sample, arrivals=Arrivals(ends, at)))
    assert (call.first_token_us, call.last_token_us) == (2000, 4000)


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 50_000, b'{"messages":[NaN]}'])
def test_nasty_json_is_survived(body: bytes) -> None:
    sample = dataclasses.replace(SAMPLES["chat"], request_body=body, response_body=body)
    call = decode(sample)
    assert call.dialect == "openai_chat"


def test_surrogates_and_invalid_utf8_are_replaced() -> None:
    body = (
        b'data: {"choices":[{"index":0,"delta":{"content":"a\xff\\ud800b"}}]}\n\ndata: [DONE]\n\n'
    )
    call = decode(dataclasses.replace(SAMPLES["chat_stream"], response_body=body))
    content = call.output_messages[0].parts[0]["content"]
    content.encode()
    assert content.startswith("a") and content.endswith("b")


def test_error_bodies_have_the_dialects_shape() -> None:
    assert json.loads(error_body("/v1/chat/completions", 502, "r", "m"))["error"]["code"] == "r"
    assert json.loads(error_body("/v1/messages", 502, "r", "m"))["type"] == "error"
    assert json.loads(error_body("/api/chat", 502, "r", "m")) == {"error": "llmtap: m"}


def test_lost_call_keeps_its_prompt() -> None:
    start = CallStart(
        id="0" * 36,
        ts_us=1,
        upstream="u",
        provider="auto",
        dialect="auto",
        method="POST",
        path="/v1/chat/completions",
        trace_id="a",
        span_id="b",
    )
    body = SAMPLES["chat"].request_body
    captured = assemble(b"".join(encode_start(start, [body])), None, "w")
    call = decode(captured.exchange)
    assert call.input_messages[0].parts[0]["content"] == "Be brief."
