"""Exchanges of OpenAI's images, audio, moderations, files and batches, and Anthropic's batches."""

from __future__ import annotations

import base64
import json
from typing import Any

from llmtap.dialects.model import Exchange
from tests.dialects.samples import exchange, named

PNG = b"\x89PNG\r\n\x1a\nnot really"
B64 = base64.b64encode(PNG).decode()
WAV = b"RIFF\x00\x01--b\r\nWAVE\xff"
IMAGE_USAGE = {
    "input_tokens": 50,
    "output_tokens": 272,
    "total_tokens": 322,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
}
IMAGE_REQUEST = {"model": "gpt-image-1", "prompt": "A fox", "size": "1024x1024", "quality": "low"}
IMAGE_LOOK = {
    "background": "opaque",
    "output_format": "png",
    "quality": "low",
    "size": "1024x1024",
    "created_at": 1,
}
IMAGES_ANSWER = {
    "created": 1,
    "output_format": "png",
    "data": [{"b64_json": B64}, {"url": "https://x/y.png", "revised_prompt": "A red fox"}],
    "usage": IMAGE_USAGE,
}


def image_events(kind: str) -> list[dict[str, Any]]:
    partial = {"type": f"{kind}.partial_image", "b64_json": B64[:8], **IMAGE_LOOK}
    done = {"type": f"{kind}.completed", "b64_json": B64, **IMAGE_LOOK, "usage": IMAGE_USAGE}
    return [{**partial, "partial_image_index": 0}, {**partial, "partial_image_index": 1}, done]


TOKENS = {
    "type": "tokens",
    "input_tokens": 14,
    "output_tokens": 4,
    "total_tokens": 18,
    "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
}
TRANSCRIPT_EVENTS: list[dict[str, Any]] = [
    {"type": "transcript.text.delta", "delta": "Grü"},
    {"type": "transcript.text.delta", "delta": "ße!"},
    {"type": "transcript.text.done", "text": "Grüße!", "usage": TOKENS},
]
SPEECH_REQUEST = {"model": "gpt-4o-mini-tts", "input": "Hello", "voice": "alloy"}
SPEECH_EVENTS: list[dict[str, Any]] = [
    {"type": "speech.audio.delta", "audio": base64.b64encode(WAV[:7]).decode()},
    {"type": "speech.audio.delta", "audio": base64.b64encode(WAV[7:]).decode()},
    {
        "type": "speech.audio.done",
        "usage": {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115},
    },
]
_CATEGORIES = """harassment harassment/threatening hate hate/threatening illicit illicit/violent
self-harm self-harm/instructions self-harm/intent sexual sexual/minors violence
violence/graphic""".split()  # noqa: SIM905


def verdict(*held: str) -> dict[str, Any]:
    return {
        "flagged": bool(held),
        "categories": {name: name in held for name in _CATEGORIES},
        "category_scores": {name: 0.9 if name in held else 0.01 for name in _CATEGORIES},
        "category_applied_input_types": {name: ["text"] for name in _CATEGORIES},
    }


MODERATION_ANSWER = {"id": "modr-1", "model": "omni-moderation-latest", "results": [verdict()]}
FILE = {
    "id": "file-1",
    "object": "file",
    "bytes": 120,
    "created_at": 1,
    "filename": "in.jsonl",
    "purpose": "batch",
    "status": "processed",
}
BATCH: dict[str, Any] = {
    "id": "batch_1",
    "object": "batch",
    "endpoint": "/v1/chat/completions",
    "model": "gpt-5.1-x",
    "input_file_id": "file-1",
    "completion_window": "24h",
    "status": "completed",
    "output_file_id": "file-2",
    "created_at": 1,
    "completed_at": 9,
    "request_counts": {"total": 3, "completed": 2, "failed": 1},
    "usage": {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 20},
        "output_tokens": 30,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 130,
    },
}
BATCH_REQUEST = {
    "input_file_id": "file-1",
    "endpoint": "/v1/chat/completions",
    "completion_window": "24h",
}
CLAUDE_BATCH = {
    "id": "msgbatch_1",
    "type": "message_batch",
    "processing_status": "in_progress",
    "request_counts": {
        "processing": 2,
        "succeeded": 0,
        "errored": 0,
        "canceled": 0,
        "expired": 0,
    },
    "created_at": "2026-01-01T00:00:00Z",
    "expires_at": "2026-01-02T00:00:00Z",
    "ended_at": None,
    "archived_at": None,
    "cancel_initiated_at": None,
    "results_url": None,
}
_PARAMS = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "q"}]}
CLAUDE_BATCH_REQUEST = {"requests": [{"custom_id": c, "params": _PARAMS} for c in ("a", "b")]}
CLAUDE_RESULTS = b"".join(
    json.dumps({"custom_id": name, "result": {"type": kind}}).encode() + b"\n"
    for name, kind in (("a", "canceled"), ("b", "expired"), ("c", "canceled"))
)
_BOUNDARY = b"b0und"


def form(path: str, fields: list[tuple[str, bytes]], response: Any, **more: Any) -> Exchange:
    """A form of these fields; those whose name ends in `@` are files."""
    body = b""
    for name, value in fields:
        body += b'--%b\r\nContent-Disposition: form-data; name="' % _BOUNDARY
        body += name.removesuffix("@").encode() + b'"'
        if name.endswith("@"):
            body += b'; filename="f.bin"\r\nContent-Type: application/octet-stream'
        body += b"\r\n\r\n" + value + b"\r\n"
    body += b"--%b--\r\n" % _BOUNDARY
    headers = {"content-type": f"multipart/form-data; boundary={_BOUNDARY.decode()}"}
    return exchange(path, body, response, request_headers=headers, **more)


def fetched(path: str, response: Any, method: str = "GET", **more: Any) -> Exchange:
    return exchange(path, b"", response, method=method, **more)


SAMPLES: dict[str, Exchange] = {
    "images": exchange("/v1/images/generations", IMAGE_REQUEST, IMAGES_ANSWER),
    "images_stream": exchange(
        "/v1/images/generations",
        {**IMAGE_REQUEST, "stream": True, "partial_images": 2},
        named(*image_events("image_generation")),
    ),
    "images_stream_cut": exchange(
        "/v1/images/generations",
        {**IMAGE_REQUEST, "stream": True},
        named(*image_events("image_generation")[:2]),
        response_complete=False,
    ),
    "images_edit_json": exchange(
        "/v1/images/edits",
        {"model": "m", "prompt": "p", "images": [{"image_url": "https://x"}, {"file_id": "f"}]},
        {"created": 1, "data": [{"b64_json": B64}]},
    ),
    "images_edit_form": form(
        "/openai/deployments/gpt-image-1/images/edits",
        [
            ("image[]@", PNG),
            ("image[]@", PNG + b"2"),
            ("mask@", b"m"),
            ("prompt", b"p"),
            ("n", b"2"),
        ],
        IMAGES_ANSWER,
    ),
    "images_edit_stream": form(
        "/openai/v1/images/edits",
        [("model", b"gpt-image-1"), ("image@", PNG), ("prompt", b"p"), ("stream", b"true")],
        named(*image_events("image_edit")),
    ),
    "speech": exchange(
        "/v1/audio/speech",
        SPEECH_REQUEST,
        b":" + WAV,
        response_headers={"content-type": "audio/wav"},
    ),
    "speech_stream": exchange(
        "/v1/audio/speech", {**SPEECH_REQUEST, "stream_format": "sse"}, named(*SPEECH_EVENTS)
    ),
    "speech_stream_cut": exchange(
        "/v1/audio/speech",
        {**SPEECH_REQUEST, "stream_format": "sse"},
        named(*SPEECH_EVENTS[:2]),
        response_complete=False,
    ),
    "transcription": form(
        "/v1/audio/transcriptions",
        [
            ("model", b"whisper-1"),
            ("file@", WAV),
            ("language", b"de"),
            ("temperature", b"0.2"),
            ("timestamp_granularities[]", b"word"),
            ("chunking_strategy[type]", b"server_vad"),
        ],
        {"text": "Grüße!", "usage": {"type": "duration", "seconds": 3.5}},
    ),
    "transcription_srt": form(
        "/v1/audio/transcriptions",
        [("model", b"whisper-1"), ("file@", WAV), ("response_format", b"srt")],
        b"1\n00:00:00,000 --> 00:00:01,000\nHi.\n\n",
        response_headers={"content-type": "text/plain; charset=utf-8"},
    ),
    "transcription_stream": form(
        "/v1/audio/transcriptions",
        [("model", b"gpt-4o-transcribe"), ("file@", WAV), ("stream", b"True")],
        named(*TRANSCRIPT_EVENTS),
    ),
    "transcription_stream_cut": form(
        "/v1/audio/transcriptions",
        [("model", b"gpt-4o-transcribe"), ("file@", WAV), ("stream", b"True")],
        named(*TRANSCRIPT_EVENTS[:2]),
        response_complete=False,
    ),
    "transcription_error": form(
        "/v1/audio/transcriptions",
        [("model", b"m"), ("file@", b"")],
        {"error": {"message": "no audio", "type": "invalid_request_error", "code": None}},
        status=400,
    ),
    "translation": form(
        "/v1/audio/translations",
        [("model", b"whisper-1"), ("file@", WAV), ("prompt", b"A talk.")],
        {"text": "Greetings!"},
    ),
    "moderation": exchange("/v1/moderations", {"input": ["a", "b"]}, MODERATION_ANSWER),
    "moderation_typed": exchange(
        "/v1/moderations",
        {
            "model": "omni-moderation-latest",
            "input": [
                {"type": "text", "text": "kill"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{B64}"}},
            ],
        },
        {**MODERATION_ANSWER, "results": [verdict("violence", "violence/graphic")]},
    ),
    "batch": exchange("/v1/batches", BATCH_REQUEST, {**BATCH, "status": "validating", "usage": {}}),
    "batch_done": fetched("/v1/batches/batch_1", BATCH),
    "batch_cancelled": fetched("/openai/batches/batch_1/cancel", BATCH, "POST"),
    "batch_list": fetched("/v1/batches", {"object": "list", "data": [BATCH], "has_more": False}),
    "file": form("/v1/files", [("purpose", b"batch"), ("file@", b'{"a":1}\n')], FILE),
    "file_named": fetched("/v1/files/file-1", FILE),
    "file_deleted": fetched(
        "/v1/files/file-1", {"id": "file-1", "object": "file", "deleted": True}, "DELETE"
    ),
    "file_content": fetched(
        "/v1/files/file-2/content",
        b'{"id": "secret text"}\n',
        response_headers={"content-type": "application/octet-stream"},
    ),
    "claude_batch": exchange("/v1/messages/batches", CLAUDE_BATCH_REQUEST, CLAUDE_BATCH),
    "claude_batch_named": fetched("/v1/messages/batches/msgbatch_1", CLAUDE_BATCH),
    "claude_batch_cancelled": fetched(
        "/v1/messages/batches/msgbatch_1/cancel", CLAUDE_BATCH, "POST"
    ),
    "claude_batch_results": fetched(
        "/v1/messages/batches/msgbatch_1/results",
        CLAUDE_RESULTS,
        response_headers={"content-type": "application/x-jsonl"},
    ),
}
