"""The vendors' SDKs as judges: whatever stream they can read, we read the same out of its bytes.

Random streams go through the real clients (over a transport in memory) and through `decode`; texts,
tool calls, finish reasons and counts must agree, whatever the line ends.
"""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx
import httpx2
import ollama
import openai
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtap.dialects.model import Arrivals, Call, Exchange
from llmtap.dialects.registry import decode

_REPLY: dict[str, bytes] = {}
"""What the transports answer: the body under test, by content type."""


def _answer2(_: httpx2.Request) -> httpx2.Response:
    [(kind, body)] = _REPLY.items()
    return httpx2.Response(200, headers={"content-type": kind}, content=body)


def _answer(_: httpx.Request) -> httpx.Response:
    [(kind, body)] = _REPLY.items()
    return httpx.Response(200, headers={"content-type": kind}, content=body)


_HTTP = httpx2.Client(transport=httpx2.MockTransport(_answer2))
_OPENAI = openai.OpenAI(api_key="k", base_url="http://peer/v1", http_client=_HTTP, max_retries=0)
_CLAUDE = anthropic.Anthropic(api_key="k", base_url="http://peer", http_client=_HTTP, max_retries=0)
_OLLAMA: Any = ollama.Client(host="http://peer", transport=httpx.MockTransport(_answer))


def captured(path: str, kind: str, request: dict[str, Any], body: bytes) -> Call:
    """Our reading of the same bytes, arrived in pieces of 100."""
    _REPLY.clear()
    _REPLY[kind] = body
    ends = [*range(100, len(body), 100), len(body)]
    exchange = Exchange(
        method="POST",
        path=path,
        request_body=json.dumps(request).encode(),
        http_status=200,
        response_headers={"content-type": kind},
        response_body=body,
        arrivals=Arrivals(ends, range(len(ends))),
    )
    call = decode(exchange)
    assert call.decode_error == ""
    assert call.stream_complete
    return call


def events(documents: list[dict[str, Any]], newline: bytes, *, named: bool, done: bool) -> bytes:
    out: list[bytes] = [b": warming up" + newline * 2]
    for document in documents:
        name = b"event: " + str(document.get("type")).encode() + newline if named else b""
        data = json.dumps(document, ensure_ascii=False).encode()
        out.append(name + b"data: " + data + newline * 2)
    if done:
        out.append(b"data: [DONE]" + newline * 2)
    return b"".join(out)


_PIECES = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\x85\u2028\u2029"), min_size=1, max_size=8
)
_ARGUMENTS = st.dictionaries(
    st.text("abc", min_size=1, max_size=3), st.integers(-(2**63), 2**63) | _PIECES, max_size=3
)
_NEWLINES = st.sampled_from([b"\n", b"\r\n"])
_COUNTS = st.integers(0, 100_000)
_TOOLS = st.lists(st.tuples(st.text("fgh", min_size=1, max_size=4), _ARGUMENTS), max_size=3)


def calls_of(part: ollama.ChatResponse) -> list[tuple[str, Any]]:
    calls = part.message.tool_calls or ()
    return [(call.function.name, call.function.arguments) for call in calls]


def halves(text: str, at: int) -> list[str]:
    return [text[: at % (len(text) + 1)], text[at % (len(text) + 1) :]]


@st.composite
def chat_streams(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Chunks of an OpenAI chat stream: some choices, each with text or tool calls, interleaved."""
    per_choice: list[list[dict[str, Any]]] = []
    for index in range(draw(st.integers(1, 3))):
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": piece} for piece in draw(st.lists(_PIECES, max_size=4))]
        for number, (name, arguments) in enumerate(draw(_TOOLS)):
            first, second = halves(json.dumps(arguments), draw(_COUNTS))
            function = {"name": name, "arguments": first}
            base = {"index": number, "id": f"t{index}{number}", "type": "function"}
            deltas.append({"tool_calls": [{**base, "function": function}]})
            deltas.append({"tool_calls": [{"index": number, "function": {"arguments": second}}]})
        choices = [{"index": index, "delta": d, "finish_reason": None} for d in deltas]
        finish = draw(st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
        per_choice.append([*choices, {"index": index, "delta": {}, "finish_reason": finish}])
    order = draw(st.permutations([i for i, some in enumerate(per_choice) for _ in some]))
    head: dict[str, Any] = {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "served",
    }
    chunks = [{**head, "choices": [per_choice[i].pop(0)]} for i in order]
    into, out = draw(_COUNTS), draw(_COUNTS)
    usage = {"prompt_tokens": into, "completion_tokens": out, "total_tokens": into + out}
    return [*chunks, {**head, "choices": [], "usage": usage}]


@settings(max_examples=60, deadline=None)
@given(chunks=chat_streams(), newline=_NEWLINES)
def test_openai_chat_stream(chunks: list[dict[str, Any]], newline: bytes) -> None:
    body = events(chunks, newline, named=False, done=True)
    request = {"model": "asked", "messages": [{"role": "user", "content": "q"}], "stream": True}
    call = captured("/v1/chat/completions", "text/event-stream", request, body)
    texts: dict[int, str] = {}
    tools: dict[tuple[int, int], list[str]] = {}
    finish: dict[int, str] = {}
    usage = None
    for chunk in _OPENAI.chat.completions.create(
        model="asked", messages=[{"role": "user", "content": "q"}], stream=True
    ):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
            finish[choice.index] = choice.finish_reason or finish.get(choice.index, "")
            for tool in choice.delta.tool_calls or []:
                whole = tools.setdefault((choice.index, tool.index), ["", "", ""])
                function = tool.function
                assert function is not None
                found = [tool.id or "", function.name or "", function.arguments or ""]
                whole[:] = [old + new for old, new in zip(whole, found, strict=True)]
    assert [_text(m.parts) for m in call.output_messages] == [texts[i] for i in sorted(texts)]
    assert [m.finish_reason for m in call.output_messages] == [finish[i] for i in sorted(finish)]
    ours = [p for m in call.output_messages for p in m.parts if p["type"] == "tool_call"]
    assert [[p["id"], p["name"], p["arguments"]] for p in ours] == [tools[k] for k in sorted(tools)]
    assert usage is not None
    assert call.usage.input_tokens == usage.prompt_tokens
    assert call.usage.output_tokens == usage.completion_tokens
    assert call.usage_problem == ""


def _text(parts: list[dict[str, Any]]) -> str:
    return "".join(p["content"] for p in parts if p["type"] == "text")


@st.composite
def claude_streams(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Events of an Anthropic message: text, thinking and tool blocks with pings between."""
    counts = {
        "input_tokens": draw(_COUNTS),
        "cache_read_input_tokens": draw(_COUNTS),
        "cache_creation_input_tokens": draw(_COUNTS),
        "output_tokens": 1,
    }
    message: dict[str, Any] = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "served",
        "content": [],
    }
    start: dict[str, Any] = {**message, "stop_reason": None, "stop_sequence": None, "usage": counts}
    out: list[dict[str, Any]] = [{"type": "message_start", "message": start}, {"type": "ping"}]
    for index, kind in enumerate(draw(st.lists(st.sampled_from("xth"), max_size=4))):
        pieces = draw(st.lists(_PIECES, max_size=3))
        arguments = json.dumps(draw(_ARGUMENTS))
        match kind:
            case "x":
                block: dict[str, Any] = {"type": "text", "text": ""}
                deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
            case "h":
                block = {"type": "thinking", "thinking": "", "signature": ""}
                deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
                deltas.append({"type": "signature_delta", "signature": "s"})
            case _:
                block = {"type": "tool_use", "id": f"t{index}", "name": "f", "input": {}}
                fragments = halves(arguments, draw(_COUNTS))
                deltas = [{"type": "input_json_delta", "partial_json": f} for f in fragments]
        out.append({"type": "content_block_start", "index": index, "content_block": block})
        out += [{"type": "content_block_delta", "index": index, "delta": d} for d in deltas]
        out.append({"type": "content_block_stop", "index": index})
    end = {"stop_reason": draw(st.sampled_from(["end_turn", "tool_use"])), "stop_sequence": None}
    usage = {"output_tokens": draw(_COUNTS)}
    return [*out, {"type": "message_delta", "delta": end, "usage": usage}, {"type": "message_stop"}]


@settings(max_examples=60, deadline=None)
@given(stream=claude_streams(), newline=_NEWLINES)
def test_anthropic_stream(stream: list[dict[str, Any]], newline: bytes) -> None:
    body = events(stream, newline, named=True, done=False)
    request = {"model": "asked", "messages": [{"role": "user", "content": "q"}], "stream": True}
    call = captured("/v1/messages", "text/event-stream", request, body)
    with _CLAUDE.messages.stream(
        model="asked", max_tokens=9, messages=[{"role": "user", "content": "q"}]
    ) as reading:
        final = reading.get_final_message()
    expected: list[tuple[Any, ...]] = []
    for block in final.content:
        match block.type:
            case "text":
                expected.append(("text", block.text))
            case "thinking":
                expected.append(("reasoning", block.thinking))
            case "tool_use":
                expected.append(("tool_call", block.id, block.name, block.input))
            case _:
                raise AssertionError(block.type)
    parts = call.output_messages[0].parts
    assert [tuple(part.values()) for part in parts] == expected
    usage = final.usage
    read, write = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    assert call.usage.input_tokens == usage.input_tokens + read + write
    assert (call.usage.cache_read_tokens, call.usage.cache_write_tokens) == (read, write)
    assert call.usage.output_tokens == usage.output_tokens
    assert call.finish_reason == final.stop_reason
    assert (call.usage_source, call.usage_problem) == ("reported", "")


@settings(max_examples=60, deadline=None)
@given(
    thoughts=st.lists(_PIECES, max_size=3),
    pieces=st.lists(_PIECES, max_size=4),
    tools=_TOOLS,
    counts=st.tuples(_COUNTS, _COUNTS),
)
def test_ollama_stream(
    thoughts: list[str],
    pieces: list[str],
    tools: list[tuple[str, dict[str, Any]]],
    counts: tuple[int, int],
) -> None:
    said: list[dict[str, Any]] = [{"content": "", "thinking": t} for t in thoughts]
    said += [{"content": piece} for piece in pieces]
    said += [
        {"content": "", "tool_calls": [{"function": {"name": n, "arguments": a}}]} for n, a in tools
    ]
    head = {"model": "m", "created_at": "2026-01-01T00:00:00Z"}
    lines = [{**head, "message": {"role": "assistant", **s}, "done": False} for s in said]
    final = {
        **head,
        "message": {"role": "assistant", "content": ""},
        "done": True,
        "done_reason": "stop",
        "total_duration": 1,
        "prompt_eval_count": counts[0],
        "eval_count": counts[1],
    }
    body = b"".join(json.dumps(line).encode() + b"\n" for line in [*lines, final])
    request = {"model": "m", "messages": [{"role": "user", "content": "q"}]}
    call = captured("/api/chat", "application/x-ndjson", request, body)
    thinking = content = ""
    called: list[tuple[str, Any]] = []
    last: ollama.ChatResponse | None = None
    for part in _OLLAMA.chat(model="m", messages=[{"role": "user", "content": "q"}], stream=True):
        thinking += part.message.thinking or ""
        content += part.message.content or ""
        called += calls_of(part)
        last = part
    parts = call.output_messages[0].parts
    assert "".join(p["content"] for p in parts if p["type"] == "reasoning") == thinking
    assert _text(parts) == content
    assert [(p["name"], p["arguments"]) for p in parts if p["type"] == "tool_call"] == called
    assert last is not None
    assert (call.usage.input_tokens, call.usage.output_tokens) == (
        last.prompt_eval_count,
        last.eval_count,
    )
    assert call.finish_reason == last.done_reason
    assert call.chunks == len(said)
