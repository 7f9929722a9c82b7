"""Message parts in the OTel GenAI form, from what the wire dialects send.

Binary content is replaced by its type, size and hash: texts are stored, media are not.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any
from urllib.parse import unquote_to_bytes

from llmtap.dialects.jsonish import JSON, items, obj, text
from llmtap.dialects.model import Part


def _structured(value: Any) -> Any:
    return value if type(value) in (dict, list) else text(value)


_INLINE_BYTES = 1024


def text_part(value: Any) -> Part:
    return {"type": "text", "content": text(value)}


def prompt_part(value: Any) -> Part:
    """A prompt as text, or as the token ids that some clients send instead."""
    if isinstance(value, list):
        return {"type": "generic", "generic_type": "token_ids", "ids": items(value)}
    return text_part(value)


def is_token_ids(value: Any) -> bool:
    """Whether it is one prompt, given as token ids."""
    ids = items(value)
    return bool(ids) and all(type(i) is int for i in ids)


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
    return _blob(raw, text(mime_type), modality)


def _blob(raw: bytes, mime_type: str, modality: str) -> Part:
    return {
        "type": "blob",
        "mime_type": mime_type,
        "modality": modality,
        "size": len(raw),
        "sha256": hashlib.sha256(raw).hexdigest(),
    }


def media_part(url: Any, modality: str) -> Part:
    """A `data:` URL becomes a blob, any other a uri."""
    address = text(url)
    if address[:5].lower() != "data:":
        if len(address) > _INLINE_BYTES and ":" not in address[:32]:
            return blob_part(address, "", modality)  # bare base64
        return {"type": "uri", "modality": modality, "uri": address[:4096]}
    head, _, data = address[5:].partition(",")
    mime_type = head.partition(";")[0]
    if head.lower().endswith(";base64"):
        return blob_part(data, mime_type, modality)
    return _blob(unquote_to_bytes(data), mime_type, modality)


_BINARY_KEYS = frozenset(["data", "file_data", "b64_json", "encrypted_content"])


def generic_part(value: JSON) -> Part:
    """Anything else, whole but for its media (its own type becomes `generic_type`)."""
    rest = {key: _without_media(item, key) for key, item in value.items() if key != "type"}
    return {"type": "generic", "generic_type": text(value.get("type")), **rest}


def _without_media(value: Any, key: str = "") -> Any:
    """The same value with inline media replaced by blobs. As deep as orjson lets JSON be."""
    if isinstance(value, str):
        if value[:5].lower() == "data:" and "," in value[:256]:
            return media_part(value, value[5:].partition("/")[0][:32])
        if key in _BINARY_KEYS and len(value) > _INLINE_BYTES:
            return blob_part(value, "", "")
        return value
    if isinstance(value, list):
        return [_without_media(item, key) for item in items(value)]
    if isinstance(value, dict):
        return {name: _without_media(item, name) for name, item in obj(value).items()}
    return value


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
        case "image_url" | "video_url" | "audio_url" as kind:
            media = item.get(kind)
            url = obj(media).get("url") if isinstance(media, dict) else media
            return media_part(url, kind.removesuffix("_url"))
        case "input_audio":
            audio = obj(item.get("input_audio"))
            return blob_part(audio.get("data"), f"audio/{text(audio.get('format'))}", "audio")
        case "file":
            file = obj(item.get("file"))
            if file.get("file_data"):
                data = text(file["file_data"])
                inline = data[:5].lower() == "data:"
                return media_part(data, "file") if inline else blob_part(data, "", "file")
            return {"type": "file", "file_id": text(file.get("file_id"))}
        case _:
            return generic_part(item)


def anthropic_content(content: Any) -> list[Part]:
    """Parts of an Anthropic `content`: a string or a list of blocks."""
    if isinstance(content, str):
        return [text_part(content)] if content else []
    return [
        anthropic_block(obj(block)) if isinstance(block, dict) else text_part(block)
        for block in items(content)
    ]


def anthropic_block(block: JSON) -> Part:
    """The part of one content block."""
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
            if source.get("type") == "file":
                return {"type": "file", "file_id": text(source.get("file_id"))}
            return generic_part(block)
        case str() as kind if kind.endswith("_tool_result"):  # of tools that the server runs
            response = _without_media(block.get("content"))
            return tool_response_part(block.get("tool_use_id"), response)
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
