"""Cohere's chat and embeddings, written from its API reference; `conftest` adds them to all."""

from __future__ import annotations

from typing import Any

from llmtap.dialects.model import Exchange
from tests.dialects.samples import exchange, named

ASKED: dict[str, Any] = {
    "model": "command-a-03-2025",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Wetter?"}]},
        {
            "role": "assistant",
            "tool_plan": "I look it up.",
            "tool_calls": [
                {"id": "t0", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "t0", "content": [{"type": "text", "text": "sunny"}]},
    ],
    "documents": ["a document", {"id": "d", "data": {"text": "another"}}],
    "temperature": 0.3,
}
USAGE: dict[str, Any] = {
    "billed_units": {"input_tokens": 5, "output_tokens": 7},
    "tokens": {"input_tokens": 71, "output_tokens": 9},
    "cached_tokens": 16,
}
CALL = {"id": "t1", "type": "function", "function": {"name": "g", "arguments": '{"a":1}'}}
WHOLE: dict[str, Any] = {
    "id": "c-1",
    "finish_reason": "COMPLETE",
    "message": {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "Hm."},
            {"type": "text", "text": "Grüße!"},
        ],
    },
    "usage": USAGE,
}
TOOLS: dict[str, Any] = {
    "id": "c-2",
    "finish_reason": "TOOL_CALL",
    "message": {"role": "assistant", "tool_plan": "I ask g.", "tool_calls": [CALL]},
    "usage": USAGE,
}


def _content(index: int, kind: str, *pieces: str) -> list[dict[str, Any]]:
    def delta(content: dict[str, Any]) -> dict[str, Any]:
        return {"index": index, "delta": {"message": {"content": content}}}

    return [
        {"type": "content-start", **delta({"type": kind, kind: ""})},
        *({"type": "content-delta", **delta({kind: piece})} for piece in pieces),
        {"type": "content-end", "index": index},
    ]


def _tool(kind: str, call: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "index": 0, "delta": {"message": {"tool_calls": call}}}


def _end(reason: str) -> dict[str, Any]:
    return {"type": "message-end", "delta": {"finish_reason": reason, "usage": USAGE}}


START = {
    "type": "message-start",
    "id": "c-1",
    "delta": {"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": []}},
}
STREAM = named(
    START,
    *_content(0, "thinking", "H", "m."),
    *_content(1, "text", "Grü", "ße!"),
    _end("COMPLETE"),
)
TOOL_STREAM = named(
    {**START, "id": "c-2"},
    {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "I ask "}}},
    {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "g."}}},
    _tool("tool-call-start", {**CALL, "function": {"name": "g", "arguments": ""}}),
    _tool("tool-call-delta", {"function": {"arguments": '{"a"'}}),
    _tool("tool-call-delta", {"function": {"arguments": ":1}"}}),
    {"type": "tool-call-end", "index": 0},
    _end("TOOL_CALL"),
)
EMBED: dict[str, Any] = {
    "id": "e-1",
    "embeddings": {"float": [[0.1, 0.2]]},
    "texts": ["a"],
    "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 3}},
    "response_type": "embeddings_by_type",
}

SAMPLES: dict[str, Exchange] = {
    "cohere": exchange("/v2/chat", ASKED, WHOLE),
    "cohere_tools": exchange("/v2/chat", ASKED, TOOLS),
    "cohere_stream": exchange("/v2/chat", {**ASKED, "stream": True}, STREAM),
    "cohere_tool_stream": exchange("/v2/chat", {**ASKED, "stream": True}, TOOL_STREAM),
    "cohere_error": exchange("/v2/chat", ASKED, {"id": "x", "message": "bad key"}, status=401),
    "cohere_embed": exchange("/v2/embed", {"model": "embed-v4.0", "texts": ["a"]}, EMBED),
}
