"""Exchanges of OpenAI's Responses API, written from its reference; `conftest` adds them to all."""

from __future__ import annotations

from typing import Any

from llmtap.dialects.model import Exchange
from tests.dialects.samples import exchange, named

PATH = "/v1/responses"
PNG = "data:image/png;base64,aGVsbG8="
REQUEST: dict[str, Any] = {
    "model": "gpt-5.1",
    "instructions": "Be brief.",
    "input": [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Grüße?"},
                {"type": "input_image", "image_url": PNG, "detail": "auto"},
                {"type": "input_file", "filename": "a.txt", "file_data": "aGVsbG8="},
                {"type": "input_file", "file_id": "file-1"},
            ],
        },
        {"type": "item_reference", "id": "msg_0"},
        {"type": "reasoning", "id": "rs_0", "summary": [], "encrypted_content": "gAAA"},
        {"type": "function_call", "id": "fc_0", "call_id": "t0", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "t0", "output": "42"},
        {"type": "message", "role": "developer", "content": "Now answer."},
    ],
    "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
    "temperature": 0.5,
    "max_output_tokens": 100,
    "reasoning": {"effort": "low", "summary": "auto"},
    "text": {"format": {"type": "text"}},
    "previous_response_id": "resp_0",
    "store": False,
    "safety_identifier": "ada",
}
USAGE = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 3},
    "output_tokens": 17,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 37,
}


def response(output: list[Any], status: str = "completed", **more: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "model": "gpt-5.1-2026",
        "output": output,
        "parallel_tool_calls": True,
        "service_tier": "default",
        "tool_choice": "auto",
        "tools": [],
        "usage": USAGE if status in ("completed", "incomplete") else None,
        "metadata": {},
    }
    return base | more


def message(*content: dict[str, Any], status: str = "completed") -> dict[str, Any]:
    return {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": status,
        "content": [*content],
    }


def output_text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [
        {"type": "summary_text", "text": "**Hm.**"},
        {"type": "summary_text", "text": "Well."},
    ],
}
CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "t1",
    "name": "f",
    "arguments": '{"a": 1}',
    "status": "completed",
}
BUILT_IN: list[dict[str, Any]] = [
    {
        "type": "web_search_call",
        "id": "ws_1",
        "status": "completed",
        "action": {"type": "search", "query": "q", "queries": ["q"]},
    },
    {
        "type": "file_search_call",
        "id": "fs_1",
        "status": "completed",
        "queries": ["q"],
        "results": [{"file_id": "file-1", "filename": "a", "score": 0.5, "text": "found"}],
    },
    {
        "type": "code_interpreter_call",
        "id": "ci_1",
        "status": "completed",
        "code": "print(1)",
        "container_id": "c",
        "outputs": [{"type": "logs", "logs": "1\n"}, {"type": "image", "url": PNG}],
    },
    {
        "type": "image_generation_call",
        "id": "ig_1",
        "status": "completed",
        "result": "aGVsbG8=",
        "output_format": "webp",
        "revised_prompt": "a cat",
    },
    {
        "type": "mcp_call",
        "id": "mcp_1",
        "server_label": "s",
        "name": "roll",
        "arguments": '{"n":2}',
        "output": "7",
        "error": None,
    },
    {
        "type": "custom_tool_call",
        "id": "ctc_1",
        "call_id": "t2",
        "name": "sh",
        "input": "ls -l",
    },
]
ANSWER = response([REASONING, message(output_text("Hallo ü")), CALL])


def stream_of(*events: dict[str, Any]) -> bytes:
    return named(*({**event, "sequence_number": i} for i, event in enumerate(events)))


def event(kind: str, index: int | None = None, **more: Any) -> dict[str, Any]:
    place = {} if index is None else {"output_index": index, "item_id": f"i{index}"}
    return {"type": f"response.{kind}", **place, **more}


def started(**more: Any) -> dict[str, Any]:
    return event("created", response=response([], "in_progress", service_tier="auto", **more))


BEGUN: list[dict[str, Any]] = [
    started(),
    event("in_progress", response=response([], "in_progress")),
    event("output_item.added", 0, item={**REASONING, "summary": []}),
    event("reasoning_summary_text.delta", 0, summary_index=0, delta="**Hm"),
    event("reasoning_summary_text.delta", 0, summary_index=0, delta=".**"),
    event("reasoning_summary_text.delta", 0, summary_index=1, delta="Well."),
    event("output_item.done", 0, item=REASONING),
    event("output_item.added", 1, item=message(status="in_progress")),
    event("content_part.added", 1, content_index=0, part=output_text("")),
    event("output_text.delta", 1, content_index=0, delta="Hal", logprobs=[]),
    event("output_text.delta", 1, content_index=0, delta="lo ü", logprobs=[]),
]
EVENTS: list[dict[str, Any]] = [
    *BEGUN,
    event("output_text.done", 1, content_index=0, text="Hallo ü", logprobs=[]),
    event("content_part.done", 1, content_index=0, part=output_text("Hallo ü")),
    event("output_item.done", 1, item=message(output_text("Hallo ü"))),
    event("output_item.added", 2, item={**CALL, "arguments": "", "status": "in_progress"}),
    event("function_call_arguments.delta", 2, delta='{"a"'),
    event("function_call_arguments.delta", 2, delta=": 1}"),
    event("function_call_arguments.done", 2, name="f", arguments='{"a": 1}'),
    event("output_item.done", 2, item=CALL),
]
STREAM_REQUEST = {"model": "gpt-5.1", "input": "Grüße?", "stream": True}
STREAM = stream_of(*EVENTS, event("completed", response=ANSWER))
FAILED = {"code": "server_error", "message": "The model broke."}
CUT_SHORT = response(
    [message(output_text("Hal"), status="incomplete")],
    "incomplete",
    incomplete_details={"reason": "max_output_tokens"},
)
COMPACTED = {
    "id": "resp_2",
    "object": "response.compaction",
    "created_at": 1,
    "output": [
        {**message({"type": "input_text", "text": "Grüße?"}), "role": "user"},
        {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA"},
    ],
    "usage": USAGE,
}


def fetched(method: str, path: str, body: bytes | dict[str, Any]) -> Exchange:
    return exchange(path, b"", body, method=method)


SAMPLES: dict[str, Exchange] = {
    "responses": exchange(PATH, REQUEST, ANSWER),
    "responses_stream": exchange(PATH, STREAM_REQUEST, STREAM),
    "responses_built_in": exchange(PATH, {"model": "m", "input": "q"}, response(BUILT_IN)),
    "responses_refusal": exchange(
        PATH,
        {"model": "m", "input": "q"},
        response([message({"type": "refusal", "refusal": "No."})]),
    ),
    "responses_incomplete": exchange(PATH, {"model": "m", "input": "q"}, CUT_SHORT),
    "responses_stream_cut": exchange(
        PATH, STREAM_REQUEST, stream_of(*BEGUN), response_complete=False
    ),
    "responses_stream_failed": exchange(
        PATH,
        STREAM_REQUEST,
        stream_of(*BEGUN, event("failed", response=response([], "failed", error=FAILED))),
    ),
    "responses_queued": exchange(
        PATH,
        {"model": "m", "input": "q", "background": True},
        response([], "queued", background=True),
    ),
    "responses_fetched": fetched("GET", f"{PATH}/resp_1", {**ANSWER, "background": True}),
    "responses_fetched_stream": fetched(
        "GET",
        f"{PATH}/resp_1",
        stream_of(*EVENTS[-5:], event("completed", response={**ANSWER, "background": True})),
    ),
    "responses_cancelled": fetched(
        "POST", f"{PATH}/resp_1/cancel", response([], "cancelled", background=True)
    ),
    "responses_compacted": exchange(f"{PATH}/compact", {"model": "m", "input": "q"}, COMPACTED),
    "responses_error": exchange(
        PATH,
        {"model": "m", "input": "q"},
        {
            "error": {
                "message": "No such model.",
                "type": "invalid_request_error",
                "param": "model",
                "code": "model_not_found",
            }
        },
        status=400,
    ),
}
