"""Gemini's native dialect: what its own SDK reads out of the same bytes, we read too."""

from __future__ import annotations

import dataclasses
import json
import warnings
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtap.dialects.errors import error_body
from llmtap.dialects.gemini_common import route
from llmtap.dialects.gemini_stream import array_items
from llmtap.dialects.model import Arrivals, Call, Exchange, Usage
from llmtap.dialects.registry import decode
from tests.dialects.samples import exchange, sse
from tests.dialects.samples_gemini import (
    ANSWER,
    CHUNKS,
    ERROR,
    GENERATE,
    REQUEST,
    SAMPLES,
    STREAM,
    USAGE,
    VERTEX,
    answer,
    array,
    candidate,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from google import genai
    from google.genai import errors, types

_REPLY: dict[str, Any] = {}
"""What the transport answers, and the last request that it saw."""


def _answer(request: httpx.Request) -> httpx.Response:
    _REPLY["request"] = request
    kind = _REPLY["kind"]
    return httpx.Response(
        _REPLY["status"], headers={"content-type": kind}, content=_REPLY["body"], request=request
    )


def client(*, vertex: bool = False) -> Any:
    options = types.HttpOptions(
        base_url="http://peer",
        httpx_client=httpx.Client(transport=httpx.MockTransport(_answer)),
    )
    return genai.Client(api_key="k", vertexai=vertex, http_options=options)


_CLIENT = client()


def peer(body: bytes, *, kind: str = "application/json", status: int = 200) -> None:
    _REPLY.update(body=body, kind=kind, status=status)


def captured(body: bytes, *, kind: str = "application/json", status: int = 200) -> Call:
    """Our reading of the request that the SDK sent and of the same bytes."""
    request: httpx.Request = _REPLY["request"]
    return decode(
        Exchange(
            method=request.method,
            path=request.url.path,
            request_body=request.content,
            http_status=status,
            response_headers={"content-type": kind},
            response_body=body,
            arrivals=Arrivals([len(body)], [7]),
        )
    )


def said(call: Call, kind: str = "text") -> str:
    parts = [p for m in call.output_messages for p in m.parts]
    return "".join(p["content"] for p in parts if p["type"] == kind)


def function_calls(call: Call) -> list[tuple[str, Any]]:
    parts = [p for m in call.output_messages for p in m.parts if p["type"] == "tool_call"]
    return [(p["name"], p["arguments"]) for p in parts if p["name"] != "code_execution"]


def check(call: Call, chunks: list[Any]) -> None:
    """The call is what the SDK's chunks (or the one answer) say together."""
    texts = thoughts = ""
    called: list[tuple[str, Any]] = []
    finish = usage = None
    for chunk in chunks:
        usage = chunk.usage_metadata or usage
        for one in chunk.candidates or []:
            finish = one.finish_reason or finish
            for part in (one.content and one.content.parts) or []:
                if part.thought:
                    thoughts += part.text or ""
                else:
                    texts += part.text or ""
                if part.function_call:
                    called.append((part.function_call.name, part.function_call.args or {}))
    assert (said(call), said(call, "reasoning")) == (texts, thoughts)
    assert function_calls(call) == called
    assert call.finish_reason == (finish.value if finish else "")
    assert call.model_served == chunks[0].model_version
    assert call.response_id == chunks[0].response_id
    assert usage is not None
    prompt = (usage.prompt_token_count or 0) + (usage.tool_use_prompt_token_count or 0)
    out = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
    assert (call.usage.input_tokens, call.usage.output_tokens) == (prompt, out)
    assert call.usage.cache_read_tokens == usage.cached_content_token_count
    assert call.usage.reasoning_tokens == usage.thoughts_token_count
    assert (call.usage_source, call.usage_problem, call.decode_error) == ("reported", "", "")
    assert call.stream_complete


def test_the_sdk_reads_the_same_answer() -> None:
    body = json.dumps(ANSWER).encode()
    peer(body)
    config = types.GenerateContentConfig(
        system_instruction="Be brief.",
        temperature=0.5,
        tools=[types.Tool(function_declarations=[types.FunctionDeclaration(name="f")])],
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )
    contents = [
        types.Part.from_text(text="q"),
        types.Part.from_bytes(data=b"hello", mime_type="image/png"),
    ]
    reply = _CLIENT.models.generate_content(
        model="gemini-2.5-flash", contents=contents, config=config
    )
    call = captured(body)
    check(call, [reply])
    assert (call.dialect, call.operation, call.provider) == ("gemini", "chat", "google")
    assert (call.model_requested, call.stream) == ("gemini-2.5-flash", False)
    assert [m.role for m in call.input_messages] == ["system", "user"]
    assert [p["type"] for p in call.input_messages[1].parts] == ["text", "blob"]
    assert call.input_messages[1].parts[1]["size"] == 5
    assert call.request_params == {"temperature": 0.5}
    assert [tool["name"] for tool in call.tool_definitions] == ["f"]


_PIECES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
_COUNTS = st.none() | st.integers(1, 100_000)
_ARGUMENTS = st.dictionaries(
    st.text("abc", min_size=1, max_size=3), st.integers(-(2**53), 2**53) | _PIECES, max_size=3
)
_PART = st.one_of(
    st.builds(lambda t: {"text": t}, _PIECES),
    st.builds(lambda t: {"text": t, "thought": True}, _PIECES),
    st.builds(
        lambda n, a: {"functionCall": {"name": n, "args": a}},
        st.text("fgh", min_size=1),
        _ARGUMENTS,
    ),
    st.just({"text": "", "thoughtSignature": "c2ln"}),
)


@st.composite
def usages(draw: st.DrawFn) -> dict[str, int]:
    prompt, out, thought, tools = draw(st.integers(1, 9999)), *(draw(_COUNTS) for _ in range(3))
    found = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": out,
        "thoughtsTokenCount": thought,
        "toolUsePromptTokenCount": tools,
        "cachedContentTokenCount": draw(st.none() | st.integers(1, prompt)),
        "totalTokenCount": prompt + (out or 0) + (thought or 0) + (tools or 0),
    }
    return {key: value for key, value in found.items() if value is not None}


@st.composite
def streams(draw: st.DrawFn) -> list[dict[str, Any]]:
    chunks = [
        answer(candidate(parts), usage=draw(usages()))
        for parts in draw(st.lists(st.lists(_PART, max_size=2), max_size=4))
    ]
    finish = draw(st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY", "MALFORMED_FUNCTION_CALL"]))
    return [
        *chunks,
        answer(candidate(draw(st.lists(_PART, max_size=1)), finish), usage=draw(usages())),
    ]


@settings(max_examples=60, deadline=None)
@given(chunks=streams(), whole=usages(), newline=st.sampled_from([b"\n", b"\r\n"]))
def test_the_sdk_reads_the_same_stream(
    chunks: list[dict[str, Any]], whole: dict[str, Any], newline: bytes
) -> None:
    kind = "text/event-stream"
    body = b"".join(b"data: " + json.dumps(c).encode() + newline * 2 for c in chunks)
    peer(body, kind=kind)
    read = list(_CLIENT.models.generate_content_stream(model="gemini-2.5-flash", contents="q"))
    call = captured(body, kind=kind)
    check(call, read)
    assert call.stream
    assert call.operation == "chat"
    content = [bool(c["candidates"][0]["content"]["parts"]) for c in chunks]
    assert call.chunks <= sum(content)
    as_array = captured(array(*chunks))
    assert dataclasses.replace(as_array, usage_raw="") == dataclasses.replace(call, usage_raw="")


@settings(max_examples=60, deadline=None)
@given(chunks=streams(), data=st.data())
def test_any_cut_of_a_stream_gives_a_beginning(chunks: list[dict[str, Any]], data: Any) -> None:
    for body in (sse(*chunks, done=False), array(*chunks)):
        whole = decode(exchange(STREAM, REQUEST, body))
        cut = data.draw(st.integers(0, len(body)))
        part = exchange(STREAM, REQUEST, body[:cut], response_headers={}, response_complete=False)
        call = decode(part)
        assert "Error:" not in call.decode_error
        assert said(whole).startswith(said(call))
        assert said(whole, "reasoning").startswith(said(call, "reasoning"))
        assert call.stream
        assert call.stream_complete <= (said(call) == said(whole))


@pytest.mark.parametrize("name", ["gemini_sse", "gemini_array"])
def test_a_stream(name: str) -> None:
    sample = SAMPLES[name]
    ends = [sample.response_body.index(b"Hal"), len(sample.response_body)]
    call = decode(dataclasses.replace(sample, arrivals=Arrivals(ends, [5, 9])))
    assert call.output_messages[0].role == "assistant"
    assert call.output_messages[0].parts == [
        {"type": "reasoning", "content": "Hm. "},
        {"type": "text", "content": 'Hallo "{[ ü'},
        {"type": "tool_call", "id": "", "name": "f", "arguments": {"a": 1}},
    ]
    assert call.usage == Usage(105, 50, 40, None, 30)
    assert json.loads(call.usage_raw) == USAGE
    assert (call.finish_reason, call.tool_calls, call.chunks) == ("STOP", ["f"], 4)
    assert (call.first_token_us, call.last_token_us) == (5, 9)
    assert call.stream and call.stream_complete


@pytest.mark.parametrize("kept", [1, 3])
def test_a_cut_stream_counts_what_was_seen(kept: int) -> None:
    call = decode(exchange(STREAM, REQUEST, array(*CHUNKS[:kept])[:-2]))
    assert not call.stream_complete
    assert (call.usage.input_tokens, call.usage.output_tokens) == (100, 30)
    first = {"promptTokenCount": 100}
    call = decode(exchange(STREAM, REQUEST, array(answer(candidate([{"text": "x"}]), usage=first))))
    assert (call.usage.input_tokens, call.usage_source) == (100, "estimated")
    assert call.usage.output_tokens == 1


def test_pieces_of_a_thought_are_one_part() -> None:
    chunks = [answer(candidate([{"text": piece, "thought": True}])) for piece in "abc"]
    for body in (sse(*chunks, done=False), array(*chunks)):
        call = decode(exchange(STREAM, REQUEST, body))
        assert call.output_messages[0].parts == [{"type": "reasoning", "content": "abc"}]
        assert not call.stream_complete


def test_streamed_arguments_are_put_together() -> None:
    call = decode(SAMPLES["gemini_streamed_arguments"])
    arguments = {
        "to": {"city": "Berlin"},
        "days": [1, 2],
        "a b": True,
        "none": None,
        "$.days.odd[7]": 3,
    }
    assert call.output_messages[0].parts == [
        {"type": "tool_call", "id": "t1", "name": "f", "arguments": arguments},
        {"type": "tool_call", "id": "", "name": "g", "arguments": {"x": 1}},
    ]
    assert (call.tool_calls, call.chunks) == (["f", "g"], 5)


def test_candidates_stay_apart() -> None:
    call = decode(SAMPLES["gemini_candidates"])
    found = [(m.parts[0]["content"], m.finish_reason) for m in call.output_messages]
    assert found == [("ab", "STOP"), ("12", "MAX_TOKENS")]
    assert call.finish_reason == "STOP"


def test_a_request_in_either_case() -> None:
    call = decode(SAMPLES["gemini"])
    assert [m.role for m in call.input_messages] == ["system", "user", "assistant", "user"]
    kinds = [p["type"] for m in call.input_messages for p in m.parts]
    assert kinds == "text text blob uri reasoning tool_call tool_call_response".split()  # noqa: SIM905
    assert call.input_messages[1].parts[2] == {
        "type": "uri",
        "modality": "video",
        "uri": "gs://b/v.mp4",
    }
    assert [list(tool) for tool in call.tool_definitions] == [
        ["name", "parameters"],
        ["googleSearch"],
    ]
    assert set(call.request_params) == {"temperature", "thinkingConfig", "toolConfig"}
    assert call.tool_calls == ["code_execution", "f"]
    snake = decode(SAMPLES["gemini_snake"])
    assert [m.role for m in snake.input_messages] == ["system", "user"]
    assert [p["type"] for p in snake.input_messages[1].parts] == [
        "blob",
        "uri",
        "tool_call_response",
    ]
    assert snake.input_messages[1].parts[0]["modality"] == "audio"
    assert snake.tool_definitions == [{"name": "f"}]
    params = {"max_output_tokens": 9, "cachedContent": "cachedContents/c"}
    assert snake.request_params == params


def test_a_blocked_prompt() -> None:
    for name in ("gemini_blocked", "gemini_blocked_stream"):
        call = decode(SAMPLES[name])
        assert (call.finish_reason, call.error_type) == ("PROHIBITED_CONTENT", "prompt_blocked")
        assert (call.usage.input_tokens, call.usage.output_tokens) == (9, 0)
        assert call.output_messages == []
        assert call.stream_complete


@pytest.mark.parametrize("body", [json.dumps(ERROR).encode(), array(ERROR)])
def test_the_sdk_reads_the_same_error(body: bytes) -> None:
    peer(body, status=429)
    with pytest.raises(errors.ClientError) as failed:
        list(_CLIENT.models.generate_content_stream(model="m", contents="q"))
    call = captured(body, status=429)
    assert (call.error_type, call.error_message) == (
        "RESOURCE_EXHAUSTED",
        "You exceeded your current quota.",
    )
    assert failed.value.code == 429
    if body.startswith(b"{"):
        assert (failed.value.status, failed.value.message) == (call.error_type, call.error_message)
    assert (call.usage_source, call.output_messages) == ("", [])


@pytest.mark.parametrize("name", ["gemini_array_error", "gemini_sse_error"])
def test_an_error_in_a_stream(name: str) -> None:
    call = decode(SAMPLES[name])
    assert (call.error_type, said(call)) == ("RESOURCE_EXHAUSTED", "Hal")
    assert not call.stream_complete


@pytest.mark.parametrize("status", [400, 404, 413, 503])
def test_the_sdk_reads_our_error(status: int) -> None:
    body = error_body(f"{GENERATE}?key=k", status, "upstream_refused", "no answer")
    peer(body, status=status)
    with pytest.raises(errors.APIError) as failed:
        _CLIENT.models.generate_content(model="m", contents="q")
    assert (failed.value.code, failed.value.message) == (status, "llmtap: no answer")
    assert failed.value.status == captured(body, status=status).error_type


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (GENERATE, ("gemini-2.5-flash", "generateContent")),
        (f"{VERTEX}:streamGenerateContent", ("gemini-2.5-pro", "streamGenerateContent")),
        ("/v1beta/tunedModels/t-1:generateContent", ("tunedModels/t-1", "generateContent")),
        (
            "/v1/projects/p/locations/l/endpoints/12:generateContent",
            ("endpoints/12", "generateContent"),
        ),
        ("/gemini/v1beta/models/g%3AcountTokens", ("g", "countTokens")),
        ("/v1beta/models", ("", "")),
        ("/v1beta/openai/chat/completions", ("", "")),
    ],
)
def test_model_and_verb_are_in_the_path(path: str, expected: tuple[str, str]) -> None:
    assert route(path) == expected


def test_vertex_and_the_sdk_agree() -> None:
    body = json.dumps(ANSWER).encode()
    peer(body)
    reply = client(vertex=True).models.generate_content(model="gemini-2.5-flash", contents="q")
    call = captured(body)
    check(call, [reply])
    assert (call.dialect, call.model_requested) == ("gemini", "gemini-2.5-flash")
    assert "/publishers/google/models/" in _REPLY["request"].url.path


def test_another_vendor_on_vertex_is_not_ours() -> None:
    path = VERTEX.replace("google/models/gemini-2.5-pro", "anthropic/models/claude-x")
    assert not decode(exchange(f"{path}:rawPredict", {}, {})).dialect.startswith("gemini")


def test_counting_is_no_chat() -> None:
    body = b'{"totalTokens": 12}'
    peer(body)
    assert _CLIENT.models.count_tokens(model="m", contents="q").total_tokens == 12
    call = captured(body)
    assert (call.operation, call.usage_source, call.output_messages) == ("count_tokens", "", [])
    wrapped = decode(SAMPLES["gemini_count"])
    assert [m.role for m in wrapped.input_messages] == ["system", "user", "assistant", "user"]


def test_embeddings() -> None:
    one = decode(SAMPLES["gemini_embed"])
    assert (one.dialect, one.operation, one.provider) == (
        "gemini_embeddings",
        "embeddings",
        "google",
    )
    assert (one.model_requested, one.usage_source) == ("gemini-embedding-001", "estimated")
    assert one.request_params == {"taskType": "RETRIEVAL_QUERY", "outputDimensionality": 8}
    batch = decode(SAMPLES["gemini_embed_batch"])
    assert [m.parts[0]["content"] for m in batch.input_messages] == ["one", "two"]
    assert (batch.usage, batch.usage_source) == (Usage(2, 0), "reported")
    vertex = decode(SAMPLES["gemini_embed_vertex"])
    assert [m.parts[0]["content"] for m in vertex.input_messages] == ["one", "two"]
    assert (vertex.usage, vertex.usage_source) == (Usage(5, 0), "reported")


@pytest.mark.parametrize("vertex", [False, True])
def test_what_the_sdk_embeds(vertex: bool) -> None:
    body = b'{"embeddings": [{"values": [0.5]}]}'
    if vertex:
        embedded = {"values": [0.5], "statistics": {"token_count": 2}}
        body = json.dumps({"predictions": [{"embeddings": embedded}]}).encode()
    peer(body)
    model = "text-embedding-005" if vertex else "gemini-embedding-001"
    reply = client(vertex=vertex).models.embed_content(model=model, contents="one")
    assert reply.embeddings[0].values == [0.5]
    call = captured(body)
    assert (call.operation, call.model_requested) == ("embeddings", model)
    assert call.input_messages[0].parts == [{"type": "text", "content": "one"}]


def test_array_items_need_no_array() -> None:
    assert array_items(b"") == array_items(b"[") == array_items(b'[{"a": "}') == []
    assert [e.data for e in array_items(b'[{"a":"]"},{"b":[{}]}]{}')] == [
        b'{"a":"]"}',
        b'{"b":[{}]}',
    ]


def test_a_cut_answer_has_no_half_usage() -> None:
    whole = json.dumps(ANSWER).encode()
    cut = whole[: whole.index(b'"thoughtsTokenCount"')]
    call = decode(exchange(GENERATE, REQUEST, cut, response_complete=False))
    assert (said(call), call.decode_error) == ("Hallo ü", "the response body was cut")
    assert call.usage_source == "estimated"
