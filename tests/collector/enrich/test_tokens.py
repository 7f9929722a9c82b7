"""Counting tokens: tiktoken is the judge, the network is never asked."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from llmtap.collector.enrich.tokens import MAX_COUNTED, Calibration, Tokenizers, encoding_of
from llmtap.dialects.estimate import text_tokens, usage_of
from llmtap.dialects.model import Call, Message, Usage


def call(model: str, text: str = "hello", answer: str = "world", **changes: Any) -> Call:
    """An answered chat whose server told no usage."""
    made = Call(
        dialect="openai_chat",
        operation="chat",
        model_requested=model,
        input_messages=[Message("user", [{"type": "text", "content": text}])],
        output_messages=[Message("assistant", [{"type": "text", "content": answer}])],
        usage_source="estimated",
    )
    made.usage = usage_of(made, text_tokens)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> Tokenizers:
    return Tokenizers(tmp_path_factory.mktemp("ranks") / "tokenizers")


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o-mini-2024-07-18", "o200k_base"),
        ("gpt-5.2", "o200k_base"),
        ("openai/gpt-oss-120b", "o200k_base"),
        ("ft:gpt-4o-mini:acme::abc", "o200k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("gpt-35-turbo", "cl100k_base"),
        ("text-embedding-3-small", "cl100k_base"),
        ("claude-sonnet-4-5", ""),
        ("llama3", ""),
        ("", ""),
    ],
)
def test_encodings(model: str, encoding: str) -> None:
    assert encoding_of(model) == encoding
    if encoding and not model.startswith(("ft:", "openai/", "gpt-35", "gpt-5.2")):
        assert tiktoken.encoding_name_for_model(model) == encoding


def test_a_chat_is_counted_as_openai_counts_it(tokenizers: Tokenizers) -> None:
    """Three tokens a message and three for the reply (OpenAI's cookbook), then the texts."""
    counted = call("gpt-4o", "The quick brown fox jumps over the lazy dog.", "Indeed.")
    tokenizers.complete(counted)
    assert counted.usage_source == "counted"
    assert counted.usage == Usage(input_tokens=3 + 10 + 3, output_tokens=2)


def test_no_network_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for model, tokens in (("gpt-4o", 1), ("gpt-4", 1)):
        counted = call(model, "hello", "world")
        Tokenizers(tmp_path / model).complete(counted)
        assert (counted.usage_source, counted.usage.output_tokens) == ("counted", tokens)
    assert (tmp_path / "gpt-4").stat().st_mode & 0o777 == 0o700


def test_damaged_ranks_are_unpacked_again(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    Tokenizers(folder).complete(call("gpt-4o"))
    (ranks,) = folder.iterdir()
    ranks.write_bytes(b"IQ== 0\n")
    counted = call("gpt-4o")
    Tokenizers(folder).complete(counted)
    assert counted.usage_source == "counted"


@settings(max_examples=50, deadline=None)
@given(text=st.text(max_size=300))
def test_any_text_counts_as_tiktoken_says(tokenizers: Tokenizers, text: str) -> None:
    counted = call("gpt-4o", "x", text)
    tokenizers.complete(counted)
    expected = len(tiktoken.get_encoding("o200k_base").encode_ordinary(text))
    assert counted.usage.output_tokens == expected


def test_odd_texts(tokenizers: Tokenizers) -> None:
    long = call("gpt-4o", "x", "word " * MAX_COUNTED)
    tokenizers.complete(long)
    assert abs((long.usage.output_tokens or 0) - MAX_COUNTED) < MAX_COUNTED / 100
    for text in ("a\ud800b", "<|endoftext|>", "a" * 100_000):
        odd = call("gpt-4o", "x", text)
        tokenizers.complete(odd)
        assert odd.usage_source == "counted" and odd.usage.output_tokens


def test_reported_counts_stay(tokenizers: Tokenizers) -> None:
    told = call("gpt-4o", usage=Usage(7, 9), usage_source="reported", usage_raw="{}")
    tokenizers.complete(told)
    assert (told.usage, told.usage_source) == (Usage(7, 9), "reported")
    half = call("gpt-4o", usage=Usage(7, 9), usage_raw='{"input_tokens":7}')
    tokenizers.complete(half)  # a cut stream that told its input: what was told stays
    assert (half.usage, half.usage_source) == (Usage(7, 9), "estimated")


def test_a_users_tokenizer(tmp_path: Path) -> None:
    made = Tokenizer(models.WordLevel({"hello": 0, "big": 1, "world": 2, "?": 3}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    path = tmp_path / "tokenizer.json"
    made.save(str(path))
    counted = call("llama-3-8b", "hello big world", "world")
    Tokenizers(tmp_path, {"llama-*": path}).complete(counted)
    assert (counted.usage, counted.usage_source) == (Usage(3 + 3 + 3, 1), "counted")
    missing = call("llama-3-8b")
    Tokenizers(tmp_path, {"llama-*": tmp_path / "nowhere.json"}).complete(missing)
    assert missing.usage_source == "estimated"


def test_estimates_learn_from_what_the_model_reports(tmp_path: Path) -> None:
    known = Tokenizers(tmp_path)
    estimate = call("claude-x").usage
    assert estimate.input_tokens and estimate.output_tokens
    for _ in range(Calibration.EVERY * Calibration.ENOUGH):
        before = call("claude-x")
        known.complete(before)
        assert before.usage == estimate  # not enough is known yet
        told = Usage(2 * estimate.input_tokens, estimate.output_tokens)
        known.complete(call("claude-x", usage=told, usage_source="reported"))
    after = call("claude-x")
    known.complete(after)
    assert after.usage == Usage(2 * estimate.input_tokens, estimate.output_tokens)
    assert after.usage_source == "estimated"
    other = call("other-model")
    known.complete(other)
    assert other.usage == estimate
