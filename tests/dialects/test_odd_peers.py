"""What real servers and networks do beside the book, one test per oddity."""

from __future__ import annotations

import dataclasses
import gzip
import json
from typing import Any

import pytest

from llmtap.dialects.estimate import text_tokens
from llmtap.dialects.model import Call, Message, Usage
from llmtap.dialects.registry import decode
from tests.dialects.samples import (
    CHAT,
    CHAT_ANSWER,
    CHAT_REQUEST,
    CLAUDE_EVENTS,
    CLAUDE_REQUEST,
    JSON_TYPE,
    SAMPLES,
    SSE_TYPE,
    STREAM_REQUEST,
    chunk,
    exchange,
    named,
    sse,
)


def chat(answer: dict[str, Any]) -> Call:
    return decode(exchange(CHAT, CHAT_REQUEST, answer))


def stream(body: bytes, **more: Any) -> Call:
    return decode(exchange(CHAT, STREAM_REQUEST, body, **more))


def tool_chunk(function: dict[str, str], **more: Any) -> dict[str, Any]:
    return chunk({"tool_calls": [{"type": "function", "function": function, **more}]})


@pytest.mark.parametrize("missing", [1, 2])
def test_the_last_event_needs_no_blank_line(missing: int) -> None:
    call = stream(sse(chunk({"content": "a"}, "stop"))[:-missing])
    assert call.stream_complete and call.decode_error == ""
    claude = named(*CLAUDE_EVENTS)[:-missing]
    assert decode(
        exchange("/v1/messages", {**CLAUDE_REQUEST, "stream": True}, claude)
    ).stream_complete


def test_a_last_event_that_is_cut_is_none() -> None:
    body = sse(chunk({"content": "a"}), chunk({"content": "b"}), done=False)
    call = stream(body[:-6])
    assert not call.stream_complete and call.decode_error == ""
    assert call.output_messages == [Message("assistant", [{"type": "text", "content": "a"}])]


def test_stream_that_begins_with_a_comment_and_has_no_content_type() -> None:
    body = b": OPENROUTER PROCESSING\n\n" + sse(chunk({"content": "a"}, "stop"))
    call = stream(body, response_headers={})
    assert (call.stream_complete, call.finish_reason, call.decode_error) == (True, "stop", "")


def test_plain_error_under_the_content_type_of_a_stream() -> None:
    body = b'{"error": {"message": "no", "type": "bad"}}'
    call = stream(body, response_headers=SSE_TYPE, status=400)
    assert (call.error_type, call.error_message, call.decode_error) == ("bad", "no", "")


@pytest.mark.parametrize("index", [{}, {"index": 0}], ids=["no index", "one index for all"])
def test_parallel_tool_calls_told_apart_by_id_alone(index: dict[str, int]) -> None:
    """Google's OpenAI-compatible endpoint, older Ollama."""
    call = stream(
        sse(
            tool_chunk({"name": "one", "arguments": "{"}, id="a", **index),
            tool_chunk({"arguments": "}"}, **index),
            tool_chunk({"name": "two", "arguments": "{}"}, id="b", **index),
            tool_chunk({"arguments": " "}, **index),
        )
    )
    found = [(p["id"], p["name"], p["arguments"]) for p in call.output_messages[0].parts]
    assert found == [("a", "one", "{}"), ("b", "two", "{} ")]


def test_new_ids_on_fragments_without_a_name_are_the_same_call() -> None:
    """Older vLLM made up an id for every fragment."""
    call = stream(
        sse(
            tool_chunk({"name": "one", "arguments": ""}, id="a", index=0),
            tool_chunk({"arguments": "{}"}, id="b", index=0),
        )
    )
    parts = call.output_messages[0].parts
    assert [(p["id"], p["arguments"]) for p in parts] == [("a", "{}")]


def test_reasoning_beside_the_completion_tokens_is_added() -> None:
    """xAI: the total says that reasoning is not in completion_tokens."""
    details = {"reasoning_tokens": 20}
    counts = {"prompt_tokens": 10, "completion_tokens": 5, "completion_tokens_details": details}
    beside = chat({**CHAT_ANSWER, "usage": {**counts, "total_tokens": 35}})
    assert beside.usage == Usage(10, 25, None, None, 20) and beside.usage_problem == ""
    odd = chat({**CHAT_ANSWER, "usage": {**counts, "total_tokens": 34}})
    assert odd.usage.output_tokens == 5 and odd.usage_problem == "reasoning_exceeds_output"


def test_azure_names_the_model_in_the_path() -> None:
    request = {key: value for key, value in CHAT_REQUEST.items() if key != "model"}
    call = decode(exchange("/openai/deployments/mine/chat/completions", request, CHAT_ANSWER))
    assert (call.model_requested, call.model_served) == ("mine", "gpt-4o-mini-x")


def test_trailing_slash() -> None:
    assert decode(exchange(CHAT + "/", CHAT_REQUEST, CHAT_ANSWER)) == decode(SAMPLES["chat"])
    embed = SAMPLES["ollama_embed"]
    assert decode(dataclasses.replace(embed, path=embed.path + "/")) == decode(embed)


def test_another_api_under_a_path_of_ours_is_unknown() -> None:
    call = decode(exchange("/v1/messages", {"to": "x", "body": "hi"}, {"ok": True}))
    assert call == Call()


def test_cut_request_keeps_what_was_said() -> None:
    sample = SAMPLES["chat"]
    cut = dataclasses.replace(
        sample, request_body=sample.request_body[:150], request_complete=False
    )
    call = decode(cut)
    assert (call.model_requested, call.decode_error) == ("gpt-4o-mini", "the request body was cut")
    assert call.input_messages[0].parts == [{"type": "text", "content": "Be brief."}]
    assert call.usage == decode(sample).usage


def test_cut_answer_keeps_what_was_said_but_no_half_usage() -> None:
    sample = SAMPLES["chat"]
    body = sample.response_body[: sample.response_body.index(b"completion_tokens")]
    call = decode(dataclasses.replace(sample, response_body=body, response_complete=False))
    assert call.decode_error == "the response body was cut"
    assert call.output_messages == decode(sample).output_messages
    assert call.usage_source == "estimated" and call.usage_raw == ""


def test_cut_gzip_keeps_what_was_said() -> None:
    sample = SAMPLES["chat"]
    body = gzip.compress(sample.response_body)[:-30]
    headers = {**JSON_TYPE, "content-encoding": "gzip"}
    call = decode(dataclasses.replace(sample, response_body=body, response_headers=headers))
    assert call.decode_error == "the response body was cut"
    assert call.model_served == "gpt-4o-mini-x"


def test_header_that_claims_a_coding_which_is_not_there() -> None:
    headers = {**JSON_TYPE, "content-encoding": "gzip"}
    sample = dataclasses.replace(SAMPLES["chat"], response_headers=headers)
    assert decode(sample) == decode(SAMPLES["chat"])


def test_broken_coding_is_what_is_reported() -> None:
    headers = {**JSON_TYPE, "content-encoding": "gzip"}
    sample = dataclasses.replace(
        SAMPLES["chat"], response_headers=headers, response_body=b"\x1f\x8b nonsense"
    )
    assert decode(sample).decode_error.startswith("gzip: ")


@pytest.mark.parametrize("depth", [199, 300, 900, 5000])
def test_deep_json_never_reaches_who_walks_the_call(depth: int) -> None:
    """Whatever is kept can be walked by plain recursion."""
    nest = b"[" * depth + b"]" * depth
    request = b'{"model": "m", "tools": [%b], "messages": []}' % nest
    body = json.dumps(CHAT_ANSWER).encode()
    call = decode(exchange(CHAT, request, body))
    json.dumps(dataclasses.asdict(call))
    assert call.model_served == "gpt-4o-mini-x"
    assert bool(call.decode_error) == (depth >= 199)


def test_prompts_of_token_ids_are_counted_not_measured() -> None:
    answer = {"id": "x", "choices": [{"index": 0, "text": "", "finish_reason": "length"}]}
    call = decode(exchange("/v1/completions", {"model": "m", "prompt": [10, 20, 30]}, answer))
    ids = {"type": "generic", "generic_type": "token_ids", "ids": [10, 20, 30]}
    assert call.input_messages == [Message("user", [ids])]
    vectors: dict[str, Any] = {"object": "list", "data": [], "model": "m"}
    batch = decode(exchange("/v1/embeddings", {"model": "m", "input": [[1, 2], [3]]}, vectors))
    assert [m.parts[0]["ids"] for m in batch.input_messages] == [[1, 2], [3]]
    assert (batch.usage, batch.usage_source) == (Usage(3, 0), "estimated")


def test_bare_base64_in_place_of_a_url_is_a_blob() -> None:
    image = {"type": "image_url", "image_url": {"url": "QUJD" * 1000}}
    request = {"model": "m", "messages": [{"role": "user", "content": [image]}]}
    part = decode(exchange(CHAT, request, CHAT_ANSWER)).input_messages[0].parts[0]
    assert (part["type"], part["modality"], part["size"]) == ("blob", "image", 3000)


def test_ollama_images_without_a_prompt() -> None:
    request = {"model": "m", "prompt": "", "images": ["aGVsbG8="], "stream": False}
    call = decode(exchange("/api/generate", request, {"model": "m", "response": "r", "done": True}))
    assert [p["type"] for p in call.input_messages[0].parts] == ["text", "blob"]


@pytest.mark.parametrize(
    ("text", "o200k"),
    [
        ("The proxy records every exchange that passes through it, and a second process", 14),
        ("Прокси записывает каждый обмен, который проходит через него, а отдельный процесс", 17),
        (
            "代理服务器会记录通过它的每一次交换，随后由一个独立的进程解码所说的内容、使用了多少令牌以及花费了多少钱。",
            36,
        ),
        ("プロキシは通過するすべてのやり取りを記録し、別のプロセスが後で何が言われたか", 33),
        ("प्रॉक्सी अपने से गुजरने वाले हर आदान-प्रदान को रिकॉर्ड करता है", 18),
        ("3.14159265358979 2718281828 1234567890 42 17 2026-11-21T00:50:12.123456Z", 38),
    ],
)
def test_estimates_are_near_a_real_tokenizer(text: str, o200k: int) -> None:
    assert 0.7 * o200k <= text_tokens(text) <= 1.5 * o200k
