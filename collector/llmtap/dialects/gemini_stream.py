"""Puts Gemini's answers together: a whole one, or the chunks of either stream form.

SSE (`alt=sse`) ends with its connection, without a terminator; the other form is one JSON array
whose items come one by one. A chunk is an answer by itself: parts of one kind are joined.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, cast

from llmtap.dialects.answers import is_event_stream, mark_tokens, stream_events
from llmtap.dialects.framing import Event
from llmtap.dialects.gemini_common import get, has_counts, many, parts, read_error
from llmtap.dialects.jsonish import JSON, items, obj, parse_object, text
from llmtap.dialects.model import Call, Exchange, Message, Part
from llmtap.dialects.parts import tool_call_part

_JOINED = frozenset(["text", "reasoning"])
_ARRAY = re.compile(rb"(?:\xef\xbb\xbf)?\s*\[")
_TOKEN = re.compile(rb'"(?:[^"\\]+|\\.)*+"|["{}\[\]]', re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d{1,6})\]|\['([^']*)'\]")
_MAX_STEPS = 20


def put_argument(arguments: JSON, partial: JSON) -> None:
    """Puts one streamed piece where its JSONPath says; texts go on where they were.

    A path that does not fit what is there stays a key by itself: nothing said is lost.
    """
    path = text(get(partial, "jsonPath"))
    steps = [int(m[2]) if m[2] else m[1] or m[3] for m in _STEP.finditer(path.removeprefix("$"))]
    value = get(partial, "stringValue")
    for name in ("numberValue", "boolValue"):
        value = get(partial, name) if value is None else value
    if not 0 < len(steps) <= _MAX_STEPS or not _put(arguments, steps, value):
        _put(arguments, [path], value)


def _put(node: Any, steps: list[int | str], value: Any) -> bool:
    """Whether there was room for it."""
    step, rest = steps[0], steps[1:]
    if isinstance(step, int):
        fits = isinstance(node, list) and step <= len(items(node))
    else:
        fits = isinstance(node, dict)
    if not fits:
        return False
    if step == len(items(node)):
        items(node).append(None)
    into = cast("dict[int | str, Any]", node)  # or a list: indexed alike
    there = into.get(step) if isinstance(step, str) else into[step]
    if rest:
        if there is None:
            there = into[step] = [] if isinstance(rest[0], int) else {}
        return _put(there, rest, value)
    if isinstance(there, str) and isinstance(value, str):
        value = there + value
    into[step] = value
    return True


def is_array(body: bytes) -> bool:
    """Whether it is the JSON array that a stream without SSE comes as."""
    return _ARRAY.match(body) is not None


def array_items(body: bytes) -> list[Event]:
    """The objects in an array, as far as they came whole, each with the offset past it."""
    found: list[Event] = []
    depth = start = 0
    for match in _TOKEN.finditer(body):
        token = body[match.start()]
        if token in b"{[":
            if depth == 1:
                start = match.start()
            depth += 1
        elif token in b"}]":
            depth -= 1
            if depth == 1:
                found.append(Event(match.end(), b"", body[start : match.end()]))
            elif depth <= 0:
                break
        elif match.end() == match.start() + 1:  # a string without its end: this is the cut
            break
    return found


def read_stream(call: Call, exchange: Exchange) -> Answers:
    """What all chunks said; timing and errors are put on the call."""
    answers = Answers()
    token_ends: list[int] = []
    sse = is_event_stream(exchange)
    failed = False
    for event in stream_events(exchange) if sse else array_items(exchange.response_body):
        chunk = parse_object(event.data)
        if not chunk:
            if event.data.strip() not in (b"", b"[DONE]"):
                call.decode_error = call.decode_error or "a stream event is not a JSON object"
            continue
        if chunk.get("error"):
            read_error(call, chunk, exchange.http_status)
            failed = True
        if answers.add(chunk):
            token_ends.append(event.end)
    call.stream = True
    call.stream_complete = (answers.ended() and not failed) or exchange.http_status >= 300
    mark_tokens(call, exchange, token_ends)
    return answers


@dataclass(slots=True)
class _Candidate:
    """One candidate, being put together."""

    parts: list[Part] = field(default_factory=list[Part])
    joined: list[str] = field(default_factory=list[str])
    """The pieces of the last part, when it is a text: joined once."""
    call: JSON | None = None
    """The arguments of a function call that goes on in the next fragment."""
    finish: str = ""

    def takes(self, fragment: JSON) -> bool:
        """Whether it is a piece of a call whose arguments are streamed (Vertex); then it is in."""
        partial, goes_on = get(fragment, "partialArgs"), get(fragment, "willContinue") is True
        if not partial and not goes_on and (self.call is None or "name" in fragment):
            return False
        if self.call is None or "name" in fragment:
            self.call = dict(obj(fragment.get("args")))
            self.add(tool_call_part(fragment.get("id"), fragment.get("name"), self.call))
        for raw in items(partial):
            put_argument(self.call, obj(raw))
        if not goes_on:
            self.call = None
        return True

    def add(self, part: Part) -> None:
        kind = part["type"]
        if kind in _JOINED and self.joined and self.parts[-1]["type"] == kind:
            self.joined.append(part["content"])
            return
        self.close()
        self.parts.append(part)
        if kind in _JOINED:
            self.joined.append(part["content"])

    def close(self) -> None:
        if self.joined:
            self.parts[-1]["content"] = "".join(self.joined)
            self.joined = []


@dataclass(slots=True)
class Answers:
    """The sum of the chunks. Usage is the last one that counts, never added up."""

    response_id: str = ""
    model: str = ""
    blocked: str = ""
    block_message: str = ""
    usage: JSON = field(default_factory=dict[str, object])
    candidates: dict[int, _Candidate] = field(default_factory=dict[int, _Candidate])

    def add(self, chunk: JSON) -> bool:
        """Takes one chunk; whether it carried content."""
        self.response_id = self.response_id or text(get(chunk, "responseId"))
        self.model = self.model or text(get(chunk, "modelVersion"))
        usage = obj(get(chunk, "usageMetadata"))
        if has_counts(usage) or not has_counts(self.usage):
            self.usage = usage or self.usage
        feedback = obj(get(chunk, "promptFeedback"))
        if reason := get(feedback, "blockReason"):
            self.blocked = text(reason)
            self.block_message = text(get(feedback, "blockReasonMessage"))
        content = False
        for raw in items(chunk.get("candidates")):
            content = self._candidate(obj(raw)) or content
        return content

    def _candidate(self, wire: JSON) -> bool:
        index = wire.get("index")
        if not isinstance(index, int):
            index = 0
        candidate = self.candidates.get(index)
        if candidate is None:
            candidate = self.candidates[index] = _Candidate()
        if finish := get(wire, "finishReason"):
            candidate.finish = text(finish)
        content = False
        for item in many(obj(wire.get("content")).get("parts")):
            fragment = get(obj(item), "functionCall")
            if isinstance(fragment, dict) and candidate.takes(obj(fragment)):
                content = True
                continue
            for part in parts(item):
                candidate.add(part)
                content = True
        return content

    def ended(self) -> bool:
        """Whether every candidate has a finish reason, or the prompt was blocked."""
        if not self.candidates:
            return bool(self.blocked)
        return all(candidate.finish for candidate in self.candidates.values())

    def messages(self) -> list[Message]:
        found: list[Message] = []
        for index in sorted(self.candidates):
            candidate = self.candidates[index]
            candidate.close()
            said = Message("assistant", candidate.parts, finish_reason=candidate.finish)
            found.append(said)
        return found
