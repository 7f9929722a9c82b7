"""Items of OpenAI's Responses API, the same in requests and answers, as messages of parts.

Source: OpenAI API reference (responses). Tools that the server runs are tool calls like any other;
what such an item holds of their result follows as its response. Media become blobs.
"""

from __future__ import annotations

from typing import Any

from llmtap.dialects.jsonish import JSON, items, obj, text
from llmtap.dialects.model import Message, Part
from llmtap.dialects.parts import (
    blob_part,
    generic_part,
    media_part,
    openai_content,
    reasoning_part,
    text_part,
    tool_call_part,
    tool_response_part,
)

_ARGUMENTS = {
    "function_call": "arguments",
    "mcp_call": "arguments",
    "tool_search_call": "arguments",
    "custom_tool_call": "input",
    "web_search_call": "action",
    "local_shell_call": "action",
    "shell_call": "action",
    "computer_call": "action",
    "apply_patch_call": "operation",
}
"""Where a call keeps its arguments; for all others they are what is left of the item."""
_RESULTS = {
    "mcp_call": "output",
    "file_search_call": "results",
    "code_interpreter_call": "outputs",
}
_FRAME = frozenset("type generic_type id call_id name status error".split())  # noqa: SIM905


def input_messages(value: Any) -> list[Message]:
    """Messages of `input` or `instructions`: a string (the user's) or items."""
    if isinstance(value, str):
        return [Message("user", [text_part(value)])] if value else []
    return _messages(value, "tool")


def output_messages(value: Any) -> list[Message]:
    """One assistant message of all items in order; others only where an item says their role."""
    return _messages(value, "assistant")


def _messages(value: Any, tool_role: str) -> list[Message]:
    """What the model made in a row is one message, as it is where it was the answer."""
    found: list[Message] = []
    for raw in items(value):
        if isinstance(raw, str):
            found.append(Message("user", [text_part(raw)]))
            continue
        item = obj(raw)
        role = _role(item, tool_role)
        if found and role == "assistant" == found[-1].role:
            found[-1].parts += item_parts(item)
        else:
            found.append(Message(role, item_parts(item)))
    return found


def _role(item: JSON, tool_role: str) -> str:
    kind = text(item.get("type"))
    if item.get("role"):
        return text(item["role"])
    if kind.endswith("_output"):
        return tool_role
    return "user" if kind == "mcp_approval_response" else "assistant"


def item_parts(item: JSON) -> list[Part]:
    """The parts of one item."""
    kind = text(item.get("type")) or ("message" if item.get("role") else "")
    if kind == "message":
        return _content(item.get("content"))
    if kind == "reasoning":
        return [_reasoning(item)]
    if kind == "image_generation_call":
        return _made_image(item)
    if kind.endswith("_call") or kind == "program":
        return _tool_call(item, kind)
    if kind.endswith("_output"):
        return [_tool_output(item)]
    return [generic_part(item)]


def _content(content: Any) -> list[Part]:
    if not isinstance(content, list):
        return openai_content(content)
    return [part for piece in items(content) for part in _content_part(piece)]


def _content_part(piece: Any) -> list[Part]:
    part = obj(piece)
    match part.get("type"):
        case "input_image" | "computer_screenshot" if part.get("image_url"):
            return [media_part(part["image_url"], "image")]
        case "input_file" if part.get("file_data"):
            data = text(part["file_data"])
            inline = data[:5].lower() == "data:"
            return [media_part(data, "file") if inline else blob_part(data, "", "file")]
        case "input_file" if part.get("file_url"):
            return [media_part(part["file_url"], "file")]
        case "input_image" | "computer_screenshot" | "input_file" if part.get("file_id"):
            return [{"type": "file", "file_id": text(part["file_id"])}]
        case "reasoning_text" | "summary_text":
            return [reasoning_part(part.get("text"))]
        case _:
            return openai_content([piece])


def _reasoning(item: JSON) -> Part:
    """What was thought, else its summary; all may be hidden or encrypted."""
    thought = _texts(item.get("content"), "") or _texts(item.get("summary"), "\n\n")
    if not thought and item.get("encrypted_content"):
        return {"type": "reasoning", "content": "", "redacted": True}
    return reasoning_part(thought)


def _texts(value: Any, between: str) -> str:
    return between.join(text(obj(piece).get("text")) for piece in items(value))


def _tool_call(item: JSON, kind: str) -> list[Part]:
    call_id = item.get("call_id") or item.get("id")
    name = text(item.get("name")) or kind.removesuffix("_call")
    result_key = _RESULTS.get(kind, "")
    arguments = item.get(_ARGUMENTS.get(kind, ""))
    if arguments is None:
        arguments = _rest(item, result_key)
    parts = [tool_call_part(call_id, name, arguments)]
    if result_key and (result := item.get(result_key) or item.get("error")):
        parts.append(tool_response_part(call_id, _response(result)))
    return parts


def _rest(item: JSON, *but: str) -> JSON:
    kept = {key: value for key, value in item.items() if key not in but and value is not None}
    return {key: value for key, value in generic_part(kept).items() if key not in _FRAME}


def _made_image(item: JSON) -> list[Part]:
    parts = [tool_call_part(item.get("id"), "image_generation", _rest(item, "result"))]
    if item.get("result"):
        made = text(item.get("output_format")) or "png"
        parts.append(blob_part(item["result"], f"image/{made}", "image"))
    return parts


def _tool_output(item: JSON) -> Part:
    call_id = item.get("call_id") or item.get("id")
    said = next((item[key] for key in ("output", "result") if item.get(key) is not None), None)
    return tool_response_part(call_id, _rest(item) if said is None else _response(said))


def _response(value: Any) -> Any:
    """What a tool gave back, without its media: a text, content parts, or the tool's own shape."""
    pieces = [value] if isinstance(value, dict) else items(value)
    if pieces and all(isinstance(obj(piece).get("type"), str) for piece in pieces):
        return _content(pieces)
    return generic_part({"kept": value})["kept"]
