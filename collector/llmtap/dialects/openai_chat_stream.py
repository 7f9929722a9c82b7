"""Puts the chunks of a streamed chat completion together, per choice and per tool call.

This runs once for every token of every stream: the usual chunk takes the short way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from llmtap.dialects.answers import mark_tokens
from llmtap.dialects.jsonish import JSON, items, obj, text
from llmtap.dialects.model import Call, Exchange, Message, Part
from llmtap.dialects.openai_common import chunks
from llmtap.dialects.parts import (
    openai_content,
    reasoning_part,
    refusal_part,
    text_part,
    tool_call_part,
)


def read_stream(call: Call, exchange: Exchange) -> list[Message]:
    """The output messages, one per choice; timing and usage are put on the call."""
    choices: dict[int, _Choice] = {}
    token_ends: list[int] = []
    for end, chunk in chunks(call, exchange):
        content = False
        for raw in items(chunk.get("choices")):
            item = obj(raw)
            index = item.get("index")
            if not isinstance(index, int):
                index = 0
            choice = choices.get(index)
            if choice is None:
                choice = choices[index] = _Choice()
            if finish := item.get("finish_reason"):
                choice.finish = text(finish)
            if choice.add(obj(item.get("delta") or item.get("message"))):
                content = True
        if content:
            token_ends.append(end)
    mark_tokens(call, exchange, token_ends)
    return [choices[index].message() for index in sorted(choices)]


@dataclass(slots=True)
class _Tool:
    index: int
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class _Choice:
    """One choice, being put together."""

    role: str = "assistant"
    text: list[str] = field(default_factory=list[str])
    reasoning: list[str] = field(default_factory=list[str])
    refusal: list[str] = field(default_factory=list[str])
    media: list[Part] = field(default_factory=list[Part])
    tools: list[_Tool] = field(default_factory=list[_Tool])
    finish: str = ""

    def add(self, delta: JSON) -> bool:
        """Takes one delta; whether it carried content."""
        content = False
        if said := delta.get("content"):
            if isinstance(said, str):
                self.text.append(said)
            else:
                self._add_parts(said)
            if len(delta) == 1:
                return True
            content = True
        if role := delta.get("role"):
            self.role = text(role)
        if thought := delta.get("reasoning_content") or delta.get("reasoning"):
            self.reasoning.append(text(thought))
            content = True
        if refusal := delta.get("refusal"):
            self.refusal.append(text(refusal))
            content = True
        if audio := delta.get("audio"):
            self.text.append(text(obj(audio).get("transcript")))
            content = True
        if images := delta.get("images"):
            self._add_parts(images)
            content = True
        return self._add_tools(delta) or content

    def _add_parts(self, content: Any) -> None:
        for part in openai_content(content):
            match part["type"]:
                case "text":
                    self.text.append(part["content"])
                case "reasoning":
                    self.reasoning.append(part["content"])
                case _:
                    self.media.append(part)

    def _add_tools(self, delta: JSON) -> bool:
        fragments = items(delta.get("tool_calls"))
        if legacy := delta.get("function_call"):
            fragments = [*fragments, {"index": 0, "function": legacy}]
        for raw in fragments:
            fragment = obj(raw)
            call_id = text(fragment.get("id"))
            function = obj(fragment.get("function") or fragment.get("custom"))
            name = text(function.get("name"))
            tool = self._tool(fragment.get("index"), call_id if name else "")
            tool.id = tool.id or call_id
            tool.name = tool.name or name
            tool.arguments.append(text(function.get("arguments", function.get("input"))))
        return bool(fragments)

    def _tool(self, index: Any, begun_id: str) -> _Tool:
        """By index; where servers send none, or one for all, a new id with a name begins a call."""
        if not isinstance(index, int):
            index = self.tools[-1].index if self.tools else 0
        same = [tool for tool in self.tools if tool.index == index]
        if same and (not begun_id or same[-1].id in ("", begun_id)):
            return same[-1]
        self.tools.append(_Tool(index))
        return self.tools[-1]

    def message(self) -> Message:
        parts: list[Part] = []
        if self.reasoning:
            parts.append(reasoning_part("".join(self.reasoning)))
        if self.text:
            parts.append(text_part("".join(self.text)))
        if self.refusal:
            parts.append(refusal_part("".join(self.refusal)))
        parts += self.media
        for tool in sorted(self.tools, key=attrgetter("index")):
            parts.append(tool_call_part(tool.id, tool.name, "".join(tool.arguments)))
        return Message(self.role, parts, finish_reason=self.finish)
