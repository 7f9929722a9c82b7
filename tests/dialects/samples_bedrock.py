"""Bedrock's Converse, written from its API reference; `conftest` adds them to all."""

from __future__ import annotations

from typing import Any

from llmtap.dialects.model import Exchange
from tests.dialects.aws_frames import event, exception
from tests.dialects.samples import exchange

PATH = "/model/us.anthropic.claude-sonnet-4-20250514-v1%3A0/converse"
MODEL = "us.anthropic.claude-sonnet-4-20250514-v1:0"
FRAMES_TYPE = {"content-type": "application/vnd.amazon.eventstream"}
ASKED: dict[str, Any] = {
    "system": [{"text": "Be brief."}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"text": "Wetter?"},
                {"image": {"format": "png", "source": {"bytes": "aGVsbG8="}}},
                {
                    "document": {
                        "format": "pdf",
                        "name": "d",
                        "source": {"s3Location": {"uri": "s3://b/d.pdf"}},
                    }
                },
            ],
        },
        {
            "role": "assistant",
            "content": [{"toolUse": {"toolUseId": "t0", "name": "f", "input": {"a": 1}}}],
        },
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "t0", "content": [{"json": {"t": 20}}, {"text": "x"}]}}
            ],
        },
    ],
    "inferenceConfig": {"maxTokens": 100, "temperature": 0.5},
    "toolConfig": {"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {}}}}]},
}
USAGE = {
    "inputTokens": 10,
    "outputTokens": 9,
    "totalTokens": 49,
    "cacheReadInputTokens": 20,
    "cacheWriteInputTokens": 10,
}
WHOLE: dict[str, Any] = {
    "output": {
        "message": {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "s"}}},
                {"text": "Grüße!"},
                {"toolUse": {"toolUseId": "t1", "name": "g", "input": {"b": 2}}},
            ],
        }
    },
    "stopReason": "tool_use",
    "usage": USAGE,
    "metrics": {"latencyMs": 551},
}
BEGUN = event("messageStart", {"role": "assistant"})
DELTAS = [
    event("contentBlockDelta", {"contentBlockIndex": i, "delta": delta})
    for i, delta in (
        (0, {"reasoningContent": {"text": "H"}}),
        (0, {"reasoningContent": {"text": "m."}}),
        (0, {"reasoningContent": {"signature": "s"}}),
        (1, {"text": "Grü"}),
        (1, {"text": "ße!"}),
    )
]
TOOL = [
    event(
        "contentBlockStart",
        {"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "t1", "name": "g"}}},
    ),
    event("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"toolUse": {"input": '{"b"'}}}),
    event("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"toolUse": {"input": ": 2}"}}}),
    event("contentBlockStop", {"contentBlockIndex": 2}),
]
ENDED = [
    event("messageStop", {"stopReason": "tool_use"}),
    event("metadata", {"usage": USAGE, "metrics": {"latencyMs": 551}}),
]
STREAM = b"".join([BEGUN, *DELTAS, *TOOL, *ENDED])
BROKEN = b"".join([BEGUN, *DELTAS, exception("throttlingException", "Too many tokens")])


def streamed(body: bytes) -> Exchange:
    return exchange(f"{PATH}-stream", ASKED, body, response_headers=FRAMES_TYPE)


SAMPLES: dict[str, Exchange] = {
    "bedrock": exchange(PATH, ASKED, WHOLE),
    "bedrock_stream": streamed(STREAM),
    "bedrock_exception": streamed(BROKEN),
    "bedrock_error": exchange(
        PATH,
        ASKED,
        {"message": "Malformed input request"},
        status=400,
        response_headers={
            "content-type": "application/json",
            "x-amzn-errortype": "ValidationException:http://internal.amazon.com/coral/",
        },
    ),
}
