"""Reranking in all its accents; Cohere's SDK judges its own."""

from __future__ import annotations

import dataclasses
import json

import cohere
import httpx
import pytest

from llmtap.dialects.model import Call, Exchange, Usage
from llmtap.dialects.registry import decode
from tests.dialects.samples import exchange
from tests.dialects.samples_rerank import COHERE, SAMPLES


def ranking(call: Call) -> list[tuple[int, float]]:
    [[part]] = [message.parts for message in call.output_messages]
    assert part["generic_type"] == "ranking"
    return [(one["index"], one["score"]) for one in part["results"]]


def test_coheres_own_client() -> None:
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json=COHERE)

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        client = cohere.ClientV2(api_key="k", base_url="http://peer", httpx_client=http)
        got = client.rerank(model="rerank-v3.5", query="Grüße?", documents=["a", "b"], top_n=2)
    call = decode(
        Exchange(
            method="POST",
            path=sent[0].url.path,
            request_body=sent[0].content,
            http_status=200,
            response_headers={"content-type": "application/json"},
            response_body=json.dumps(COHERE).encode(),
        )
    )
    assert (call.dialect, call.operation, call.provider) == ("rerank", "rerank", "cohere")
    assert call.model_requested == "rerank-v3.5" and call.request_params == {"top_n": 2}
    assert [p["content"] for m in call.input_messages for p in m.parts] == ["Grüße?", "a", "b"]
    assert ranking(call) == [(r.index, r.relevance_score) for r in got.results]
    assert call.response_id == got.id
    assert (call.usage, call.usage_source) == (Usage(), "reported")
    assert json.loads(call.usage_raw) == {"search_units": 1}


@pytest.mark.parametrize("name", ["rerank_jina", "rerank_tei"])
def test_accents(name: str) -> None:
    call = decode(SAMPLES[name])
    assert ranking(call)[0] == (1, 0.98) and call.decode_error == ""
    assert call.input_messages[1].parts[1]["content"] == "Servus"
    expected = Usage(15, 0) if name == "rerank_jina" else Usage()
    assert call.usage == expected


def test_an_error() -> None:
    call = decode(SAMPLES["rerank_error"])
    assert (call.error_type, call.error_message) == ("401", "invalid api token")
    assert call.output_messages == []


@pytest.mark.parametrize("name", ["rerank_cohere", "rerank_tei"])
def test_any_cut_is_survived(name: str) -> None:
    whole = SAMPLES[name]
    for cut in range(len(whole.response_body)):
        body = whole.response_body[:cut]
        call = decode(dataclasses.replace(whole, response_body=body, response_complete=False))
        assert call.dialect == "rerank"


@pytest.mark.parametrize("path", ["/completion", "/infill"])
def test_llama_cpps_own_paths(path: str) -> None:
    said = {"content": " upon", "stop": True, "stop_type": "eos", "model": "m.gguf"}
    asked = {"prompt": "Once", "input_prefix": "def f(", "input_suffix": "): pass"}
    call = decode(exchange(path, asked, {**said, "timings": {"prompt_n": 3, "predicted_n": 1}}))
    text = "def f(Once): pass" if path == "/infill" else "Once"
    assert call.input_messages[0].parts == [{"type": "text", "content": text}]
    assert call.output_messages[0].parts == [{"type": "text", "content": " upon"}]
    assert (call.usage, call.usage_source, call.finish_reason) == (
        Usage(3, 1),
        "server_timings",
        "eos",
    )
