"""What Gemini's native dialects share: paths, field names, parts, usage, errors.

Source: Gemini API and Vertex AI references (models, Content, UsageMetadata). Fields are read in
camelCase and in snake_case: the API takes both, gateways write both.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from llmtap.dialects.answers import take_error
from llmtap.dialects.jsonish import JSON, clean, dumps, items, obj, text
from llmtap.dialects.model import Call, Message, Part
from llmtap.dialects.parts import (
    blob_part,
    generic_part,
    media_part,
    reasoning_part,
    text_part,
    tool_call_part,
    tool_response_part,
)
from llmtap.dialects.usage import openai_usage

PROVIDER = "google"
_ROUTE = re.compile(r"/(?:models|(tunedModels|endpoints))/([^/:]+):([A-Za-z]+)\Z")
_UPPER = re.compile(r"(?=[A-Z])")
_MODALITIES = frozenset(["image", "audio", "video"])


def route(path: str) -> tuple[str, str]:
    """(model, verb) of `…/models/MODEL:verb`, also tuned models and endpoints; else empty."""
    match = _ROUTE.search(unquote(path) if "%" in path else path)
    if not match:
        return "", ""
    kind, name, verb = match.groups()
    return clean(f"{kind}/{name}" if kind else name), verb


@lru_cache(256)
def _snake(name: str) -> str:
    return _UPPER.sub("_", name).lower()


def get(source: JSON, name: str) -> Any:
    """A field by its camelCase name, however it was written."""
    value = source.get(name)
    return source.get(_snake(name)) if value is None else value


def many(value: Any) -> list[Any]:
    """A list; one object where Vertex lets a list of one be just its item."""
    return [value] if isinstance(value, dict | str) else items(value)


def message(content: Any, role: str = "") -> Message:
    """One `Content`: its role (`model` is the assistant) and its parts; a bare text is one part."""
    if isinstance(content, str):
        return Message(role or "user", [text_part(content)])
    named = text(obj(content).get("role"))
    known = {"model": "assistant", "function": "tool", "": "user"}
    return Message(role or known.get(named, named), parts(obj(content).get("parts")))


def parts(wire: Any) -> list[Part]:
    return [part for item in many(wire) if (part := _part(item))]


def _part(item: Any) -> Part | None:
    """The part that an item is; None for an empty text, which only carries a signature."""
    if not isinstance(item, dict):
        return text_part(item)
    data = obj(item)
    said = data.get("text")
    if said is not None:
        if not said:
            return None
        return reasoning_part(said) if data.get("thought") is True else text_part(said)
    if inline := obj(get(data, "inlineData")):
        mime_type = text(get(inline, "mimeType"))
        return blob_part(inline.get("data"), mime_type, _modality(mime_type))
    if file := obj(get(data, "fileData")):
        return media_part(get(file, "fileUri"), _modality(text(get(file, "mimeType"))))
    return _tool_part(data) or _other(data)


def _modality(mime_type: str) -> str:
    kind = mime_type.partition("/")[0].lower()
    return kind if kind in _MODALITIES else "file"


def _tool_part(data: JSON) -> Part | None:
    """Calls and results: of the caller's functions, and of tools that the server runs."""
    if call := obj(get(data, "functionCall")):
        arguments = call.get("args")
        return tool_call_part(
            call.get("id"), call.get("name"), {} if arguments is None else arguments
        )
    if result := obj(get(data, "functionResponse")):
        return tool_response_part(result.get("id") or result.get("name"), result.get("response"))
    if code := obj(get(data, "executableCode")):
        return tool_call_part(code.get("id"), "code_execution", _without_id(code))
    if ran := obj(get(data, "codeExecutionResult")):
        return tool_response_part(ran.get("id"), _without_id(ran))
    if server := obj(get(data, "toolCall")):
        arguments = server.get("args") or {}
        return tool_call_part(server.get("id"), get(server, "toolType"), arguments)
    if done := obj(get(data, "toolResponse")):
        return tool_response_part(done.get("id") or get(done, "toolType"), done.get("response"))
    return None


def _without_id(value: JSON) -> JSON:
    return {key: value[key] for key in value if key != "id"}


def _other(data: JSON) -> Part | None:
    kept = {
        key: data[key]
        for key in data
        if key not in ("type", "generic_type", "thought", "thoughtSignature", "thought_signature")
    }
    return generic_part({"type": next(iter(kept)), **kept}) if kept else None


_COUNTS = (
    *("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount"),
    *("cachedContentTokenCount", "toolUsePromptTokenCount", "totalTokenCount"),
)


def has_counts(raw: JSON) -> bool:
    """Whether it counts anything: Vertex sends chunks whose usage is its traffic type alone."""
    return any(get(raw, name) is not None for name in _COUNTS)


def gemini_usage(call: Call, raw: JSON, *, ended: bool) -> None:
    """Google's object: the prompt includes what was cached; thoughts and tool prompts are beside.

    A count of zero is left out on the wire: an answer that `ended` without one had no output.
    """
    call.service_tier = text(get(raw, "serviceTier") or get(raw, "trafficType"))
    if not has_counts(raw):
        return
    prompt, said, thought, cached, tools, total = (get(raw, name) for name in _COUNTS)
    out = _added(said, thought)
    into = _added(prompt, tools)
    inclusive: JSON = {
        "prompt_tokens": into,
        "completion_tokens": 0 if out is None and ended and into is not None else out,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": total,
    }
    openai_usage(call, inclusive)
    call.usage_raw = dumps(raw)


def _added(one: Any, other: Any) -> Any:
    """The sum of two counts; of what is no count, the value itself, for the check to name."""
    for value in (one, other):
        if value is not None and (type(value) is not int or value < 0):
            return value
    return None if one is None and other is None else (one or 0) + (other or 0)


def read_error(call: Call, answer: JSON, http_status: int) -> None:
    """An error as Google words it: named by its status (`RESOURCE_EXHAUSTED`), else its code."""
    take_error(call, answer, http_status)
    name_error(call, answer)


def name_error(call: Call, answer: JSON) -> None:
    """Google's status is a better name than the code that repeats HTTP's."""
    status = obj(answer.get("error")).get("status")
    if call.error_type and isinstance(status, str) and status:
        call.error_type = status
