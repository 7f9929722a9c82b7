"""OpenAI audio: `/audio/transcriptions`, `/audio/translations` (a form with a file in, text out)
and `/audio/speech` (text in, audio out).

Source: OpenAI API reference and SDK (audio, its streaming). Audio becomes a blob by size and hash.
A transcript is JSON, plain text or subtitles; its usage is tokens or seconds.
"""

from __future__ import annotations

import base64
import binascii

from llmtap.dialects.answers import expect_stream, is_event_stream, mark_tokens, read_answer
from llmtap.dialects.errors import openai_error
from llmtap.dialects.jsonish import JSON, given, obj, text
from llmtap.dialects.model import Call, Exchange, Message, Operation, Part
from llmtap.dialects.openai_common import facts
from llmtap.dialects.openai_forms import begin_form, events, file_blob, media_usage, raw_blob
from llmtap.dialects.parts import text_part

_PARAMETERS = frozenset(
    """voice speed stream_format language languages chunking_strategy include
    timestamp_granularities known_speaker_names keywords""".split()  # noqa: SIM905
)
_OPERATIONS: dict[str, Operation] = {
    "transcriptions": "transcription",
    "translations": "translation",
    "speech": "speech",
}
_TEXT_FORMATS = ("text", "srt", "vtt")
_BINARY = ("audio/", "video/", "application/octet-stream", "application/ogg")


class OpenAIAudio:
    name = "openai_audio"
    provider = "openai"
    error_body = staticmethod(openai_error)

    def matches(self, method: str, path: str) -> bool:
        return method == "POST" and path.rpartition("/audio/")[2] in _OPERATIONS

    def decode(self, exchange: Exchange) -> Call:
        last = exchange.path.rpartition("/audio/")[2]
        operation = _OPERATIONS.get(last, "unknown")
        call, request, files = begin_form(exchange, self.name, operation, _PARAMETERS)
        if request.get("stream_format") == "sse":
            expect_stream(call, exchange, True)
        if instructions := request.get("instructions"):
            call.input_messages.append(Message("system", [text_part(instructions)]))
        parts: list[Part] = [file_blob(file, "audio") for file in files]
        for field in ("input", "prompt"):
            parts += [text_part(said) for said in given(request.get(field))]
        if parts:
            call.input_messages.append(Message("user", parts))
        if exchange.response_body:
            (_speech if operation == "speech" else _transcript)(call, exchange)
        return call


DIALECT = OpenAIAudio()


def _kind(exchange: Exchange) -> str:
    return exchange.response_headers.get("content-type", "").lower()


def _said(parts: list[Part]) -> list[Message]:
    return [Message("assistant", parts)]


def _transcript(call: Call, exchange: Exchange) -> None:
    if _is_plain(call, exchange):
        call.output_messages = _said([text_part(exchange.response_body.decode("utf-8", "replace"))])
        call.stream_complete = True
        if not exchange.response_complete:
            call.decode_error = call.decode_error or "the response body was cut"
    elif is_event_stream(exchange):
        _transcript_stream(call, exchange)
    else:
        answer = read_answer(call, exchange)
        facts(call, answer)
        if "text" in answer:
            call.output_messages = _said([text_part(answer["text"])])
        media_usage(call, obj(answer.get("usage")))


def _is_plain(call: Call, exchange: Exchange) -> bool:
    """Whether the answer is the transcript itself."""
    kind = _kind(exchange)
    if exchange.http_status >= 400 or "json" in kind or kind.startswith("text/event-stream"):
        return False
    if call.request_params.get("response_format") in _TEXT_FORMATS:
        return True
    return kind.startswith("text/") and not is_event_stream(exchange)


def _transcript_stream(call: Call, exchange: Exchange) -> None:
    """Segments of a diarized transcript repeat the deltas' text."""
    token_ends: list[int] = []
    pieces: list[str] = []
    segments: list[str] = []
    final: JSON = {}
    for end, event in events(call, exchange):
        match event.get("type"):
            case "transcript.text.delta":
                if piece := text(event.get("delta")):
                    pieces.append(piece)
                    token_ends.append(end)
            case "transcript.text.segment":
                segments.append(text(event.get("text")))
                token_ends.append(end)
            case "transcript.text.done":
                final = event
                call.stream_complete = True
                token_ends += [] if token_ends else [end]
            case _:
                continue
    said = text(final.get("text")) or "".join(pieces) or "".join(segments)
    if said or final:
        call.output_messages = _said([text_part(said)])
    mark_tokens(call, exchange, token_ends)
    media_usage(call, obj(final.get("usage")))


def _speech(call: Call, exchange: Exchange) -> None:
    kind = _kind(exchange)
    failed = exchange.http_status >= 400
    if not failed and not kind.startswith(_BINARY):  # bytes of audio may look like anything
        if is_event_stream(exchange):
            _speech_stream(call, exchange)
            return
        failed = "json" in kind or exchange.response_body.startswith(b"{")
    if failed:
        read_answer(call, exchange)
        return
    call.output_messages = _said([raw_blob(exchange.response_body, kind, "audio")])
    call.stream_complete = True
    if not exchange.response_complete:
        call.decode_error = call.decode_error or "the response body was cut"


def _speech_stream(call: Call, exchange: Exchange) -> None:
    token_ends: list[int] = []
    audio: list[bytes] = []
    usage: JSON = {}
    for end, event in events(call, exchange):
        match event.get("type"):
            case "speech.audio.delta":
                audio.append(_decoded(event.get("audio")))
                token_ends.append(end)
            case "speech.audio.done":
                usage = obj(event.get("usage"))
                call.stream_complete = True
            case _:
                continue
    if audio:
        form = text(call.request_params.get("response_format"))
        mime_type = f"audio/{form}" if form else ""
        call.output_messages = _said([raw_blob(b"".join(audio), mime_type, "audio")])
    mark_tokens(call, exchange, token_ends)
    media_usage(call, usage)


def _decoded(encoded: object) -> bytes:
    try:
        return base64.b64decode(text(encoded))
    except (binascii.Error, ValueError):
        return b""
