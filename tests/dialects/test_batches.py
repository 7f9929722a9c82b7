"""Files, batches and token counts: the SDKs send and read, we read the same out of the bytes."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from llmtap.dialects.model import Call, Part, Usage
from llmtap.dialects.registry import DIALECTS, decode
from tests.dialects.samples import SAMPLES, exchange
from tests.dialects.samples_openai_media import BATCH, CLAUDE_BATCH, CLAUDE_RESULTS, FILE
from tests.dialects.sdk_wire import AZURE, CLAUDE, OPENAI, answer, captured, read


def part_of(call: Call) -> Part:
    [message] = call.output_messages
    [part] = message.parts
    return part


def check_file(call: Call, got: Any) -> None:
    part = part_of(call)
    assert (call.dialect, call.operation) == ("openai_files", "files")
    assert (part["generic_type"], part["id"], part["bytes"]) == ("file", got.id, got.bytes)
    assert (part["purpose"], part["filename"]) == (got.purpose, got.filename)
    assert call.response_id == got.id


def test_a_file_is_uploaded() -> None:
    answer(FILE)
    content = b'{"custom_id": "a", "secret": "\r\n--"}\n'
    got = OPENAI.files.create(file=("ü.jsonl", content), purpose="batch")
    call = read()
    check_file(call, got)
    [upload] = call.input_messages[0].parts
    assert (upload["filename"], upload["size"]) == ("ü.jsonl", len(content))
    assert call.request_params == {"purpose": "batch"}
    assert "secret" not in json.dumps(dataclasses.asdict(call))
    OPENAI.files.create(
        file=content, purpose="batch", expires_after={"anchor": "created_at", "seconds": 60}
    )
    expires = read().request_params["expires_after"]
    assert expires == {"anchor": "created_at", "seconds": "60"}


def test_a_file_is_named_listed_deleted() -> None:
    answer(FILE)
    check_file(read_after(lambda: OPENAI.files.retrieve("file-1")), OPENAI.files.retrieve("file-1"))
    answer({"object": "list", "data": [FILE, FILE], "has_more": False})
    assert len(OPENAI.files.list().data) == 2
    assert part_of(read()) == {"type": "generic", "generic_type": "files_list", "count": 2}
    answer({"id": "file-1", "object": "file", "deleted": True})
    OPENAI.files.delete("file-1")
    assert captured().method == "DELETE"
    assert part_of(read())["deleted"] is True


def read_after(ask: Any) -> Call:
    ask()
    return read()


def test_a_file_is_downloaded() -> None:
    answer(b'{"secret": 1}\n', "application/octet-stream")
    got = OPENAI.files.content("file-2").read()
    part = part_of(read())
    assert (part["generic_type"], part["size"]) == ("file_content", len(got))
    assert "secret" not in json.dumps(part)
    answer({"error": {"message": "gone", "type": "x", "code": None}}, status=404)
    call = decode(dataclasses.replace(captured(), http_status=404, response_body=b""))
    assert (call.dialect, call.output_messages) == ("openai_files", [])


def check_batch(call: Call, got: Any) -> None:
    part = part_of(call)
    assert (call.dialect, call.operation, call.response_id) == ("openai_files", "batch", got.id)
    assert (part["status"], part["endpoint"]) == (got.status, got.endpoint)
    assert part["request_counts"] == got.request_counts.model_dump()
    assert part["output_file_id"] == got.output_file_id


def test_a_batch_is_made_and_polled() -> None:
    answer({**BATCH, "status": "validating", "usage": {**BATCH["usage"], **_NOTHING}})
    got: Any = OPENAI.batches.create(
        input_file_id="file-1", endpoint="/v1/chat/completions", completion_window="24h"
    )
    call = read()
    check_batch(call, got)
    assert call.input_messages[0].parts == [{"type": "file", "file_id": "file-1"}]
    assert call.request_params == {
        "input_file_id": "file-1",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }
    assert (call.usage, call.usage_source) == (Usage(), "")
    answer(BATCH)
    got = OPENAI.batches.retrieve("batch_1")
    call = read()
    check_batch(call, got)
    assert call.model_served == got.model
    assert (call.usage, call.usage_source) == (Usage(), "")  # every poll would count it again
    told = part_of(call)["usage"]
    assert (told["input_tokens"], told["output_tokens"]) == (100, 30)
    assert (got.usage.input_tokens, got.usage.output_tokens) == (100, 30)


_NOTHING = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}


def test_batches_are_cancelled_and_listed() -> None:
    answer({**BATCH, "status": "cancelling"})
    got: Any = OPENAI.batches.cancel("batch_1")
    call = read()
    check_batch(call, got)
    assert call.usage_source == ""
    answer({"object": "list", "data": [BATCH], "has_more": False})
    assert len(AZURE.batches.list().data) == 1
    assert captured().path == "/openai/batches"
    call = read()
    assert part_of(call) == {"type": "generic", "generic_type": "batch_list", "count": 1}
    assert call.usage_source == ""


def test_counting_tokens_uses_none() -> None:
    answer({"input_tokens": 12})
    messages: Any = [{"role": "user", "content": "2+2?"}]
    got = CLAUDE.messages.count_tokens(model="claude-x", system="Be brief.", messages=messages)
    call = read()
    assert (call.dialect, call.operation) == ("anthropic_count_tokens", "count_tokens")
    assert (call.provider, call.model_requested) == ("anthropic", "claude-x")
    assert [m.role for m in call.input_messages] == ["system", "user"]
    assert part_of(call)["input_tokens"] == got.input_tokens
    assert (call.usage, call.usage_source, call.usage_raw) == (Usage(), "", "")


_PARAMS: Any = {"max_tokens": 9, "messages": [{"role": "user", "content": "q"}]}


def check_claude_batch(call: Call, got: Any) -> None:
    part = part_of(call)
    assert (call.dialect, call.operation) == ("anthropic_batches", "batch")
    assert (part["generic_type"], call.response_id) == ("batch", got.id)
    assert part["processing_status"] == got.processing_status
    assert part["request_counts"] == got.request_counts.model_dump()
    assert (call.usage, call.usage_source) == (Usage(), "")


def test_claude_batches() -> None:
    answer(CLAUDE_BATCH)
    batches: Any = CLAUDE.messages.batches
    for models in (["m", "m"], ["m", "n"]):
        requests = [
            {"custom_id": str(i), "params": {**_PARAMS, "model": m}} for i, m in enumerate(models)
        ]
        got = batches.create(requests=requests)
        call = read()
        check_claude_batch(call, got)
        assert call.model_requested == ("m" if len(set(models)) == 1 else "")
        assert call.request_params == {"requests": 2}
        assert call.input_messages[0].parts[0]["models"] == sorted(set(models))
    check_claude_batch(read_after(lambda: batches.retrieve("b1")), got)
    check_claude_batch(read_after(lambda: batches.cancel("b1")), got)
    answer({"data": [CLAUDE_BATCH], "has_more": False, "first_id": None, "last_id": None})
    batches.list()
    assert part_of(read())["count"] == 1
    answer({"id": "b1", "type": "message_batch_deleted"})
    batches.delete("b1")
    assert (read().response_id, captured().method) == ("b1", "DELETE")


def test_claude_batch_results_are_counted() -> None:
    answer({**CLAUDE_BATCH, "results_url": "http://peer/v1/messages/batches/b1/results"})
    CLAUDE.messages.batches.retrieve("b1")
    call = decode(SAMPLES["claude_batch_results"])
    assert part_of(call) == {
        "type": "generic",
        "generic_type": "batch_results",
        "size": len(CLAUDE_RESULTS),
        "results": {"canceled": 2, "expired": 1},
    }


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", "/v1/files", "openai_files"),
        ("GET", "/files/f", "openai_files"),
        ("GET", "/openai/v1/files/f/content", "openai_files"),
        ("POST", "/openai/deployments/d/batches", "openai_files"),
        ("POST", "/v1/batches/b/cancel/", "openai_files"),
        ("GET", "/v1/vector_stores/v/files", "unknown"),
        ("GET", "/v1/containers/c/files/f/content", "unknown"),
        ("GET", "/v1/files/f/other", "unknown"),
        ("PUT", "/v1/files/f", "unknown"),
        ("GET", "/v1beta/files/f", "unknown"),
        ("GET", "/v1/images/generations", "unknown"),
        ("GET", "/v1/messages/count_tokens", "unknown"),
        ("POST", "/v1/messages/batches", "anthropic_batches"),
        ("GET", "/anthropic/v1/messages/batches/b", "anthropic_batches"),
        ("GET", "/v1/messages/batches/b/results", "anthropic_batches"),
        ("POST", "/v1/messages/count_tokens", "anthropic_count_tokens"),
        ("POST", "/v1/messages", "anthropic_messages"),
    ],
)
def test_paths(method: str, path: str, name: str) -> None:
    call = decode(exchange(path, b"", b"", method=method))
    assert call.dialect == name
    first = [d.name for d in DIALECTS if d.matches(method, path.rstrip("/"))][:1]
    assert first == ([] if name == "unknown" else [name])
