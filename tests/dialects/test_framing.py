"""Framings: events as the WHATWG rules say, with offsets, whatever the line ends and the cut."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtap.dialects.framing import Event, ndjson, sse


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_fields_comments_and_lines_of_every_kind(end: bytes) -> None:
    body = end.join(
        [
            b": keep-alive",
            b"",
            b"event: ping",
            b"data:no space",
            b"",
            b"id: 7",
            b"data: one",
            b"data:  two",
            b"retry: 5",
            b"",
            b"event: nothing",
            b"",
            b"data",
            b"",
            b"data: cut",
        ]
    )
    events, tail = sse(body)
    assert [(e.name, e.data) for e in events] == [
        (b"ping", b"no space"),
        (b"", b"one\n two"),
        (b"", b""),
    ]
    assert tail == Event(len(body), b"", b"cut")
    for event in events:
        assert body[: event.end].endswith(end + end)


def test_mixed_line_ends_and_bom() -> None:
    body = b"\xef\xbb\xbfdata: a\n\r\ndata: b\r\n\ndata: c\r\r\ndata: d\n\rdata: e\n\n"
    events, tail = sse(body)
    assert [e.data for e in events] == [b"a", b"b", b"c", b"d", b"e"]
    assert events[-1].end == len(body) and tail is None


def test_blank_lines_between_events_are_nothing() -> None:
    assert sse(b"\n\n\ndata: a\n\n\n\n\ndata: b\n\n\n") == (
        [Event(12, b"", b"a"), Event(24, b"", b"b")],
        None,
    )


@given(
    data=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n")), max_size=8),
    line=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    cut=st.integers(0, 200),
)
def test_every_cut_gives_the_events_that_ended_before_it(
    data: list[str], line: bytes, cut: int
) -> None:
    body = b"".join(b"event: e%bdata: %b%b%b" % (line, d.encode(), line, line) for d in data)
    whole, tail = sse(body)
    assert tail is None
    assert [e.data for e in whole] == [d.encode() for d in data]
    part, tail = sse(body[:cut])
    assert tail is None or (tail.end == cut and any(e.data.startswith(tail.data) for e in whole))
    # A CR alone may be half of a CRLF: an event may seem to end one byte early, never late.
    assert [e.data for e in part] in (
        [e.data for e in whole if e.end <= cut],
        [e.data for e in whole if e.end <= cut + 1],
    )


@given(st.binary(max_size=200))
def test_any_bytes_are_split(body: bytes) -> None:
    for events, _ in (sse(body), ndjson(body)):
        ends = [e.end for e in events]
        assert ends == sorted(set(ends))
        assert all(0 < end <= len(body) for end in ends)


def test_ndjson_lines_and_tail() -> None:
    body = b'{"a":1}\r\n\n{"b":2}\n{"c"'
    events, clean = ndjson(body)
    assert [json.loads(e.data) for e in events] == [{"a": 1}, {"b": 2}]
    assert [body[e.end - 1 : e.end] for e in events] == [b"\n", b"\n"]
    assert not clean
    assert ndjson(b'{"a":1}\n') == ([Event(8, b"", b'{"a":1}')], True)
