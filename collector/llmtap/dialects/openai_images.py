"""OpenAI images (paths end in `/images/generations`, `/images/edits`, `/images/variations`).

Source: OpenAI API reference and SDK (images, image streaming). Requests are JSON or forms; images
become blobs by size and hash. A stream's previews count only where no finished image came.
"""

from __future__ import annotations

from typing import Any

from llmtap.dialects.answers import is_event_stream, mark_tokens, read_answer
from llmtap.dialects.errors import openai_error
from llmtap.dialects.jsonish import JSON, given, items, obj, text
from llmtap.dialects.model import Call, Exchange, Message, Part
from llmtap.dialects.multipart import FormPart
from llmtap.dialects.openai_common import facts
from llmtap.dialects.openai_forms import begin_form, events, file_blob, media_usage
from llmtap.dialects.parts import blob_part, media_part, text_part

_PARAMETERS = frozenset(
    """size quality background output_format output_compression style moderation partial_images
    input_fidelity complexity frame_count frame_duration_ms svg""".split()  # noqa: SIM905
)
_PATHS = ("/images/generations", "/images/edits", "/images/variations")


class OpenAIImages:
    name = "openai_images"
    provider = "openai"
    error_body = staticmethod(openai_error)

    def matches(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith(_PATHS)

    def decode(self, exchange: Exchange) -> Call:
        call, request, files = begin_form(exchange, self.name, "image_generation", _PARAMETERS)
        if parts := _asked(request, files):
            call.input_messages = [Message("user", parts)]
        if is_event_stream(exchange):
            _stream(call, exchange)
        elif exchange.response_body:
            _whole(call, exchange)
        return call


DIALECT = OpenAIImages()


def _asked(request: JSON, files: list[FormPart]) -> list[Part]:
    parts = [text_part(prompt) for prompt in given(request.get("prompt"))]
    for field in ("images", "image", "mask"):  # of JSON requests
        value = request.get(field)
        many = items(value) if isinstance(value, list) else given(value)
        parts += [_given_image(one) for one in many]
    return parts + [file_blob(file, "image") for file in files]


def _given_image(value: Any) -> Part:
    image = obj(value)
    if image.get("file_id"):
        return {"type": "file", "file_id": text(image["file_id"])}
    address = image.get("image_url") or image.get("url") or image.get("b64_json")
    if isinstance(address, dict):
        address = obj(address).get("url")
    return media_part(address if image else value, "image")


def _made(call: Call, answer: JSON, image: JSON) -> Message:
    """One image: what was really asked for, then the image."""
    parts: list[Part] = []
    if image.get("revised_prompt"):
        parts.append(text_part(image["revised_prompt"]))
    if image.get("b64_json"):
        kind = text(answer.get("output_format") or call.request_params.get("output_format"))
        parts.append(blob_part(image["b64_json"], f"image/{kind}" if kind else "", "image"))
    if image.get("url"):
        parts.append(media_part(image["url"], "image"))
    return Message("assistant", parts)


def _whole(call: Call, exchange: Exchange) -> None:
    answer = read_answer(call, exchange)
    facts(call, answer)
    call.output_messages = [_made(call, answer, obj(raw)) for raw in items(answer.get("data"))]
    media_usage(call, obj(answer.get("usage") or answer.get("svg_usage")))


def _stream(call: Call, exchange: Exchange) -> None:
    token_ends: list[int] = []
    preview: JSON = {}
    usage: JSON = {}
    for end, event in events(call, exchange):
        kind = text(event.get("type"))
        if kind.endswith(".partial_image"):
            preview = event
        elif kind.endswith(".completed"):
            call.output_messages.append(_made(call, event, event))
            usage = obj(event.get("usage")) or usage
        else:
            continue
        facts(call, event)
        token_ends.append(end)
    wanted = call.request_params.get("n")
    if len(call.output_messages) >= (wanted if isinstance(wanted, int) and wanted > 0 else 1):
        call.stream_complete = True
    if preview and not call.output_messages:
        made = _made(call, preview, preview)
        call.output_messages = [Message(made.role, [{**p, "partial": True} for p in made.parts])]
    mark_tokens(call, exchange, token_ends)
    media_usage(call, usage)
