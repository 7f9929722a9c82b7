"""Cohere's chat and embeddings; its own SDK is the judge."""

from __future__ import annotations

import json
from typing import Any

import cohere
import httpx
import pytest

from llmtap.dialects.model import Call, Exchange, Usage
from llmtap.dialects.registry import decode
from tests.dialects import samples_cohere as samples
from tests.dialects.samples_cohere import SAMPLES


def both(body: Any, **asked: Any) -> tuple[Any, Call]:
    """What the SDK reads (an answer or events) and what we read of the same exchange."""
    sent: list[httpx.Request] = []
    stream = isinstance(body, bytes)
    raw = body if stream else json.dumps(body).encode()
    kind = "text/event-stream" if stream else "application/json"

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, headers={"content-type": kind}, content=raw)

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        client: Any = cohere.ClientV2(api_key="k", base_url="http://peer", httpx_client=http)
        if asked:
            got = client.embed(**asked)
        elif stream:
            got = list(client.chat_stream(model="m", messages=samples.ASKED["messages"]))
        else:
            got = client.chat(model="m", messages=samples.ASKED["messages"])
    call = decode(
        Exchange(
            method="POST",
            path=sent[0].url.path,
            request_body=sent[0].content,
            http_status=200,
            response_headers={"content-type": kind},
            response_body=raw,
        )
    )
    assert call.decode_error == "" and call.stream_complete and call.provider == "cohere"
    return got, call


def said(call: Call) -> list[tuple[str, Any]]:
    parts = call.output_messages[0].parts
    return [(p["type"], p.get("content", p.get("arguments"))) for p in parts]


def test_whole_answers() -> None:
    got, call = both(samples.WHOLE)
    thinking, answer = got.message.content
    assert said(call) == [("reasoning", thinking.thinking), ("text", answer.text)]
    assert (call.response_id, call.finish_reason) == (got.id, got.finish_reason)
    assert call.usage == Usage(71, 9, cache_read_tokens=16)
    assert got.usage.tokens.input_tokens == 71
    assert json.loads(call.usage_raw) == samples.USAGE
    got, call = both(samples.TOOLS)
    [tool] = got.message.tool_calls
    assert said(call) == [("reasoning", got.message.tool_plan), ("tool_call", '{"a":1}')]
    assert call.tool_calls == [tool.function.name]


def test_streams() -> None:
    events, call = both(samples.STREAM)
    deltas = [e.delta.message.content for e in events if e.type == "content-delta"]
    text = "".join(d.text or "" for d in deltas)
    assert said(call) == [("reasoning", "Hm."), ("text", text)] and text == "Grüße!"
    assert call.usage.output_tokens == events[-1].delta.usage.tokens.output_tokens
    assert (call.finish_reason, call.chunks) == ("COMPLETE", 4)
    _, call = both(samples.TOOL_STREAM)
    assert said(call) == [("reasoning", "I ask g."), ("tool_call", '{"a":1}')]
    assert (call.finish_reason, call.tool_calls) == ("TOOL_CALL", ["g"])


def test_embeddings() -> None:
    got, call = both(
        samples.EMBED,
        model="embed-v4.0",
        input_type="search_query",
        embedding_types=["float"],
        texts=["a"],
    )
    assert call.response_id == got.id and call.usage == Usage(3, 0)
    assert call.request_params["input_type"] == "search_query"
    assert "0.1" not in repr(call)


def test_requests() -> None:
    call = decode(SAMPLES["cohere"])
    roles = [m.role for m in call.input_messages]
    assert roles == ["user", "system", "user", "assistant", "tool"]
    assert call.input_messages[0].name == "documents"
    assert call.input_messages[4].parts[0]["id"] == "t0"
    assert call.request_params == {"temperature": 0.3}


def test_an_error() -> None:
    call = decode(SAMPLES["cohere_error"])
    assert (call.error_type, call.error_message) == ("401", "bad key")


@pytest.mark.parametrize("name", ["cohere_stream", "cohere_tool_stream"])
def test_any_cut_gives_a_beginning(name: str) -> None:
    whole = SAMPLES[name]
    full = "".join(str(content) for _, content in said(decode(whole)))
    for cut in range(len(whole.response_body)):
        part = Exchange(
            method="POST",
            path=whole.path,
            request_body=whole.request_body,
            http_status=200,
            response_headers=whole.response_headers,
            response_body=whole.response_body[:cut],
            response_complete=False,
        )
        call = decode(part)
        got = "".join(str(c) for _, c in said(call)) if call.output_messages else ""
        assert full.startswith(got)
