"""Exchanges of Gemini's native API, written from its reference; `conftest` adds them to all."""

from __future__ import annotations

import json
from typing import Any

from llmtap.dialects.model import Exchange
from tests.dialects.samples import exchange, sse

MODEL = "/v1beta/models/gemini-2.5-flash"
GENERATE = f"{MODEL}:generateContent"
STREAM = f"{MODEL}:streamGenerateContent"
VERTEX = "/v1/projects/p/locations/europe-west4/publishers/google/models/gemini-2.5-pro"
EMBEDDER = "/v1beta/models/gemini-embedding-001"
REQUEST: dict[str, Any] = {
    "systemInstruction": {"parts": [{"text": "Be brief."}]},
    "contents": [
        {
            "role": "user",
            "parts": [
                {"text": "Grüße?"},
                {"inlineData": {"mimeType": "image/png", "data": "aGVsbG8="}},
                {"fileData": {"mimeType": "video/mp4", "fileUri": "gs://b/v.mp4"}},
            ],
        },
        {
            "role": "model",
            "parts": [
                {"text": "Let me look.", "thought": True, "thoughtSignature": "c2ln"},
                {"functionCall": {"id": "t1", "name": "f", "args": {"a": 1}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "t1", "name": "f", "response": {"output": 42}}},
            ],
        },
    ],
    "tools": [
        {"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT"}}]},
        {"googleSearch": {}},
    ],
    "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}},
    "generationConfig": {"temperature": 0.5, "thinkingConfig": {"includeThoughts": True}},
}
SNAKE_REQUEST: dict[str, Any] = {
    "system_instruction": {"parts": {"text": "Be brief."}},
    "contents": {
        "role": "user",
        "parts": [
            {"inline_data": {"mime_type": "audio/wav", "data": "aGVsbG8="}},
            {"file_data": {"mime_type": "application/pdf", "file_uri": "https://x/f.pdf"}},
            {"function_response": {"name": "f", "response": {"output": 42}}},
        ],
    },
    "tools": [{"function_declarations": [{"name": "f"}]}],
    "generation_config": {"max_output_tokens": 9},
    "cached_content": "cachedContents/c",
}
USAGE = {
    "promptTokenCount": 100,
    "candidatesTokenCount": 20,
    "totalTokenCount": 155,
    "cachedContentTokenCount": 40,
    "thoughtsTokenCount": 30,
    "toolUsePromptTokenCount": 5,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 100}],
}


def candidate(parts: list[dict[str, Any]], finish: str = "", index: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": index}
    return {**found, **({"finishReason": finish} if finish else {})}


def answer(*candidates: dict[str, Any], usage: dict[str, Any] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"candidates": list(candidates)} if candidates else {}
    found["usageMetadata"] = USAGE if usage is None else usage
    return {**found, "modelVersion": "gemini-2.5-flash-001", "responseId": "r1"}


def array(*chunks: dict[str, Any]) -> bytes:
    """The stream form without SSE, with the line ends that the API has."""
    return b"[" + b"\n,\r\n".join(json.dumps(c).encode() for c in chunks) + b"\n]"


ANSWER = answer(
    candidate(
        [
            {"text": "Hm. ", "thought": True},
            {"executableCode": {"language": "PYTHON", "code": "print(6*7)"}},
            {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "42\n"}},
            {"text": "Hallo ü"},
            {"functionCall": {"name": "f", "args": {"a": "ß"}}, "thoughtSignature": "c2ln"},
        ],
        "STOP",
    )
)
RUNNING = {"promptTokenCount": 100, "totalTokenCount": 130, "thoughtsTokenCount": 30}
CHUNKS = (
    answer(candidate([{"text": "Hm. ", "thought": True}]), usage=RUNNING),
    answer(candidate([{"text": "Hal"}]), usage={"trafficType": "ON_DEMAND"}),
    answer(candidate([{"text": 'lo "{[ ü'}]), usage=RUNNING),
    answer(candidate([{"functionCall": {"name": "f", "args": {"a": 1}}}])),
    answer(candidate([{"text": "", "thoughtSignature": "c2ln"}], "STOP")),
)
FRAGMENTS = tuple(
    answer(candidate([{"functionCall": fragment}], finish))
    for fragment, finish in (
        ({"name": "f", "id": "t1", "willContinue": True}, ""),
        (
            {
                "partialArgs": [{"jsonPath": "$.to.city", "stringValue": "Ber"}],
                "willContinue": True,
            },
            "",
        ),
        (
            {
                "partialArgs": [
                    {"jsonPath": "$.to.city", "stringValue": "lin"},
                    {"jsonPath": "$.days[0]", "numberValue": 1},
                    {"jsonPath": "$.days[1]", "numberValue": 2},
                    {"jsonPath": "$['a b']", "boolValue": True},
                    {"jsonPath": "$.none", "nullValue": "NULL_VALUE"},
                    {"jsonPath": "$.days.odd[7]", "numberValue": 3},
                ],
                "willContinue": True,
            },
            "",
        ),
        ({}, ""),
        ({"name": "g", "args": {"x": 1}}, "STOP"),
    )
)
BLOCKED = {
    "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
    "usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9},
    "modelVersion": "gemini-2.5-flash",
}
ERROR = {
    "error": {
        "code": 429,
        "message": "You exceeded your current quota.",
        "status": "RESOURCE_EXHAUSTED",
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "9s"}],
    }
}

SAMPLES: dict[str, Exchange] = {
    "gemini": exchange(GENERATE, REQUEST, ANSWER),
    "gemini_snake": exchange(GENERATE, SNAKE_REQUEST, ANSWER),
    "gemini_sse": exchange(STREAM, REQUEST, sse(*CHUNKS, done=False)),
    "gemini_array": exchange(STREAM, REQUEST, array(*CHUNKS)),
    "gemini_streamed_arguments": exchange(
        f"{VERTEX}:streamGenerateContent", REQUEST, sse(*FRAGMENTS, done=False)
    ),
    "gemini_candidates": exchange(
        STREAM,
        REQUEST,
        sse(
            answer(candidate([{"text": "a"}]), candidate([{"text": "1"}], index=1), usage={}),
            answer(candidate([{"text": "2"}], "MAX_TOKENS", index=1), usage={}),
            answer(candidate([{"text": "b"}], "STOP")),
            done=False,
        ),
    ),
    "gemini_blocked": exchange(GENERATE, REQUEST, BLOCKED),
    "gemini_blocked_stream": exchange(STREAM, REQUEST, sse(BLOCKED, done=False)),
    "gemini_error": exchange(GENERATE, REQUEST, ERROR, status=429),
    "gemini_array_refused": exchange(STREAM, REQUEST, array(ERROR), status=429),
    "gemini_array_error": exchange(STREAM, REQUEST, array(CHUNKS[0], CHUNKS[1], ERROR)),
    "gemini_sse_error": exchange(STREAM, REQUEST, sse(*CHUNKS[:2], ERROR, done=False)),
    "gemini_count": exchange(
        f"{MODEL}:countTokens",
        {"generateContentRequest": {"model": "models/gemini-2.5-flash", **REQUEST}},
        {"totalTokens": 12, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 12}]},
    ),
    "gemini_vertex": exchange(f"{VERTEX}:generateContent", REQUEST, ANSWER),
    "gemini_embed": exchange(
        f"{EMBEDDER}:embedContent",
        {
            "content": {"parts": [{"text": "q"}]},
            "taskType": "RETRIEVAL_QUERY",
            "outputDimensionality": 8,
        },
        {"embedding": {"values": [0.1, 0.2]}},
    ),
    "gemini_embed_batch": exchange(
        f"{EMBEDDER}:batchEmbedContents",
        {
            "requests": [
                {"model": "models/gemini-embedding-001", "content": {"parts": [{"text": t}]}}
                for t in ("one", "two")
            ]
        },
        {
            "embeddings": [{"values": [0.1]}, {"values": [0.2]}],
            "usageMetadata": {"promptTokenCount": 2},
        },
    ),
    "gemini_embed_vertex": exchange(
        VERTEX.replace("gemini-2.5-pro", "text-embedding-005") + ":predict",
        {
            "instances": [{"content": "one", "task_type": "RETRIEVAL_QUERY"}, {"content": "two"}],
            "parameters": {"outputDimensionality": 8},
        },
        {
            "predictions": [
                {"embeddings": {"values": [0.1], "statistics": {"token_count": 2}}},
                {"embeddings": {"values": [0.2], "statistics": {"token_count": 3}}},
            ]
        },
    ),
}
