"""Images, audio and moderations: the SDK sends and reads, we read the same out of the bytes."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtap.dialects.model import Call, Part, Usage
from llmtap.dialects.registry import decode
from tests.dialects.samples import SAMPLES, named
from tests.dialects.samples_openai_media import (
    B64,
    IMAGE_USAGE,
    IMAGES_ANSWER,
    MODERATION_ANSWER,
    PNG,
    SPEECH_EVENTS,
    TOKENS,
    TRANSCRIPT_EVENTS,
    WAV,
    image_events,
    verdict,
)
from tests.dialects.sdk_wire import AZURE, EVENT_STREAM, OPENAI, answer, captured, read


def sha(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def blobs(parts: list[Part]) -> list[tuple[int, str]]:
    return [(p["size"], p["sha256"]) for p in parts if p["type"] == "blob"]


def texts(call: Call) -> list[str]:
    said = [p for message in call.output_messages for p in message.parts]
    return [p["content"] for p in said if p["type"] == "text"]


def without_media(call: Call, *media: bytes) -> None:
    """Nothing of the media is in the row."""
    row = json.dumps(dataclasses.asdict(call))
    for raw in media:
        assert base64.b64encode(raw).decode()[:16] not in row


def test_images_are_made() -> None:
    answer(IMAGES_ANSWER)
    got = OPENAI.images.generate(model="gpt-image-1", prompt="A fox", n=2, size="1024x1024")
    call = read()
    assert (call.dialect, call.operation) == ("openai_images", "image_generation")
    assert call.model_requested == "gpt-image-1"
    assert call.request_params == {"n": 2, "size": "1024x1024"}
    assert call.input_messages[0].parts == [{"type": "text", "content": "A fox"}]
    assert got.data is not None and got.usage is not None
    first, second = call.output_messages
    raw = base64.b64decode(got.data[0].b64_json or "")
    assert blobs(first.parts) == [(len(raw), sha(raw))] == [(len(PNG), sha(PNG))]
    assert first.parts[0]["mime_type"] == "image/png"
    assert [list(part.values()) for part in second.parts] == [
        ["text", got.data[1].revised_prompt],
        ["uri", "image", got.data[1].url],
    ]
    assert call.usage == Usage(got.usage.input_tokens, got.usage.output_tokens)
    assert json.loads(call.usage_raw) == IMAGE_USAGE
    without_media(call, PNG)


def test_images_are_edited_by_a_form() -> None:
    answer(IMAGES_ANSWER)
    OPENAI.images.edit(
        model="gpt-image-1",
        image=[("ü.png", PNG, "image/png"), ("b.png", PNG + b"2", "image/png")],
        mask=b"mask",
        prompt='Put a "hat"\r\non it',
        n=2,
        quality="high",
        user="ada",
    )
    call = read()
    assert (call.model_requested, call.user_id) == ("gpt-image-1", "ada")
    assert call.request_params == {"n": 2, "quality": "high"}
    prompt, *files = call.input_messages[0].parts
    assert prompt == {"type": "text", "content": 'Put a "hat"\r\non it'}
    assert blobs(files) == [(len(b), sha(b)) for b in (PNG, PNG + b"2", b"mask")]
    assert [f["field"] for f in files] == ["image", "image", "mask"]
    assert (files[0]["filename"], files[0]["mime_type"]) == ("ü.png", "image/png")
    assert len(call.output_messages) == 2


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_an_image_is_varied() -> None:
    answer({"created": 1, "data": [{"url": "https://x/y.png"}]})
    OPENAI.images.create_variation(image=PNG, model="dall-e-2")
    call = read()
    assert (call.operation, call.model_requested) == ("image_generation", "dall-e-2")
    assert blobs(call.input_messages[0].parts) == [(len(PNG), sha(PNG))]
    assert call.output_messages[0].parts[0]["uri"] == "https://x/y.png"
    assert (call.usage, call.usage_source) == (Usage(), "")


@pytest.mark.parametrize("edit", [False, True])
def test_images_are_streamed(edit: bool) -> None:
    events = image_events("image_edit" if edit else "image_generation")
    answer(named(*events), EVENT_STREAM)
    stream: Any = (
        OPENAI.images.edit(image=PNG, prompt="p", stream=True, partial_images=2)
        if edit
        else OPENAI.images.generate(prompt="p", stream=True, partial_images=2)
    )
    *_, last = stream
    call = read()
    assert call.stream and call.chunks == 3
    assert call.request_params == {"partial_images": 2}
    raw = base64.b64decode(last.b64_json)
    assert [blobs(m.parts) for m in call.output_messages] == [[(len(raw), sha(raw))]]
    assert call.usage == Usage(last.usage.input_tokens, last.usage.output_tokens)
    assert 0 < (call.first_token_us or 0) < (call.last_token_us or 0)
    without_media(call, PNG)


def test_a_preview_stands_for_the_image_that_never_came() -> None:
    call = decode(SAMPLES["images_stream_cut"])
    assert not call.stream_complete
    assert [p["partial"] for p in call.output_messages[0].parts] == [True]
    two = dataclasses.replace(
        SAMPLES["images_stream"],
        request_body=json.dumps({"prompt": "p", "stream": True, "n": 2}).encode(),
    )
    assert not decode(two).stream_complete  # one of two
    two = dataclasses.replace(two, response_body=two.response_body + b"data: [DONE]\n\n")
    assert decode(two).stream_complete


def test_images_as_json_and_under_azure() -> None:
    call = decode(SAMPLES["images_edit_json"])
    assert [p["type"] for p in call.input_messages[0].parts] == ["text", "uri", "file"]
    call = decode(SAMPLES["images_edit_form"])
    assert call.model_requested == "gpt-image-1"
    answer(IMAGES_ANSWER)
    AZURE.images.generate(model="my-deployment", prompt="p")
    assert captured().path == "/openai/deployments/my-deployment/images/generations"
    assert read().model_requested == "my-deployment"


_KINDS = {"text": "text/plain", "srt": "application/x-subrip", "vtt": "text/vtt"}


@pytest.mark.parametrize("form", _KINDS)
def test_a_transcript_as_plain_text(form: Any) -> None:
    said = "WEBVTT\n\n00:00.000 --> 00:01.000\nGrüße!\n"
    answer(said.encode(), _KINDS[form])
    got = OPENAI.audio.transcriptions.create(model="whisper-1", file=WAV, response_format=form)
    call = read()
    assert (call.operation, call.model_requested) == ("transcription", "whisper-1")
    assert texts(call) == [str(got)] == [said]
    assert call.request_params == {"response_format": form}
    assert blobs(call.input_messages[0].parts) == [(len(WAV), sha(WAV))]
    cut = decode(dataclasses.replace(captured(), response_complete=False))
    assert (texts(cut), cut.decode_error) == ([said], "the response body was cut")


_NAMES = st.text(
    st.characters(exclude_characters='%"\\', exclude_categories=["Cs", "C"]), min_size=1
)


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
@settings(max_examples=80, deadline=None)
@given(
    sound=st.binary(max_size=200),
    filename=_NAMES.filter(lambda name: name == name.strip()),
    prompt=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30),
    said=st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    usage=st.sampled_from([None, TOKENS, {"type": "duration", "seconds": 2.5}]),
    translated=st.booleans(),
)
def test_a_transcript(
    sound: bytes, filename: str, prompt: str, said: str, usage: Any, translated: bool
) -> None:
    answer({"text": said, "usage": usage})
    audio: Any = OPENAI.audio.translations if translated else OPENAI.audio.transcriptions
    got = audio.create(model="m-1", file=(filename, sound), prompt=prompt, temperature=0.5)
    call = read()
    assert (call.dialect, call.model_requested) == ("openai_audio", "m-1")
    assert call.operation == ("translation" if translated else "transcription")
    file, text = call.input_messages[0].parts
    assert (file["size"], file["sha256"]) == (len(sound), sha(sound))
    assert (file["filename"], text["content"]) == (filename, prompt)
    assert call.request_params == {"temperature": 0.5}
    assert texts(call) == [got.text]
    if usage is TOKENS:
        assert call.usage == Usage(14, 4)
    else:
        assert call.usage == Usage()
    assert call.usage_raw == ("" if usage is None else call.usage_raw)
    assert (json.loads(call.usage_raw) if usage else None) == usage


def test_a_transcription_with_lists_and_objects() -> None:
    answer({"task": "transcribe", "language": "german", "duration": 3.5, "text": "Hi", "words": []})
    OPENAI.audio.transcriptions.create(
        model="whisper-1",
        file=("a.wav", WAV),
        language="de",
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
        chunking_strategy={"type": "server_vad", "threshold": 0.5},
        known_speaker_references=["data:audio/wav;base64,AAAA"],
        known_speaker_names=["Ada"],
    )
    call = read()
    assert call.request_params == {
        "language": "de",
        "response_format": "verbose_json",
        "timestamp_granularities": ["word", "segment"],
        "chunking_strategy": {"type": "server_vad", "threshold": "0.5"},
        "known_speaker_names": ["Ada"],
    }
    assert texts(call) == ["Hi"]
    AZURE.audio.transcriptions.create(model="whisper", file=("a.wav", WAV))
    assert captured().path == "/openai/deployments/whisper/audio/transcriptions"
    assert read().model_requested == "whisper"


@settings(max_examples=60, deadline=None)
@given(pieces=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=5))
def test_a_streamed_transcript(pieces: list[str]) -> None:
    deltas = [{"type": "transcript.text.delta", "delta": piece} for piece in pieces]
    done = {"type": "transcript.text.done", "text": "".join(pieces), "usage": TOKENS}
    answer(named(*deltas, done), EVENT_STREAM)
    *_, last = OPENAI.audio.transcriptions.create(
        model="gpt-4o-transcribe", file=("a.wav", WAV), stream=True
    )
    assert last.type == "transcript.text.done" and last.usage is not None
    call = read()
    assert call.stream and call.model_requested == "gpt-4o-transcribe"
    assert texts(call) == [last.text]
    assert call.chunks == max(1, len(pieces))
    assert call.usage == Usage(last.usage.input_tokens, last.usage.output_tokens)
    assert call.first_token_us is not None and call.last_token_us is not None


def test_a_diarized_transcript_is_streamed() -> None:
    segment = {"type": "transcript.text.segment", "id": "s", "start": 0, "end": 1, "speaker": "A"}
    answer(named({**segment, "text": "Hi. "}, {**segment, "text": "Ho."}), EVENT_STREAM)
    list(OPENAI.audio.transcriptions.create(model="m", file=WAV, stream=True))
    call = decode(captured())
    assert (texts(call), call.chunks, call.stream_complete) == (["Hi. Ho."], 2, False)
    call = decode(SAMPLES["transcription_stream_cut"])
    assert (texts(call), call.stream_complete) == (["Grüße!"], False)


def test_errors() -> None:
    error = {"message": "no audio", "type": "invalid_request_error", "param": None, "code": None}
    answer({"error": error}, status=400)
    with pytest.raises(openai.BadRequestError, match="no audio"):
        OPENAI.audio.transcriptions.create(model="m", file=WAV, response_format="text")
    call = read()
    assert (call.error_type, call.error_message) == ("invalid_request_error", "no audio")
    assert (call.output_messages, call.usage_source) == ([], "")
    for events in (TRANSCRIPT_EVENTS[:1], SPEECH_EVENTS[:1], image_events("image_edit")[:1]):
        for last in ({"type": "error", "error": error}, {"error": error}):
            body = named(*events) + b"data: " + json.dumps(last).encode() + b"\n\n"
            sample = SAMPLES[
                next(
                    name
                    for name, path in (
                        ("transcription_stream", "transcript"),
                        ("speech_stream", "speech"),
                        ("images_edit_stream", "image"),
                    )
                    if events[0]["type"].startswith(path)
                )
            ]
            call = decode(dataclasses.replace(sample, response_body=body))
            assert (call.error_message, call.stream_complete) == ("no audio", False)
            assert call.chunks == len(call.output_messages) == 1


@pytest.mark.parametrize("sound", [WAV, b": not SSE", b'{"a": 1}', b"data: x\n\n"])
def test_speech(sound: bytes) -> None:
    answer(sound, "audio/mpeg")
    got = OPENAI.audio.speech.create(
        model="tts-1", input="Hello", voice="alloy", instructions="Slowly", speed=1.5
    )
    call = read()
    assert (call.operation, call.model_requested) == ("speech", "tts-1")
    assert call.request_params == {"voice": "alloy", "speed": 1.5}
    assert [(m.role, m.parts[0]["content"]) for m in call.input_messages] == [
        ("system", "Slowly"),
        ("user", "Hello"),
    ]
    raw = got.read()
    assert blobs(call.output_messages[0].parts) == [(len(raw), sha(raw))]
    assert (call.stream, call.chunks, call.usage_source) == (False, 0, "")
    cut = decode(dataclasses.replace(captured(), response_complete=False))
    assert cut.decode_error == "the response body was cut"


def test_speech_is_streamed() -> None:
    call = decode(SAMPLES["speech_stream"])
    assert blobs(call.output_messages[0].parts) == [(len(WAV), sha(WAV))]
    assert (call.usage, call.chunks, call.stream_complete) == (Usage(14, 101), 2, True)
    call = decode(SAMPLES["speech_stream_cut"])
    assert blobs(call.output_messages[0].parts) == [(len(WAV), sha(WAV))]
    assert (call.usage_source, call.stream, call.stream_complete) == ("", True, False)


def test_a_cut_form_gives_what_came() -> None:
    whole = SAMPLES["transcription"]
    for cut in range(len(whole.request_body)):
        sample = dataclasses.replace(
            whole, request_body=whole.request_body[:cut], request_complete=False
        )
        call = decode(sample)
        assert call.dialect == "openai_audio"
        assert call.decode_error in ("", "the request body was cut")
        assert call.model_requested in "whisper-1"
    assert decode(whole).model_requested == "whisper-1"
    odd = dataclasses.replace(whole, request_body=b"--other\r\n\r\n--other--")
    assert decode(odd).decode_error == "the request body is not a whole form"


_VERDICTS = [verdict(), verdict("violence", "self-harm/intent")]
_IMAGE: Any = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{B64}"}}


@pytest.mark.parametrize(
    ("what", "asked"),
    [
        ("kill", [["kill"]]),
        (["a", "b"], [["a"], ["b"]]),
        ([{"type": "text", "text": "c"}, _IMAGE], [["c", sha(PNG)]]),
    ],
)
def test_moderations(what: Any, asked: list[list[str]]) -> None:
    answer({**MODERATION_ANSWER, "results": _VERDICTS})
    got = OPENAI.moderations.create(model="omni-moderation-latest", input=what)
    call = read()
    assert (call.dialect, call.operation) == ("openai_moderations", "moderation")
    assert (call.response_id, call.model_served) == (got.id, got.model)
    seen = [[p.get("content") or p["sha256"] for p in m.parts] for m in call.input_messages]
    assert seen == asked
    for message, result in zip(call.output_messages, got.results, strict=True):
        [part] = message.parts
        assert part["flagged"] is result.flagged
        held = {k for k, v in result.categories.model_dump(by_alias=True).items() if v}
        scores = result.category_scores.model_dump(by_alias=True)
        assert part["categories"] == {name: scores[name] for name in held}
    assert call.usage_source == ""
    without_media(call, PNG)


def test_mistral_moderates_chats() -> None:
    body = {"model": "m", "input": [[{"role": "user", "content": "x"}], [{"role": "assistant"}]]}
    reply = {"results": [{"categories": {"pii": True}, "category_scores": {"pii": 0.7}}]}
    sample = dataclasses.replace(
        SAMPLES["moderation"],
        path="/v1/chat/moderations",
        request_body=json.dumps(body).encode(),
        response_body=json.dumps(reply).encode(),
    )
    call = decode(sample)
    assert [m.role for m in call.input_messages] == ["user", "assistant"]
    assert call.output_messages[0].parts[0]["flagged"] is True
