"""Usage: every provider's counts in the one inclusive form, what is wrong named, gaps estimated."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtap.dialects.estimate import text_tokens
from llmtap.dialects.model import Call, Exchange, Usage
from llmtap.dialects.registry import decode
from tests.dialects.samples import (
    CHAT_ANSWER,
    CLAUDE_ANSWER,
    OLLAMA_LINES,
    OLLAMA_REQUEST,
    SAMPLES,
    chunk,
    exchange,
    sse,
)


def chat_with(usage: Any) -> Call:
    body = json.dumps({**CHAT_ANSWER, "usage": usage}).encode()
    return decode(dataclasses.replace(SAMPLES["chat"], response_body=body))


def claude_with(usage: Any) -> Call:
    body = json.dumps({**CLAUDE_ANSWER, "usage": usage}).encode()
    return decode(dataclasses.replace(SAMPLES["claude"], response_body=body))


@pytest.mark.parametrize(
    ("usage", "problem"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}, ""),
        ({"prompt_tokens": 5.0, "completion_tokens": 2, "total_tokens": 7.0}, ""),
        ({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 9}, "total_is_not_sum"),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
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
        ({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": -3}, "negative_count"),
        (
            {
                "prompt_tokens": 1,
                "completion_tokens": 2,
                "completion_tokens_details": {"reasoning_tokens": -1},
            },
            "negative_count",
        ),
        ({"prompt_tokens": 5.5, "completion_tokens": 2}, "not_a_count"),
        ({"prompt_tokens": "5", "completion_tokens": 2}, "not_a_count"),
        ({"prompt_tokens": True, "completion_tokens": 2}, "not_a_count"),
        ({"prompt_tokens": 1 << 32, "completion_tokens": 2}, "not_a_count"),
        ({"prompt_tokens": None, "queue_time": 0.1}, "no_counts"),
    ],
)
def test_what_does_not_add_up_is_named(usage: dict[str, Any], problem: str) -> None:
    call = chat_with(usage)
    assert (call.usage_source, call.usage_problem) == ("reported", problem)
    assert json.loads(call.usage_raw) == usage


def test_counts_fit_the_store_also_when_summed() -> None:
    call = claude_with({"input_tokens": 1 << 31, "cache_read_input_tokens": 1 << 31})
    assert call.usage.input_tokens is None


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input_tokens": 10, "output_tokens": 4}, Usage(10, 4)),
        (
            {"input_tokens": 100, "cache_read_input_tokens": 900, "output_tokens": 50},
            Usage(1000, 50, 900),
        ),
        (
            {
                "input_tokens": 1,
                "cache_creation_input_tokens": 7,
                "cache_read_input_tokens": None,
                "output_tokens": 5,
                "output_tokens_details": {"thinking_tokens": 3},
            },
            Usage(8, 5, None, 7, 3),
        ),
    ],
)
def test_anthropic_counts_become_inclusive(usage: dict[str, Any], expected: Usage) -> None:
    call = claude_with(usage)
    assert (call.usage, call.usage_problem) == (expected, "")


def test_other_names_of_cached_tokens() -> None:
    deepseek = {"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 8}
    assert chat_with(deepseek).usage == Usage(9, 1, 8)
    groq = sse(chunk({"content": "x"}, "stop", x_groq={"usage": deepseek}))
    call = decode(dataclasses.replace(SAMPLES["chat_stream"], response_body=groq))
    assert (call.usage, call.usage_source) == (Usage(9, 1, 8), "reported")


def test_last_usage_wins_and_is_never_added_up() -> None:
    call = decode(SAMPLES["chat_stream_two_choices"])
    assert call.usage == Usage(20, 7, 5, None, 2)


def test_claude_stream_overwrites_only_what_a_later_event_has() -> None:
    body = SAMPLES["claude_stream"].response_body
    changed = body.replace(
        b'"usage": {"output_tokens": 9}',
        b'"usage": {"output_tokens": 9, "input_tokens": 11, "cache_read_input_tokens": null}',
    )
    assert changed != body
    call = decode(dataclasses.replace(SAMPLES["claude_stream"], response_body=changed))
    assert call.usage == Usage(116, 9, 100, 5)


@pytest.mark.parametrize(
    ("final", "expected"),
    [
        ({"prompt_eval_count": 5, "eval_count": 2}, Usage(5, 2)),
        ({"eval_count": 2, "total_duration": 9}, Usage(0, 2)),
        ({"total_duration": 9}, Usage(0, 0)),
    ],
)
def test_ollama_leaves_zeros_out(final: dict[str, Any], expected: Usage) -> None:
    answer = {"model": "m", "message": {"role": "assistant", "content": "x"}, "done": True, **final}
    call = decode(exchange("/api/chat", {**OLLAMA_REQUEST, "stream": False}, answer))
    assert (call.usage, call.usage_source) == (expected, "reported")


def test_timings_stand_in_for_usage_only() -> None:
    timings = {"cache_n": 4, "prompt_n": 6, "predicted_n": 3}
    call = decode(exchange("/v1/chat/completions", {}, {**CHAT_ANSWER, "timings": timings}))
    assert call.usage_source == "reported"
    call = decode(SAMPLES["chat_timings"])
    assert (call.usage_source, call.usage) == ("server_timings", Usage(10, 3, 4))
    assert json.loads(call.usage_raw) == timings


def without_usage(name: str, **changes: Any) -> Exchange:
    answer = json.loads(SAMPLES[name].response_body)
    del answer["usage"]
    body = json.dumps(answer).encode()
    return dataclasses.replace(SAMPLES[name], response_body=body, **changes)


@pytest.mark.parametrize("name", ["chat", "completion", "embeddings", "claude"])
def test_silent_servers_are_estimated(name: str) -> None:
    call = decode(without_usage(name))
    assert (call.usage_source, call.usage_raw, call.usage_problem) == ("estimated", "", "")
    assert (call.usage.input_tokens or 0) > 0
    output = call.usage.output_tokens
    assert output == 0 if name == "embeddings" else (output or 0) > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"http_status": 0, "response_body": b"", "response_headers": {}},
        {"http_status": 500, "response_body": b""},
        {"http_status": 429, "response_body": b'{"error":{"message":"slow down"}}'},
        {"http_status": 200, "response_body": b'{"error":{"message":"boom"}}'},
        {"http_status": 302, "response_body": b""},
    ],
    ids=["no answer", "empty 500", "429", "error in 200", "redirect"],
)
@pytest.mark.parametrize("name", ["chat_stream", "chat", "completion", "claude_stream", "ollama"])
def test_nothing_is_estimated_for_what_was_never_answered(
    name: str, changes: dict[str, Any]
) -> None:
    call = decode(dataclasses.replace(SAMPLES[name], **changes))
    assert (call.usage, call.usage_source) == (Usage(), "")


def test_an_unreadable_answer_has_an_unknown_output() -> None:
    call = decode(dataclasses.replace(SAMPLES["chat"], response_body=b"<html>"))
    assert call.usage_source == "estimated"
    assert (call.usage.input_tokens or 0) > 0 and call.usage.output_tokens is None


def test_estimate_grows_with_what_arrived() -> None:
    """A stream that was cut: the more came, the more output is estimated; the input stays."""
    lines = [*OLLAMA_LINES[:2], *[OLLAMA_LINES[2]] * 30]
    counts: list[Usage] = []
    for n in range(1, len(lines)):
        body = b"".join(json.dumps(line).encode() + b"\n" for line in lines[:n])
        call = decode(dataclasses.replace(SAMPLES["ollama_stream"], response_body=body))
        assert (call.usage_source, call.stream_complete) == ("estimated", False)
        counts.append(call.usage)
    outputs = [count.output_tokens or 0 for count in counts]
    assert outputs == sorted(outputs) and outputs[-1] > outputs[0] > 0
    assert len({count.input_tokens for count in counts}) == 1


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The quick brown fox jumps over the lazy dog. " * 10, 100),
        ("def add(a: int, b: int) -> int:\n    return a + b\n" * 10, 190),
        ("今天天气很好，我们一起去公园散步吧。" * 10, 130),
        ("Сегодня хорошая погода, пойдём гулять в парк. " * 10, 120),
    ],
    ids=["prose", "code", "chinese", "russian"],
)
def test_token_estimates_by_kind_of_text(text: str, tokens: int) -> None:
    """Of the size that o200k-like tokenizers make of it."""
    assert 0.6 * tokens <= text_tokens(text) <= 1.6 * tokens
    assert text_tokens("") == 0


@given(st.text(st.characters()), st.text(st.characters()))
def test_token_estimates_are_bounded_and_monotone(one: str, other: str) -> None:
    both = text_tokens(one + other)
    assert max(text_tokens(one), text_tokens(other)) <= both + 1
    assert 0 <= both <= len((one + other).encode("utf-8", "replace")) + 1
