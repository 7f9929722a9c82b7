"""Recorded-style exchanges, one or more per dialect; tests and laws read them from here."""

from __future__ import annotations

import json
from typing import Any

from llmtap.dialects.model import Exchange

JSON_TYPE = {"content-type": "application/json"}
SSE_TYPE = {"content-type": "text/event-stream; charset=utf-8"}


def exchange(
    path: str, request: Any, response: bytes | dict[str, Any], *, status: int = 200, **more: Any
) -> Exchange:
    sse = isinstance(response, bytes) and response.startswith((b"data:", b"event:", b":"))
    body = response if isinstance(response, bytes) else json.dumps(response).encode()
    fields: dict[str, Any] = {
        "method": "POST",
        "path": path,
        "request_body": request if isinstance(request, bytes) else json.dumps(request).encode(),
        "http_status": status,
        "response_headers": SSE_TYPE if sse else JSON_TYPE,
        "response_body": body,
    }
    return Exchange(**(fields | more))


def sse(*events: Any, done: bool = True) -> bytes:
    out = b"".join(b"data: %b\n\n" % json.dumps(e).encode() for e in events)
    return out + (b"data: [DONE]\n\n" if done else b"")


def named(*events: dict[str, Any]) -> bytes:
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events
    )


def chunk(
    delta: dict[str, Any], finish: str | None = None, *, index: int = 0, **more: Any
) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    base = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini-x"}
    return {**base, "choices": [choice], **more}


CHAT_REQUEST = {
    "model": "gpt-4o-mini",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Grüße?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "42"},
    ],
    "temperature": 0.5,
    "user": "ada",
}
CHAT_USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 7,
    "total_tokens": 27,
    "prompt_tokens_details": {"cached_tokens": 5},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
CHAT_ANSWER = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini-x",
    "service_tier": "default",
    "system_fingerprint": "fp",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "logprobs": None,
            "message": {"role": "assistant", "content": "Hallo", "refusal": None},
        }
    ],
    "usage": CHAT_USAGE,
}
CLAUDE_REQUEST = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 100,
    "system": "Be brief.",
    "messages": [{"role": "user", "content": "2+2?"}],
    "metadata": {"user_id": "grace"},
}
CLAUDE_ANSWER = {
    "id": "m1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [
        {"type": "thinking", "thinking": "easy", "signature": "s"},
        {"type": "text", "text": "4"},
        {"type": "tool_use", "id": "u1", "name": "add", "input": {"a": 2}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 10,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 5,
        "output_tokens": 9,
    },
}
CLAUDE_EVENTS: list[dict[str, Any]] = [
    {
        "type": "message_start",
        "message": {
            **CLAUDE_ANSWER,
            "content": [],
            "stop_reason": None,
            "usage": {
                "input_tokens": 10,
                "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 5,
                "output_tokens": 1,
            },
        },
    },
    {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "thinking", "thinking": "", "signature": ""},
    },
    {"type": "ping"},
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "thinking_delta", "thinking": "easy"},
    },
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "4"}},
    {"type": "content_block_stop", "index": 1},
    {
        "type": "content_block_start",
        "index": 2,
        "content_block": {"type": "tool_use", "id": "u1", "name": "add", "input": {}},
    },
    {
        "type": "content_block_delta",
        "index": 2,
        "delta": {"type": "input_json_delta", "partial_json": '{"a"'},
    },
    {
        "type": "content_block_delta",
        "index": 2,
        "delta": {"type": "input_json_delta", "partial_json": ": 2}"},
    },
    {"type": "content_block_stop", "index": 2},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 9},
    },
    {"type": "message_stop"},
]
OLLAMA_REQUEST = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}
OLLAMA_LINES = [
    {
        "model": "llama3.2",
        "created_at": "2026-01-01T00:00:00Z",
        "message": {"role": "assistant", "content": "", "thinking": "hm"},
        "done": False,
    },
    {
        "model": "llama3.2",
        "created_at": "2026-01-01T00:00:00Z",
        "message": {"role": "assistant", "content": "he"},
        "done": False,
    },
    {
        "model": "llama3.2",
        "created_at": "2026-01-01T00:00:00Z",
        "message": {"role": "assistant", "content": "llo"},
        "done": False,
    },
    {
        "model": "llama3.2",
        "created_at": "2026-01-01T00:00:01Z",
        "message": {"role": "assistant", "content": ""},
        "done": True,
        "done_reason": "stop",
        "total_duration": 5,
        "prompt_eval_count": 11,
        "eval_count": 3,
    },
]
CHAT = "/v1/chat/completions"
STREAM_REQUEST = {**CHAT_REQUEST, "stream": True, "stream_options": {"include_usage": True}}

SAMPLES: dict[str, Exchange] = {
    "chat": exchange(CHAT, CHAT_REQUEST, CHAT_ANSWER),
    "chat_stream": exchange(
        CHAT,
        STREAM_REQUEST,
        sse(
            chunk({"role": "assistant", "content": ""}),
            chunk({"reasoning_content": "Hm. "}),
            chunk({"content": "Hal"}),
            chunk({"content": "lo ü"}),
            chunk({}, "stop"),
            {**chunk({}), "choices": [], "usage": CHAT_USAGE},
        ),
    ),
    "chat_stream_crlf": exchange(
        CHAT,
        STREAM_REQUEST,
        b": keep-alive\r\n\r\n"
        + sse(chunk({"content": "Hal"}), chunk({"content": "lo"}, "stop")).replace(b"\n", b"\r\n"),
    ),
    "chat_stream_tools": exchange(
        CHAT,
        STREAM_REQUEST,
        sse(
            chunk(
                {
                    "tool_calls": [
                        {
                            "index": 0,
                            "id": "a",
                            "type": "function",
                            "function": {"name": "one", "arguments": ""},
                        }
                    ]
                }
            ),
            chunk(
                {
                    "tool_calls": [
                        {
                            "index": 1,
                            "id": "b",
                            "type": "function",
                            "function": {"name": "two", "arguments": '{"y"'},
                        }
                    ]
                }
            ),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
            chunk({"tool_calls": [{"index": 1, "function": {"arguments": ":1}"}}]}),
            chunk({}, "tool_calls"),
        ),
    ),
    "chat_stream_error": exchange(
        CHAT,
        STREAM_REQUEST,
        sse(
            chunk({"content": "Hal"}),
            {"error": {"message": "boom", "type": "server_error", "code": None}},
            done=False,
        ),
    ),
    "chat_stream_cut": exchange(
        CHAT,
        STREAM_REQUEST,
        sse(chunk({"content": "Hal"}), chunk({"content": "lo"}), done=False) + b'data: {"id"',
        response_complete=False,
    ),
    "chat_error": exchange(
        CHAT,
        CHAT_REQUEST,
        {
            "error": {
                "message": "Rate limit reached",
                "type": "rate_limit_error",
                "param": None,
                "code": None,
            }
        },
        status=429,
    ),
    "chat_timings": exchange(
        CHAT,
        CHAT_REQUEST,
        {
            **{k: v for k, v in CHAT_ANSWER.items() if k != "usage"},
            "timings": {"cache_n": 4, "prompt_n": 6, "predicted_n": 3},
        },
    ),
    "completion": exchange(
        "/v1/completions",
        {"model": "m", "prompt": "Once"},
        {
            "id": "x",
            "object": "text_completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "text": " upon", "finish_reason": "length", "logprobs": None}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        },
    ),
    "completion_stream": exchange(
        "/v1/completions",
        {"model": "m", "prompt": "Once", "stream": True},
        sse(
            {
                "id": "x",
                "object": "text_completion",
                "created": 1,
                "model": "m",
                "choices": [{"index": 0, "text": " up", "finish_reason": None, "logprobs": None}],
            },
            {
                "id": "x",
                "object": "text_completion",
                "created": 1,
                "model": "m",
                "choices": [{"index": 0, "text": "on", "finish_reason": "stop", "logprobs": None}],
            },
        ),
    ),
    "embeddings": exchange(
        "/v1/embeddings",
        {"model": "text-embedding-3-small", "input": ["a", "b"]},
        {
            "object": "list",
            "model": "text-embedding-3-small",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}],
            "usage": {"prompt_tokens": 2, "total_tokens": 2},
        },
    ),
    "claude": exchange("/v1/messages", CLAUDE_REQUEST, CLAUDE_ANSWER),
    "claude_stream": exchange(
        "/v1/messages", {**CLAUDE_REQUEST, "stream": True}, named(*CLAUDE_EVENTS)
    ),
    "claude_stream_error": exchange(
        "/v1/messages",
        {**CLAUDE_REQUEST, "stream": True},
        named(
            *CLAUDE_EVENTS[:4],
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        ),
    ),
    "claude_stream_cut": exchange(
        "/v1/messages",
        {**CLAUDE_REQUEST, "stream": True},
        named(*CLAUDE_EVENTS[:8]),
        response_complete=False,
    ),
    "claude_error": exchange(
        "/v1/messages",
        CLAUDE_REQUEST,
        {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}},
        status=400,
    ),
    "ollama_stream": exchange(
        "/api/chat",
        OLLAMA_REQUEST,
        b"".join(json.dumps(line).encode() + b"\n" for line in OLLAMA_LINES),
        response_headers={"content-type": "application/x-ndjson"},
    ),
    "ollama": exchange(
        "/api/chat",
        {**OLLAMA_REQUEST, "stream": False},
        {
            **OLLAMA_LINES[-1],
            "message": {
                "role": "assistant",
                "content": "hello",
                "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}],
            },
        },
    ),
    "ollama_generate": exchange(
        "/api/generate",
        {"model": "m", "prompt": "p", "stream": False},
        {
            "model": "m",
            "created_at": "x",
            "response": "r",
            "done": True,
            "done_reason": "stop",
            "prompt_eval_count": 1,
            "eval_count": 1,
        },
    ),
    "ollama_error": exchange(
        "/api/chat", OLLAMA_REQUEST, {"error": "model 'x' not found"}, status=404
    ),
    "ollama_embed": exchange(
        "/api/embed",
        {"model": "m", "input": ["a"]},
        {"model": "m", "embeddings": [[0.1]], "prompt_eval_count": 1},
    ),
    "chat_stream_two_choices": exchange(
        CHAT,
        {**STREAM_REQUEST, "n": 2},
        sse(
            # Azure begins with a chunk that has no choices and no names.
            {
                "id": "",
                "object": "",
                "created": 0,
                "model": "",
                "choices": [],
                "prompt_filter_results": [{"prompt_index": 0}],
            },
            chunk({"role": "assistant", "content": "A"}, index=1),
            chunk({"role": "assistant", "content": "B"}),
            chunk(
                {"content": "b"}, usage={**CHAT_USAGE, "completion_tokens": 3, "total_tokens": 23}
            ),
            chunk({"content": "a"}, "length", index=1, usage=CHAT_USAGE),
            chunk({"refusal": "No."}, "stop", usage=None),
        ),
    ),
    "chat_200_error": exchange(
        CHAT, CHAT_REQUEST, {"error": {"message": "boom", "type": None, "code": 500}}
    ),
    "completion_llamacpp": exchange(
        "/completions",
        {"prompt": "Once", "stream": True},
        sse(
            {"index": 0, "content": " up", "stop": False},
            {
                "index": 0,
                "content": "on",
                "stop": True,
                "stop_type": "limit",
                "model": "m.gguf",
                "timings": {"cache_n": 0, "prompt_n": 1, "predicted_n": 2},
            },
            done=False,
        ),
    ),
    "embeddings_base64": exchange(
        "/openai/deployments/e/embeddings",
        {"input": [[1, 2], [3]], "encoding_format": "base64"},
        {
            "object": "list",
            "model": "e",
            "data": [{"object": "embedding", "index": 0, "embedding": "zczMPQ=="}],
            "usage": {"prompt_tokens": 3, "total_tokens": 3},
        },
    ),
    "claude_count_tokens": exchange(
        "/v1/messages/count_tokens",
        {k: v for k, v in CLAUDE_REQUEST.items() if k != "max_tokens"},
        {"input_tokens": 12},
    ),
    "ollama_stream_error": exchange(
        "/api/chat",
        OLLAMA_REQUEST,
        json.dumps(OLLAMA_LINES[1]).encode() + b'\n{"error":"out of memory"}\n',
        response_headers={"content-type": "application/x-ndjson"},
    ),
    "unknown": exchange("/v1/something/new", {"a": 1}, {"b": 2}),
    "unknown_error": exchange(
        "/v1/something/new", {}, {"error": {"message": "no such route", "code": 404}}, status=404
    ),
}
