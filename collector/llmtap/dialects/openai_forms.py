"""What OpenAI's media endpoints share: requests that are JSON or a form, their events and usage.

A form is read as the JSON object that it stands for, its files apart from it.
Source: OpenAI API reference and SDK (`image[]` is a list's item, `a[b]` an object's).
"""

from __future__ import annotations

import dataclasses
import hashlib

from llmtap.dialects.answers import stream_events, take_error
from llmtap.dialects.jsonish import JSON, dumps, items, obj, parse_object
from llmtap.dialects.model import Call, Exchange, Operation, Part
from llmtap.dialects.multipart import Form, FormPart, boundary_of, read_form
from llmtap.dialects.openai_common import begin
from llmtap.dialects.usage import openai_usage

_FILE_FIELDS = frozenset(["file", "image", "mask", "markup"])
_NUMBERS = frozenset(
    """n temperature speed output_compression partial_images frame_count
    frame_duration_ms""".split()  # noqa: SIM905
)


def begin_form(
    exchange: Exchange, name: str, operation: Operation, parameters: frozenset[str]
) -> tuple[Call, JSON, list[FormPart]]:
    """As `begin`: a call with all that the request says, its object, and its files."""
    kind = exchange.request_headers.get("content-type", "")
    boundary = boundary_of(kind, exchange.request_body)
    files: list[FormPart] = []
    form = Form([], True)
    if boundary and exchange.request_body:
        form = read_form(exchange.request_body, boundary)
        files = [part for part in form.parts if _is_file(part)]
        fields = _fields([part for part in form.parts if not _is_file(part)])
        body = dumps(fields).encode() if fields else b""
        exchange = dataclasses.replace(exchange, request_body=body)
    call, request = begin(exchange, name, operation)
    if not form.complete:
        whole = exchange.request_complete
        call.decode_error = f"the request body {'is not a whole form' if whole else 'was cut'}"
    call.request_params |= {key: request[key] for key in request if key in parameters}
    return call, request, files


def _is_file(part: FormPart) -> bool:
    if part.filename is not None or part.name.partition("[")[0] in _FILE_FIELDS:
        return True
    kind = part.content_type.lower()
    return bool(kind) and not kind.startswith(("text/", "application/json"))


def _fields(parts: list[FormPart]) -> JSON:
    fields: JSON = {}
    for part in parts:
        name, bracket, inner = part.name.partition("[")
        inner = inner.removesuffix("]")
        value = _value(name, part.value.decode("utf-8", "replace"))
        if inner:
            fields[name] = {**obj(fields.get(name)), inner: value}
        elif bracket or name in fields:
            before = fields.get(name, [])
            fields[name] = [*(items(before) if isinstance(before, list) else [before]), value]
        else:
            fields[name] = value
    return fields


def _value(name: str, said: str) -> object:
    """What a form's text stands for: in forms all is text."""
    if name == "stream":
        return said.lower() == "true"
    if name in _NUMBERS:
        try:
            return float(said) if "." in said else int(said)
        except ValueError:
            return said
    return said


def raw_blob(raw: bytes, mime_type: str, modality: str) -> Part:
    """As `blob_part`, of bytes that are not base64."""
    return {
        "type": "blob",
        "mime_type": mime_type,
        "modality": modality,
        "size": len(raw),
        "sha256": hashlib.sha256(raw).hexdigest(),
    }


def file_blob(part: FormPart, modality: str) -> Part:
    """A form's file, told from the others by its field."""
    blob = raw_blob(part.value, part.content_type, modality)
    return {**blob, "field": part.name.removesuffix("[]"), "filename": part.filename or ""}


def events(call: Call, exchange: Exchange) -> list[tuple[int, JSON]]:
    """The JSON events of an SSE answer, each with its end. Errors are taken; ends are not known."""
    found: list[tuple[int, JSON]] = []
    call.stream, call.stream_complete = True, False
    for event in stream_events(exchange):
        data = parse_object(event.data)
        if event.data.startswith(b"[DONE]"):
            call.stream_complete = True
        elif data.get("error"):
            take_error(call, data, 0)
        elif event.name == b"error" or data.get("type") == "error":
            take_error(call, {"error": data}, 0)
        elif data:
            found.append((event.end, data))
        elif event.data.strip():
            call.decode_error = call.decode_error or "a stream event is not a JSON object"
    return found


def media_usage(call: Call, raw: JSON) -> None:
    """Tokens under the names of the Responses API, or seconds, which are reported but no tokens."""
    if not raw:
        return
    if raw.get("type") == "duration":
        call.usage_source = "reported"
    else:
        before = raw.get("input_tokens_details") or raw.get("input_token_details")
        after = raw.get("output_tokens_details") or raw.get("output_token_details")
        as_chat = {
            "prompt_tokens": raw.get("input_tokens", raw.get("prompt_tokens")),
            "completion_tokens": raw.get("output_tokens", raw.get("completion_tokens")),
            "total_tokens": raw.get("total_tokens"),
            "prompt_tokens_details": before,
            "completion_tokens_details": after,
        }
        openai_usage(call, as_chat)
    call.usage_raw = dumps(raw)
