"""Puts the events of a streamed response together, item by item.

The response that the last event carries wins; what the deltas gave is for streams that were cut and
for servers whose last event has no output. `[DONE]` does not end a stream and need not come.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from llmtap.dialects.answers import mark_tokens, stream_events, take_error
from llmtap.dialects.jsonish import JSON, items, obj, parse_object, text
from llmtap.dialects.model import Call, Exchange

_LAST = frozenset(
    f"response.{end}" for end in ("completed", "incomplete", "failed", "cancelled", "done")
)


class _Delta(NamedTuple):
    """Where a delta belongs: a field of an item; `at` names its piece where that is a list."""

    item_type: str
    field: str
    at: str = ""
    part_type: str = ""
    key: str = "text"


_DELTAS = {
    "response.output_text.delta": _Delta("message", "content", "content_index", "output_text"),
    "response.refusal.delta": _Delta("message", "content", "content_index", "refusal", "refusal"),
    "response.reasoning_text.delta": _Delta(
        "reasoning", "content", "content_index", "reasoning_text"
    ),
    "response.reasoning_summary_text.delta": _Delta(
        "reasoning", "summary", "summary_index", "summary_text"
    ),
    "response.function_call_arguments.delta": _Delta("function_call", "arguments"),
    "response.mcp_call_arguments.delta": _Delta("mcp_call", "arguments"),
    "response.custom_tool_call_input.delta": _Delta("custom_tool_call", "input"),
    "response.code_interpreter_call_code.delta": _Delta("code_interpreter_call", "code"),
}


@dataclass(slots=True)
class _Item:
    """One output item, being put together."""

    start: JSON = field(default_factory=dict[str, Any])
    pieces: dict[tuple[_Delta, int], list[str]] = field(
        default_factory=dict[tuple[_Delta, int], list[str]]
    )
    counted: bool = False
    """Whether an event of it counted as content."""
    done: bool = False

    def add(self, place: _Delta, index: int, piece: str) -> None:
        self.counted = True
        self.pieces.setdefault((place, index), []).append(piece)

    def item(self) -> JSON:
        if self.done or not self.pieces:
            return self.start
        (first, _), *_rest = self.pieces
        item: JSON = {"type": first.item_type, **self.start}
        lists: dict[str, list[JSON]] = {}
        for place, index in sorted(self.pieces, key=lambda at: at[1]):
            said = "".join(self.pieces[place, index])
            if place.at:
                piece = {"type": place.part_type, place.key: said}
                lists.setdefault(place.field, []).append(piece)
            else:
                item[place.field] = said
        return item | lists


def read_stream(call: Call, exchange: Exchange) -> JSON:
    """The response as far as it came; timing and errors in the stream are put on the call."""
    output: dict[int, _Item] = {}
    token_ends: list[int] = []
    response: JSON = {}
    call.stream = True
    call.stream_complete = False
    for event in stream_events(exchange):
        if event.data.startswith(b"[DONE]"):
            continue
        data = parse_object(event.data)
        kind = text(data.get("type")) or event.name.decode("utf-8", "replace")
        if not data:
            if event.data.strip():
                call.decode_error = call.decode_error or "a stream event is not a JSON object"
        elif kind.endswith(".delta"):
            if _delta(output, kind, data):
                token_ends.append(event.end)
        elif kind.startswith("response.output_item."):
            if _item(output, kind, data):
                token_ends.append(event.end)
        elif data.get("response"):
            response = {**response, **obj(data["response"])}
            call.stream_complete = call.stream_complete or kind in _LAST
        elif kind == "error" or data.get("error"):
            _error(call, data)
    mark_tokens(call, exchange, token_ends)
    whole = call.stream_complete and items(response.get("output"))
    if output and not whole:
        response["output"] = [output[index].item() for index in sorted(output)]
    return response


def _index(data: JSON, key: str) -> int:
    index = data.get(key)
    return index if isinstance(index, int) else 0


def _at(output: dict[int, _Item], data: JSON) -> _Item:
    index = _index(data, "output_index")
    item = output.get(index)
    if item is None:
        item = output[index] = _Item()
    return item


def _delta(output: dict[int, _Item], kind: str, data: JSON) -> bool:
    """Takes one delta; whether it carried content."""
    piece = data.get("delta")
    if piece and (place := _DELTAS.get(kind)):
        item = _at(output, data)
        item.add(place, _index(data, place.at), text(piece))
    return bool(piece)


def _item(output: dict[int, _Item], kind: str, data: JSON) -> bool:
    """Takes an item's start or end; whether it is the first to say anything of the item."""
    item = _at(output, data)
    item.start = obj(data.get("item"))
    item.done = kind.endswith(".done")
    first = not item.counted and _says(item.start)
    item.counted = item.counted or first
    return first


def _says(item: JSON) -> bool:
    """Whether an item is a tool call, or holds texts already."""
    if text(item.get("type")).endswith("_call"):
        return True
    return bool(items(item.get("content")) or items(item.get("summary")))


def _error(call: Call, data: JSON) -> None:
    """OpenAI's event has code and message at its top; others wrap them in `error`."""
    bare = {key: data[key] for key in ("code", "message", "param") if key in data}
    take_error(call, data if data.get("error") else {"error": bare or data}, 0)
