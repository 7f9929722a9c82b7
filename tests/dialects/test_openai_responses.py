"""The Responses API, with OpenAI's SDK as the judge of the same bytes."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import httpx2
import openai
import pytest
from openai.types.responses import Response

from llmtap.dialects.model import Arrivals, Call, Exchange, Message, Usage
from llmtap.dialects.registry import decode
from tests.dialects.samples import exchange, sse
from tests.dialects.samples_openai_responses import (
    ANSWER,
    BEGUN,
    BUILT_IN,
    EVENTS,
    PATH,
    PNG,
    REQUEST,
    SAMPLES,
    STREAM,
    STREAM_REQUEST,
    USAGE,
    event,
    fetched,
    message,
    output_text,
    response,
    started,
    stream_of,
)

_REPLY: list[tuple[int, str, bytes]] = []
"""What the transport answers: one status, content type and body."""


def _reply(_: httpx2.Request) -> httpx2.Response:
    status, kind, body = _REPLY[-1]
    return httpx2.Response(status, headers={"content-type": kind}, content=body)


_HTTP = httpx2.Client(transport=httpx2.MockTransport(_reply))
_OPENAI = openai.OpenAI(api_key="k", base_url="http://peer/v1", http_client=_HTTP, max_retries=0)
HELLO_SHA = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


def as_sdk(body: bytes, status: int = 200) -> Response:
    _REPLY[:] = [(status, "application/json", body)]
    return _OPENAI.responses.create(model="m", input="q")


def as_sdk_stream(body: bytes) -> tuple[str, dict[int, list[str]], Response | None]:
    """(text of all deltas, id, name and arguments per tool call, the last response) by the SDK."""
    _REPLY[:] = [(200, "text/event-stream", body)]
    said, last = "", None
    tools: dict[int, list[str]] = {}
    for got in _OPENAI.responses.create(model="m", input="q", stream=True):
        match got.type:
            case "response.output_text.delta":
                said += got.delta
            case "response.output_item.added" if got.item.type == "function_call":
                tools[got.output_index] = [got.item.call_id, got.item.name, ""]
            case "response.function_call_arguments.delta":
                tools[got.output_index][2] += got.delta
            case "response.completed" | "response.incomplete" | "response.failed":
                last = got.response
            case _:
                pass
    return said, tools, last


def text_of(call: Call) -> str:
    return "".join(
        p["content"] for m in call.output_messages for p in m.parts if p["type"] == "text"
    )


def tools_of(call: Call) -> list[list[str]]:
    parts = [p for m in call.output_messages for p in m.parts if p["type"] == "tool_call"]
    return [[p["id"], p["name"], p["arguments"]] for p in parts]


def agrees(call: Call, judged: Response) -> None:
    """Our call and the SDK's response of the same bytes say the same."""
    assert text_of(call) == judged.output_text
    assert (call.response_id, call.model_served) == (judged.id, judged.model)
    assert call.service_tier == judged.service_tier
    calls = [i for i in judged.output if i.type == "function_call"]
    ours = [tool for tool in tools_of(call) if tool[1] in {i.name for i in calls}]
    assert ours == [[i.call_id, i.name, i.arguments] for i in calls]
    if judged.usage:
        into, out = judged.usage.input_tokens_details, judged.usage.output_tokens_details
        assert call.usage == Usage(
            judged.usage.input_tokens,
            judged.usage.output_tokens,
            into.cached_tokens,
            into.cache_write_tokens,
            out.reasoning_tokens,
        )
        assert (call.usage_source, call.usage_problem) == ("reported", "")
        assert json.loads(call.usage_raw) == USAGE
    details = judged.incomplete_details
    assert call.finish_reason == ((details and details.reason) or judged.status)


def stream(body: bytes, **more: Any) -> Exchange:
    return exchange(PATH, STREAM_REQUEST, body, **more)


@pytest.mark.parametrize(
    "name",
    ["responses", "responses_built_in", "responses_refusal", "responses_incomplete"],
)
def test_sdk_agrees_on_whole_answers(name: str) -> None:
    agrees(decode(SAMPLES[name]), as_sdk(SAMPLES[name].response_body))


def test_sdk_agrees_on_the_streams() -> None:
    call = decode(SAMPLES["responses_stream"])
    said, tools, last = as_sdk_stream(STREAM)
    assert last is not None
    agrees(call, last)
    assert (said, [*tools.values()]) == (text_of(call), tools_of(call))
    failed = decode(SAMPLES["responses_stream_failed"])
    said, _, last = as_sdk_stream(SAMPLES["responses_stream_failed"].response_body)
    assert last is not None and last.error is not None and last.status == "failed"
    assert (failed.error_type, failed.error_message) == (last.error.code, last.error.message)
    assert (failed.finish_reason, text_of(failed)) == ("failed", said)
    assert failed.stream_complete


def test_samples_have_the_apis_shape() -> None:
    """Not only what the SDK lets pass: it builds its objects without validation."""
    for name, sample in SAMPLES.items():
        if sample.http_status == 200 and "stream" not in name and "compacted" not in name:
            Response.model_validate_json(sample.response_body)


def test_the_whole_call() -> None:
    assert decode(SAMPLES["responses"]) == Call(
        dialect="openai_responses",
        operation="chat",
        provider="openai",
        model_requested="gpt-5.1",
        model_served="gpt-5.1-2026",
        response_id="resp_1",
        input_messages=[
            Message("system", [{"type": "text", "content": "Be brief."}]),
            Message(
                "user",
                [
                    {"type": "text", "content": "Grüße?"},
                    _hello("image/png", "image"),
                    _hello("", "file"),
                    {"type": "file", "file_id": "file-1"},
                ],
            ),
            Message(
                "assistant",
                [
                    {"type": "generic", "generic_type": "item_reference", "id": "msg_0"},
                    {"type": "reasoning", "content": "", "redacted": True},
                    {"type": "tool_call", "id": "t0", "name": "f", "arguments": "{}"},
                ],
            ),
            Message("tool", [{"type": "tool_call_response", "id": "t0", "response": "42"}]),
            Message("developer", [{"type": "text", "content": "Now answer."}]),
        ],
        output_messages=[
            Message(
                "assistant",
                [
                    {"type": "reasoning", "content": "**Hm.**\n\nWell."},
                    {"type": "text", "content": "Hallo ü"},
                    {"type": "tool_call", "id": "t1", "name": "f", "arguments": '{"a": 1}'},
                ],
                finish_reason="completed",
            )
        ],
        tool_definitions=REQUEST["tools"],
        request_params={
            "temperature": 0.5,
            "max_output_tokens": 100,
            "reasoning": {"effort": "low", "summary": "auto"},
            "text": {"format": {"type": "text"}},
            "previous_response_id": "resp_0",
            "store": False,
        },
        finish_reason="completed",
        tool_calls=["f"],
        usage=Usage(20, 17, 5, 3, 2),
        usage_source="reported",
        usage_raw=json.dumps(USAGE, separators=(",", ":")),
        service_tier="default",
        user_id="ada",
    )


def _hello(mime_type: str, modality: str) -> dict[str, Any]:
    blob = {"type": "blob", "mime_type": mime_type, "modality": modality}
    return {**blob, "size": 5, "sha256": HELLO_SHA}


def test_tools_that_the_server_runs() -> None:
    call = decode(SAMPLES["responses_built_in"])
    [answer] = call.output_messages
    web, files, found, code, ran, image, made, mcp, rolled, shell = answer.parts
    assert web["arguments"] == {"type": "search", "query": "q", "queries": ["q"]}
    assert (files["name"], files["arguments"]) == ("file_search", {"queries": ["q"]})
    assert (found["id"], found["response"][0]["text"]) == ("fs_1", "found")
    assert code["arguments"] == {"code": "print(1)", "container_id": "c"}
    logs, plot = ran["response"]
    assert (logs["logs"], plot["url"]) == ("1\n", _hello("image/png", "image"))
    assert image["arguments"] == {"output_format": "webp", "revised_prompt": "a cat"}
    assert made == _hello("image/webp", "image")
    assert (mcp["name"], mcp["arguments"], rolled["response"]) == ("roll", '{"n":2}', "7")
    assert shell == {"type": "tool_call", "id": "t2", "name": "sh", "arguments": "ls -l"}
    names = "web_search file_search code_interpreter image_generation roll sh"
    assert call.tool_calls == names.split()


def returned(value: Any) -> dict[str, Any]:
    return {"type": "tool_call_response", "id": "c", "response": value}


SCREEN = {"type": "computer_screenshot", "image_url": PNG}
SHELL = {"stdout": "x", "stderr": ""}
SOUND = {"type": "input_audio", "input_audio": {"data": "aGVsbG8=", "format": "wav"}}
LINK = {"type": "input_image", "image_url": "http://x/y.png"}
THOUGHT = {"type": "reasoning_text", "text": "x"}
WAIT = {"type": "wait"}
YES = {"approval_request_id": "m", "approve": True}


@pytest.mark.parametrize(
    ("kind", "fields", "role", "part"),
    [
        (
            "computer_call_output",
            {"output": SCREEN},
            "tool",
            returned([_hello("image/png", "image")]),
        ),
        (
            "function_call_output",
            {"output": [{"type": "input_text", "text": "x"}]},
            "tool",
            returned([{"type": "text", "content": "x"}]),
        ),
        ("shell_call_output", {"output": [SHELL]}, "tool", returned([SHELL])),
        (
            "computer_call",
            {"action": WAIT},
            "assistant",
            {"type": "tool_call", "id": "c", "name": "computer", "arguments": WAIT},
        ),
        (
            "mcp_approval_response",
            YES,
            "user",
            {"type": "generic", "generic_type": "mcp_approval_response", "call_id": "c", **YES},
        ),
        ("message", {"role": "user", "content": [SOUND]}, "user", _hello("audio/wav", "audio")),
        (
            "message",
            {"role": "user", "content": [LINK]},
            "user",
            {"type": "uri", "modality": "image", "uri": "http://x/y.png"},
        ),
        ("reasoning", {"content": [THOUGHT]}, "assistant", {"type": "reasoning", "content": "x"}),
    ],
)
def test_input_items(kind: str, fields: dict[str, Any], role: str, part: dict[str, Any]) -> None:
    item = {"type": kind, "call_id": "c", **fields}
    call = decode(exchange(PATH, {"model": "m", "input": [item]}, ANSWER))
    assert call.input_messages == [Message(role, [part])]


def test_a_string_is_the_users() -> None:
    call = decode(SAMPLES["responses_stream"])
    assert call.input_messages == [Message("user", [{"type": "text", "content": "Grüße?"}])]


def test_stream_is_read_like_the_whole() -> None:
    whole, streamed = decode(SAMPLES["responses"]), decode(SAMPLES["responses_stream"])
    assert streamed.output_messages == whole.output_messages
    assert (streamed.usage, streamed.usage_raw) == (whole.usage, whole.usage_raw)
    assert streamed.stream and streamed.stream_complete
    assert streamed.chunks == 8  # 3 of reasoning, 2 of text, the tool call and its 2 arguments


def test_deltas_are_read_where_the_end_has_no_output() -> None:
    """ChatGPT's own backend ends so; a stream may also come without items around its deltas."""
    bare = [e for e in EVENTS if not e["type"].endswith(".done")]
    without = [e for e in bare if ".output_item" not in e["type"]]
    for body in (bare, EVENTS):
        call = decode(stream(stream_of(*body, event("completed", response=response([])))))
        assert call.output_messages == decode(SAMPLES["responses"]).output_messages
    call = decode(stream(stream_of(*without)))
    assert [p["type"] for p in call.output_messages[0].parts] == ["reasoning", "text", "tool_call"]
    assert not call.stream_complete


def test_when_tokens_came() -> None:
    """Neither the response's head nor the end of an item are tokens."""
    blocks = [block + b"\n\n" for block in STREAM.split(b"\n\n")[:-1]]
    ends = [len(b"".join(blocks[: i + 1])) for i in range(len(blocks))]
    arrived = Arrivals(ends, [10 * i for i in range(len(ends))])
    call = decode(dataclasses.replace(SAMPLES["responses_stream"], arrivals=arrived))
    assert (call.first_token_us, call.last_token_us) == (30, 160)


def test_items_that_come_at_once_are_tokens() -> None:
    items = [
        event("output_item.done", 0, item={"type": "reasoning", "id": "r", "summary": []}),
        event("output_item.done", 1, item=message(output_text("Hi"))),
        event("output_item.added", 2, item={**BUILT_IN[0], "status": "in_progress"}),
        event("web_search_call.searching", 2),
        event("output_item.done", 2, item=BUILT_IN[0]),
    ]
    call = decode(stream(stream_of(started(), *items)))
    assert (call.chunks, text_of(call), call.tool_calls) == (2, "Hi", ["web_search"])


def test_a_cut_stream_is_partial_and_estimated() -> None:
    call = decode(SAMPLES["responses_stream_cut"])
    said, _, last = as_sdk_stream(SAMPLES["responses_stream_cut"].response_body)
    assert last is None
    assert text_of(call) == said == "Hallo ü"
    assert call.output_messages[0].parts[0]["content"] == "**Hm.**\n\nWell."
    assert (call.stream, call.stream_complete, call.finish_reason) == (True, False, "")
    assert (call.usage_source, call.response_id) == ("estimated", "resp_1")


def test_an_incomplete_answer_names_its_reason() -> None:
    call = decode(SAMPLES["responses_incomplete"])
    assert call.finish_reason == call.output_messages[0].finish_reason == "max_output_tokens"
    assert call.error_type == ""
    cut = json.loads(SAMPLES["responses_incomplete"].response_body)
    streamed = decode(stream(stream_of(*BEGUN[:-1], event("incomplete", response=cut))))
    assert (streamed.finish_reason, text_of(streamed)) == ("max_output_tokens", "Hal")
    assert streamed.stream_complete and streamed.usage_source == "reported"


def test_errors() -> None:
    sample = SAMPLES["responses_error"]
    with pytest.raises(openai.BadRequestError) as caught:
        as_sdk(sample.response_body, status=400)
    call = decode(sample)
    assert (call.error_type, call.error_message) == (caught.value.type, "No such model.")
    assert call.usage_source == ""
    failure = {"code": "rate_limit_exceeded", "message": "Slow down."}
    failed = decode(exchange(PATH, REQUEST, response([], "failed", error=failure)))
    assert (failed.error_type, failed.error_message) == ("rate_limit_exceeded", "Slow down.")
    assert (failed.finish_reason, failed.usage_source) == ("failed", "")
    nameless = decode(exchange(PATH, REQUEST, response([], "failed")))
    assert nameless.error_type == "failed"


@pytest.mark.parametrize(
    "data",
    [
        {"type": "error", "code": "server_error", "message": "Broke.", "param": None},
        {"type": "error", "error": {"type": "server_error", "message": "Broke."}},
        {"error": {"code": "server_error", "message": "Broke."}},
    ],
)
def test_error_events(data: dict[str, Any]) -> None:
    call = decode(stream(stream_of(*BEGUN) + sse(data, done=False)))
    assert (call.error_type, call.error_message) == ("server_error", "Broke.")
    assert (text_of(call), call.stream_complete) == ("Hallo ü", False)


@pytest.mark.parametrize(
    ("method", "path", "ours"),
    [
        ("POST", "/v1/responses", True),
        ("POST", "/openai/v1/responses/", True),
        ("POST", "/v1/responses/compact", True),
        ("POST", "/v1/responses/resp_1/cancel", True),
        ("GET", "/v1/responses/resp_1", True),
        ("DELETE", "/v1/responses/resp_1", False),
        ("GET", "/v1/responses", False),
        ("GET", "/v1/responses/resp_1/input_items", False),
        ("POST", "/v1/batches/b/cancel", False),
    ],
)
def test_paths(method: str, path: str, ours: bool) -> None:
    captured = dataclasses.replace(SAMPLES["responses"], method=method, path=path)
    assert (decode(captured).dialect == "openai_responses") is ours


def test_usage_of_a_background_answer_is_counted_where_it_comes() -> None:
    queued = decode(SAMPLES["responses_queued"])
    assert (queued.usage_source, queued.finish_reason, queued.response_id) == ("", "", "resp_1")
    whole = decode(SAMPLES["responses"])
    for name in ("responses_fetched", "responses_fetched_stream"):
        call = decode(SAMPLES[name])
        assert (call.usage, call.usage_source) == (whole.usage, "reported")
        assert call.output_messages == whole.output_messages
    again = decode(fetched("GET", f"{PATH}/resp_1", ANSWER))
    assert (again.usage, again.usage_source, text_of(again)) == (Usage(), "", "Hallo ü")
    cancelled = decode(SAMPLES["responses_cancelled"])
    assert (cancelled.finish_reason, cancelled.usage_source) == ("cancelled", "")


def test_compacted() -> None:
    sample = SAMPLES["responses_compacted"]
    call = decode(sample)
    _REPLY[:] = [(200, "application/json", sample.response_body)]
    judged = _OPENAI.responses.compact(model="m", input="q")
    assert (call.response_id, call.usage.output_tokens) == (judged.id, judged.usage.output_tokens)
    assert [m.role for m in call.output_messages] == ["user", "assistant"]
    assert call.output_messages[1].parts[0]["generic_type"] == "compaction"
    assert (call.usage.input_tokens, call.finish_reason) == (20, "")
