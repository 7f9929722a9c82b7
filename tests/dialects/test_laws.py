"""Laws that hold for every dialect; a new one is covered by its samples.

How the bytes were cut and coded on their way never matters, what arrived early never changes later,
no bytes whatever make the decoder raise, and an error that llmtap writes is read as that error.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import sys
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtap.dialects.dechunk import dechunk
from llmtap.dialects.errors import error_body
from llmtap.dialects.model import Arrivals, Call, Exchange
from llmtap.dialects.registry import DIALECTS, decode
from tests.dialects.samples import SAMPLES, exchange

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_brotli: Any = brotli
each_sample = pytest.mark.parametrize("name", SAMPLES)
any_sample = st.sampled_from(sorted(SAMPLES))
CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": lambda body: bytes(_brotli.compress(body, quality=1)),
    "zstd": zstd.compress,
}


def without_timing(call: Call) -> Call:
    return dataclasses.replace(call, first_token_us=None, last_token_us=None)


def as_arrived(sample: Exchange, sizes: list[int], coding: str) -> Exchange:
    """The sample as it comes off the wire: content-coded, then chunked in pieces of these sizes."""
    body = CODINGS[coding](sample.response_body)
    wire, ends, pos = b"", list[int](), 0
    while pos < len(body):
        piece = body[pos : pos + sizes[len(ends) % len(sizes)]]
        wire += b"%x\r\n%b\r\n" % (len(piece), piece)
        pos += len(piece)
        ends.append(len(wire))
    plain = dechunk(wire + b"0\r\n\r\n")
    assert plain.complete and plain.body == body
    headers = {**sample.response_headers, **({"content-encoding": coding} if coding else {})}
    return dataclasses.replace(
        sample,
        response_body=plain.body,
        response_headers=headers,
        arrivals=plain.arrivals(Arrivals(ends, range(1, len(ends) + 1))),
    )


def check_invariance(name: str, sizes: list[int], coding: str) -> None:
    sample = SAMPLES[name]
    got = decode(as_arrived(sample, sizes, coding))
    assert without_timing(got) == without_timing(decode(sample))
    if got.chunks:
        assert got.first_token_us is not None and got.last_token_us is not None
        assert 0 < got.first_token_us <= got.last_token_us
    else:
        assert got.first_token_us is got.last_token_us is None


@each_sample
@pytest.mark.parametrize("coding", CODINGS)
def test_byte_by_byte_is_whole(name: str, coding: str) -> None:
    check_invariance(name, [1], coding)


@given(
    name=any_sample,
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=20),
    coding=st.sampled_from(sorted(CODINGS)),
)
def test_any_cuts_are_whole(name: str, sizes: list[int], coding: str) -> None:
    check_invariance(name, sizes, coding)


@each_sample
def test_what_arrived_is_a_beginning_of_the_whole(name: str) -> None:
    """Every cut of a stream gives a beginning of its texts, and says that it was cut."""
    sample = SAMPLES[name]
    whole = decode(sample)
    if not whole.chunks:
        return
    texts = [_text(whole, i) for i in range(len(whole.output_messages))]
    for cut in range(len(sample.response_body)):
        body = sample.response_body[:cut]
        call = decode(dataclasses.replace(sample, response_body=body, response_complete=False))
        assert call.stream
        assert len(call.output_messages) <= len(texts)
        if len(call.output_messages) == len(texts):
            assert all(text.startswith(_text(call, i)) for i, text in enumerate(texts))
        assert call.chunks <= whole.chunks
        if whole.stream_complete and call.stream_complete:
            # Only what ends the last event may be missing.
            assert without_timing(call) == without_timing(whole)


def _text(call: Call, index: int) -> str:
    parts = call.output_messages[index].parts
    return "".join(part["content"] for part in parts if part["type"] == "text")


_HEADERS = st.sampled_from(
    ["application/json", "text/event-stream", "application/x-ndjson", "text/html", ""]
)


def check_total(captured: Exchange) -> None:
    """A Call came back, no decoder raised inside, and the store can take every text."""
    call = decode(captured)
    assert "Error:" not in call.decode_error, call.decode_error
    json.dumps(dataclasses.asdict(call), ensure_ascii=False).encode()


@settings(max_examples=300)
@given(
    path=st.sampled_from(sorted({s.path for s in SAMPLES.values()})),
    name=any_sample,
    other=any_sample,
    noise=st.binary(max_size=100),
    cut=st.integers(0, 3000),
    kind=_HEADERS,
    coding=st.sampled_from([*CODINGS, "no-such", "gzip, br"]),
    status=st.sampled_from([0, 200, 204, 302, 400, 500]),
)
def test_any_bytes_are_a_call(
    path: str, name: str, other: str, noise: bytes, cut: int, kind: str, coding: str, status: int
) -> None:
    request, response = SAMPLES[name].request_body, SAMPLES[other].response_body
    check_total(
        Exchange(
            method="POST",
            path=path,
            request_body=request[: cut * 2] + noise,
            http_status=status,
            response_headers={"content-type": kind, "content-encoding": coding},
            response_body=response[:cut] + noise + response[cut:],
        )
    )


_SCALARS: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=4)
)
_ANY_JSON: st.SearchStrategy[Any] = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


def _replaced(value: Any, target: int, new: Any) -> tuple[Any, int]:
    """`value` with its node number `target` (depth first) replaced; how many nodes are left."""
    if target == 0:
        return new, -1
    target -= 1
    if isinstance(value, dict):
        fields: dict[str, Any] = dict(value)  # pyright: ignore[reportUnknownArgumentType]
        for key in fields:
            fields[key], target = _replaced(fields[key], target, new)
            if target < 0:
                break
        return fields, target
    if isinstance(value, list):
        items: list[Any] = list(value)  # pyright: ignore[reportUnknownArgumentType]
        for i, item in enumerate(items):
            items[i], target = _replaced(item, target, new)
            if target < 0:
                break
        return items, target
    return value, target


def _mutated(body: bytes, target: int, new: Any) -> bytes | None:
    """`body` with one JSON value in it replaced, wherever its documents lie; None past the last."""
    out: list[bytes] = []
    for line in body.split(b"\n"):
        start = line.find(b"{")
        if target >= 0 and start >= 0 and line.endswith(b"}"):
            document, target = _replaced(json.loads(line[start:]), target, new)
            line = line[:start] + json.dumps(document).encode()
        out.append(line)
    return b"\n".join(out) if target < 0 else None


_WRONG: list[Any] = [None, [], [1], {"a": 1}, "x", "\ud800", -1, 1.5, True]


@each_sample
def test_each_value_replaced_by_each_wrong_one_is_a_call(name: str) -> None:
    sample = SAMPLES[name]
    for new in _WRONG:
        target = 0
        while (body := _mutated(sample.response_body, target, new)) is not None:
            check_total(dataclasses.replace(sample, response_body=body))
            target += 1
        target = 0
        while (body := _mutated(sample.request_body, target, new)) is not None:
            check_total(dataclasses.replace(sample, request_body=body))
            target += 1


@settings(max_examples=150)
@given(name=any_sample, target=st.integers(0, 120), new=_ANY_JSON, in_request=st.booleans())
def test_any_value_anywhere_is_a_call(name: str, target: int, new: Any, in_request: bool) -> None:
    """The right shape with one wrong value in it: null, number, surrogate, object, NaN…"""
    sample = SAMPLES[name]
    if in_request:
        body = _mutated(sample.request_body, target, new) or sample.request_body
        check_total(dataclasses.replace(sample, request_body=body))
    else:
        body = _mutated(sample.response_body, target, new) or sample.response_body
        check_total(dataclasses.replace(sample, response_body=body))


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
@pytest.mark.parametrize("status", [400, 404, 413, 429, 500, 502, 504])
def test_own_errors_are_read_as_errors(dialect: Any, status: int) -> None:
    """Each dialect understands the error body it has; the path alone finds the same one."""
    sample = next(s for s in SAMPLES.values() if dialect.matches(s.method, s.path))
    body = error_body(sample.path, status, "upstream_refused", "no \udc80 answer")
    assert body == dialect.error_body(status, "upstream_refused", "llmtap: no \udc80 answer")
    failed = exchange(sample.path, json.loads(sample.request_body), body, status=status)
    call = decode(failed)
    assert (call.dialect, call.error_message) == (dialect.name, "llmtap: no ? answer")
    assert call.error_type and call.decode_error == "" and call.usage_source == ""


def test_every_registered_dialect_has_samples() -> None:
    assert {d.name for d in DIALECTS} <= {decode(s).dialect for s in SAMPLES.values()}


@each_sample
def test_samples_are_understood(name: str) -> None:
    call = decode(SAMPLES[name])
    assert (call.decode_error, call.usage_problem) == ("", "")
