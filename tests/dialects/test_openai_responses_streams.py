"""Any stream of the Responses API: read as OpenAI's SDK reads it, and cut anywhere its beginning."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from llmtap.dialects.registry import decode
from tests.dialects.samples_openai_responses import (
    event,
    message,
    output_text,
    response,
    started,
    stream_of,
)
from tests.dialects.test_openai_responses import agrees, as_sdk_stream, stream, text_of, tools_of

_PIECES = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\x85\u2028\u2029"), min_size=1, max_size=8
)
_NEWLINES = st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def streams(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Events of a response: messages, reasoning and tool calls, each in any pieces."""
    out = [started()]
    output: list[dict[str, Any]] = []
    for index, kind in enumerate(draw(st.text("xrt", max_size=4))):
        pieces = draw(st.lists(_PIECES, max_size=4))
        whole = "".join(pieces)
        at: dict[str, Any] = {}
        match kind:
            case "x":
                begun, item = message(status="in_progress"), message(output_text(whole))
                delta, at = "output_text.delta", {"content_index": 0, "logprobs": []}
            case "r":
                begun = {"type": "reasoning", "id": f"r{index}", "summary": []}
                item = {**begun, "summary": [{"type": "summary_text", "text": whole}]}
                delta, at = "reasoning_summary_text.delta", {"summary_index": 0}
            case _:
                begun = {
                    "type": "function_call",
                    "call_id": f"t{index}",
                    "name": "g",
                    "arguments": "",
                }
                item = {**begun, "arguments": whole}
                delta = "function_call_arguments.delta"
        out.append(event("output_item.added", index, item=begun))
        if kind == "x":
            out.append(event("content_part.added", index, content_index=0, part=output_text("")))
        out += [event(delta, index, delta=piece, **at) for piece in pieces]
        out.append(event("output_item.done", index, item=item))
        output.append(item)
    final = draw(st.sampled_from(["completed", "incomplete"]))
    details = {"reason": "content_filter"} if final == "incomplete" else None
    told = response(output, final, incomplete_details=details)
    return [*out, event(final, response=told)]


@settings(max_examples=80, deadline=None)
@given(events=streams(), newline=_NEWLINES)
def test_sdk_agrees_on_any_stream(events: list[dict[str, Any]], newline: bytes) -> None:
    body = stream_of(*events).replace(b"\n", newline)
    call = decode(stream(body))
    said, tools, last = as_sdk_stream(stream_of(*events))
    assert last is not None
    agrees(call, last)
    assert (text_of(call), tools_of(call)) == (said, [*tools.values()])
    assert (call.stream_complete, call.decode_error) == (True, "")
    assert call == decode(stream(stream_of(*events)))
    thoughts = [i.summary[0].text for i in last.output if i.type == "reasoning"]
    parts = [p for m in call.output_messages for p in m.parts]
    assert [p["content"] for p in parts if p["type"] == "reasoning"] == thoughts


@settings(max_examples=60, deadline=None)
@given(events=streams(), data=st.data())
def test_cut_between_events_the_deltas_are_as_the_sdk_read_them(
    events: list[dict[str, Any]], data: st.DataObject
) -> None:
    body = stream_of(*events[: data.draw(st.integers(1, len(events) - 1))])
    call = decode(stream(body, response_complete=False))
    said, tools, last = as_sdk_stream(body)
    assert last is None and not call.stream_complete
    assert (text_of(call), tools_of(call)) == (said, [*tools.values()])


@settings(max_examples=150, deadline=None)
@given(events=streams(), newline=_NEWLINES, data=st.data())
def test_any_cut_is_a_beginning(
    events: list[dict[str, Any]], newline: bytes, data: st.DataObject
) -> None:
    body = stream_of(*events).replace(b"\n", newline)
    whole = decode(stream(body))
    cut = data.draw(st.integers(0, len(body)))
    call = decode(stream(body[:cut], response_complete=False))
    assert "Error:" not in call.decode_error
    assert text_of(whole).startswith(text_of(call))
    assert call.stream and call.chunks <= whole.chunks
    if call.stream_complete:
        assert call == whole
