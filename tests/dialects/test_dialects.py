"""Dialects: what they make of recorded exchanges, and the laws that hold for all of them."""

from __future__ import annotations

import dataclasses
import gzip
import json
import random
import zlib

import brotli
import pytest
from anthropic.types import Message as AnthropicMessage
from hypothesis import given, settings
from hypothesis import strategies as st
from ollama import ChatResponse
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from llmtap.collector.enrich.assemble import assemble
from llmtap.dialects.content import MAX_BYTES, decode_content
from llmtap.dialects.dechunk import dechunk
from llmtap.dialects.errors import error_body
from llmtap.dialects.framing import sse
from llmtap.dialects.model import Arrivals, Call, Exchange, Usage
from llmtap.dialects.registry import DIALECTS, decode, find
from llmtap.spool.records import CallStart, encode_start
from tests.dialects.samples import CHAT_ANSWER, CLAUDE_ANSWER, OLLAMA_LINES, SAMPLES

TIMING = ("first_token_us", "last_token_us")


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
    for name in ("chat_stream", "chat_stream_tools"):
        for event in sse(SAMPLES[name].response_body)[0][:-1]:
            ChatCompletionChunk.model_validate(json.loads(event.data))
    Completion.model_validate(json.loads(SAMPLES["completion"].response_body))
    CreateEmbeddingResponse.model_validate(json.loads(SAMPLES["embeddings"].response_body))


def test_chat() -> None:
    call = decode(SAMPLES["chat"])
    assert (call.dialect, call.operation, call.provider) == ("openai_chat", "chat", "openai")
    assert (call.model_requested, call.model_served) == ("gpt-4o-mini", "gpt-4o-mini-x")
    assert call.usage == Usage(20, 7, 5, None, 2)
    assert (call.usage_source, call.usage_problem) == ("reported", "")
    assert (call.finish_reason, call.user_id, call.service_tier) == ("stop", "ada", "default")
    assert call.request_params == {"temperature": 0.5}
    assert text_of(call) == [[("text", "Hallo")]]
    image = call.input_messages[1].parts[1]
    assert (image["type"], image["mime_type"], image["size"]) == ("blob", "image/png", 5)
    assert call.input_messages[2].parts[0]["name"] == "f"
    response = call.input_messages[3].parts[0]
    assert response == {"type": "tool_call_response", "id": "t1", "response": "42"}


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


@pytest.mark.parametrize(
    ("usage", "problem"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 9}, "total_is_not_sum"),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 6},
            },
            "cache_exceeds_input",
        ),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 2,
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            "reasoning_exceeds_output",
        ),
        ({"prompt_tokens": -1, "completion_tokens": 2}, "negative_count"),
        ({"prompt_tokens": "many"}, "no_counts"),
    ],
)
def test_usage_that_does_not_add_up_is_named(usage: dict[str, object], problem: str) -> None:
    body = json.dumps({**CHAT_ANSWER, "usage": usage}).encode()
    assert decode(dataclasses.replace(SAMPLES["chat"], response_body=body)).usage_problem == problem


def test_unknown_path_is_recorded_as_unknown() -> None:
    call = decode(SAMPLES["unknown"])
    assert (call.dialect, call.operation, call.decode_error) == ("unknown", "unknown", "")


def test_azure_and_prefixed_paths() -> None:
    for path in (
        "/openai/deployments/gpt4/chat/completions",
        "/openai/v1/chat/completions",
        "/api/v1/chat/completions",
    ):
        found = find(dataclasses.replace(SAMPLES["chat"], path=path))
        assert found is not None and found.name == "openai_chat"


def test_every_registered_dialect_has_a_sample() -> None:
    assert {d.name for d in DIALECTS} <= {decode(s).dialect for s in SAMPLES.values()}


def test_timing_comes_from_the_chunk_that_carried_the_token() -> None:
    sample = SAMPLES["chat_stream"]
    events, _ = sse(sample.response_body)
    ends = [e.end for e in events]
    at = [(i + 1) * 1000 for i in range(len(ends))]
    call = decode(dataclasses.replace(sample, arrivals=Arrivals(ends, at)))
    assert (call.first_token_us, call.last_token_us) == (2000, 4000)


def _without_timing(call: Call) -> Call:
    return dataclasses.replace(call, first_token_us=None, last_token_us=None)


@given(name=st.sampled_from(sorted(SAMPLES)), seed=st.integers(0, 1 << 30))
def test_chunking_never_changes_the_result(name: str, seed: int) -> None:
    """decode(whole) == decode(any arrivals), also under content coding and chunked coding."""
    sample = SAMPLES[name]
    rng = random.Random(seed)
    expected = _without_timing(decode(sample))
    coding = rng.choice(["", "gzip", "deflate", "br"])
    body = {"": bytes, "gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress}[
        coding
    ](sample.response_body)
    wire, ends, at = b"", [], []
    pos = 0
    while pos < len(body):
        size = rng.choice([1, 2, 7, 50, 1000])
        piece = body[pos : pos + size]
        wire += b"%x\r\n%b\r\n" % (len(piece), piece)
        pos += size
        ends.append(len(wire))
        at.append(len(ends))
    wire += b"0\r\n\r\n"
    plain = dechunk(wire)
    assert plain.body == body and plain.complete
    headers = {**sample.response_headers, **({"content-encoding": coding} if coding else {})}
    arrivals = plain.arrivals(Arrivals(ends, at))
    got = decode(
        dataclasses.replace(
            sample, response_body=plain.body, response_headers=headers, arrivals=arrivals
        )
    )
    assert _without_timing(got) == expected
    if got.chunks:
        assert got.first_token_us is not None and got.last_token_us is not None
        assert got.first_token_us <= got.last_token_us


@settings(max_examples=300)
@given(
    path=st.sampled_from(sorted({s.path for s in SAMPLES.values()})),
    name=st.sampled_from(sorted(SAMPLES)),
    noise=st.binary(max_size=200),
    cut=st.integers(0, 3000),
    kind=st.sampled_from(["application/json", "text/event-stream", "application/x-ndjson", ""]),
    coding=st.sampled_from(["", "gzip", "br", "zstd", "deflate", "no-such"]),
)
def test_decoding_is_total(
    path: str, name: str, noise: bytes, cut: int, kind: str, coding: str
) -> None:
    """Any bytes, any mixture: a Call whose every text encodes as UTF-8; never an exception."""
    sample = SAMPLES[name]
    body = sample.response_body[:cut] + noise + sample.response_body[cut:]
    call = decode(
        Exchange(
            method="POST",
            path=path,
            request_body=sample.request_body[: cut * 2] + noise,
            http_status=200,
            response_headers={"content-type": kind, "content-encoding": coding},
            response_body=body,
        )
    )
    assert "Error:" not in call.decode_error, call.decode_error
    json.dumps(dataclasses.asdict(call), ensure_ascii=False, default=str).encode()


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


def test_bombs_are_capped() -> None:
    bomb = gzip.compress(bytes(200 << 20), 9)
    decoded = decode_content(bomb, Arrivals(), "gzip")
    assert "grows beyond" in decoded.problem
    assert len(decoded.body) <= MAX_BYTES + (1 << 20)


@given(st.binary(max_size=300))
def test_dechunk_is_total(raw: bytes) -> None:
    dechunk(raw)


def test_dechunk_at_every_cut_gives_a_prefix() -> None:
    wire = b"5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\n"
    for cut in range(len(wire) + 1):
        plain = dechunk(wire[:cut])
        assert b"helloabc".startswith(plain.body)
        assert plain.complete == (cut == len(wire))


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
