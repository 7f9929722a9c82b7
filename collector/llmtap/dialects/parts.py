"""Message parts in the OTel GenAI form, from what the wire dialects send.

Binary content is replaced by its type, size and hash: texts are stored, media are not.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any

from llmtap.dialects.jsonish import JSON, items, obj, text
from llmtap.dialects.model import Part


def _structured(value: Any) -> Any:
    return value if type(value) in (dict, list) else text(value)


def text_part(value: Any) -> Part:
    return {"type": "text", "content": text(value)}


def reasoning_part(value: Any) -> Part:
    return {"type": "reasoning", "content": text(value)}


def refusal_part(value: Any) -> Part:
    return {"type": "refusal", "content": text(value)}


def tool_call_part(call_id: Any, name: Any, arguments: Any) -> Part:
    """`arguments` stays as sent: JSON text (OpenAI) or an object (Anthropic, Ollama)."""
    kept = _structured(arguments)
    return {"type": "tool_call", "id": text(call_id), "name": text(name), "arguments": kept}


def tool_response_part(call_id: Any, response: Any) -> Part:
    kept = _structured(response)
    return {"type": "tool_call_response", "id": text(call_id), "response": kept}


def blob_part(data: Any, mime_type: Any, modality: str) -> Part:
    """A base64 blob by type, size and SHA-256 of its bytes."""
    encoded = text(data)
    try:
        raw = base64.b64decode(encoded, validate=False)
    except (binascii.Error, ValueError):
        raw = encoded.encode()
    digest = hashlib.sha256(raw).hexdigest()
    mime = text(mime_type)
    return {
        "type": "blob",
        "mime_type": mime,
        "modality": modality,
        "size": len(raw),
        "sha256": digest,
    }


def media_part(url: Any, modality: str) -> Part:
    """A `data:` URL becomes a blob, any other a uri."""
    address = text(url)
    if address.startswith("data:"):
        head, _, data = address[5:].partition(",")
        return blob_part(data, head.partition(";")[0], modality)
    return {"type": "uri", "modality": modality, "uri": address[:4096]}


def generic_part(value: JSON) -> Part:
    """Anything else, whole (its own type becomes `generic_type`)."""
    rest = {key: item for key, item in value.items() if key != "type"}
    return {"type": "generic", "generic_type": text(value.get("type")), **rest}


def openai_content(content: Any) -> list[Part]:
    """Parts of an OpenAI `content`: a string or a list of typed parts."""
    if isinstance(content, str):
        return [text_part(content)] if content else []
    return [
        _openai_item(obj(item)) if isinstance(item, dict) else text_part(item)
        for item in items(content)
    ]


def _openai_item(item: JSON) -> Part:
    match item.get("type"):
        case "text" | "input_text" | "output_text":
            return text_part(item.get("text"))
        case "refusal":
            return refusal_part(item.get("refusal"))
        case "thinking" | "reasoning":  # Mistral: a list of text parts
            inner = item.get("thinking") or item.get("reasoning") or item.get("text")
            if isinstance(inner, list):
                inner = "".join(text(obj(piece).get("text")) for piece in items(inner))
            return reasoning_part(inner)
        case "image_url":
            image = item.get("image_url")
            return media_part(obj(image).get("url") if isinstance(image, dict) else image, "image")
        case "input_audio":
            audio = obj(item.get("input_audio"))
            return blob_part(audio.get("data"), f"audio/{text(audio.get('format'))}", "audio")
        case "file":
            file = obj(item.get("file"))
            if file.get("file_data"):
                return media_part(file.get("file_data"), "file")
            return {"type": "file", "file_id": text(file.get("file_id"))}
        case _:
            return generic_part(item)


def anthropic_content(content: Any) -> list[Part]:
    """Parts of an Anthropic `content`: a string or a list of blocks."""
    if isinstance(content, str):
        return [text_part(content)] if content else []
    return [_anthropic_block(obj(block)) for block in items(content)]


def _anthropic_block(block: JSON) -> Part:
    match block.get("type"):
        case "text":
            return text_part(block.get("text"))
        case "thinking":
            return reasoning_part(block.get("thinking"))
        case "redacted_thinking":
            return {"type": "reasoning", "content": "", "redacted": True}
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            return tool_call_part(block.get("id"), block.get("name"), block.get("input"))
        case "tool_result":
            content = block.get("content")
            if isinstance(content, list):
                content = anthropic_content(content)
            return tool_response_part(block.get("tool_use_id"), content)
        case "image" | "document":
            source = obj(block.get("source"))
            modality = "image" if block["type"] == "image" else "file"
            if source.get("type") == "base64":
                return blob_part(source.get("data"), source.get("media_type"), modality)
            if source.get("type") == "url":
                return media_part(source.get("url"), modality)
            if source.get("type") == "text":
                return text_part(source.get("data"))
            return {"type": "file", "file_id": text(source.get("file_id"))}
        case _:
            return generic_part(block)


def plain_text(parts: list[Part]) -> str:
    """What a person would read of the parts, for search: texts, refusals, tool arguments."""
    kept: list[str] = []
    for part in parts:
        match part["type"]:
            case "text" | "refusal":
                kept.append(part["content"])
            case "tool_call":
                arguments = part["arguments"]
                shown = arguments if isinstance(arguments, str) else text(arguments)
                kept.append(f"{part['name']}({shown})")
            case "tool_call_response":
                response = part["response"]
                kept.append(response if isinstance(response, str) else text(response))
            case _:
                continue
    return "\n".join(kept)
