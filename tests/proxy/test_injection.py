"""Usage asked for in streams: what goes up, what the client gets, what is recorded."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtap.dialects.model import Exchange
from llmtap.dialects.registry import decode
from llmtap.proxy.injection import UsageStripper, inject
from tests.proxy.harness import Stack, exchange, read_head, run, stack

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: up\r\ncontent-length: %d\r\nX-Y: 1\r\n\r\n"


def event(**told: Any) -> bytes:
    return b"data: " + json.dumps(told, separators=(",", ":")).encode() + b"\n\n"


TEXT = [
    event(id="1", choices=[{"index": 0, "delta": {"content": word}}], usage=None)
    for word in ("Hel", "lo ", 'choices":[] "usage":{')
]
USAGE = event(id="1", choices=[], usage={"prompt_tokens": 7, "completion_tokens": 3})
FILTERS = event(id="", choices=[], prompt_filter_results=[{"prompt_index": 0}], usage=None)
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","stream":true}',
        b' \n{ "stream" : true , "messages":[{"role":"user","content":"\xc3\xa9"}]}',
    ],
)
def test_only_the_option_is_added(body: bytes) -> None:
    head = HEAD % len(body)
    changed = inject(head, body)
    assert changed is not None
    new_head, _, new_body = changed.partition(b"\r\n\r\n")
    assert json.loads(new_body) == {
        **json.loads(body),
        "stream_options": {"include_usage": True},
    }
    assert new_body.replace(b'"stream_options":{"include_usage":true},', b"", 1) == body
    assert f"Content-Length: {len(new_body)}".encode() in new_head.split(b"\r\n")
    assert b"content-length" not in new_head and new_head.endswith(b"X-Y: 1")


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m"}',
        b'{"stream":false}',
        b'{"stream":"true"}',
        b'{"stream":true,"stream_options":{"include_usage":false}}',
        b'{"stream":true,"stream_options":null}',
        b'["stream"]',
        b'{"stream":true',
        b'{"messages":"\\"stream\\":true"}',
    ],
)
def test_what_the_client_said_stays(body: bytes) -> None:
    assert inject(HEAD % len(body), body) is None


@given(st.data())
def test_only_the_usage_event_goes_at_any_split(data: st.DataObject) -> None:
    ends = data.draw(st.sampled_from([b"\n", b"\r\n"]))
    events = data.draw(
        st.lists(st.sampled_from([*TEXT, USAGE, FILTERS, DONE, b": ping\n\n", b"data: x\n\n"]))
    )
    tail = data.draw(st.sampled_from([b"", b"data: {", USAGE[:-2]]))
    kept = b"".join(e for e in events if e != USAGE) + tail
    body = (b"".join(events) + tail).replace(b"\n", ends)
    stripper, got, at = UsageStripper(), b"", 0
    while at < len(body):
        step = data.draw(st.integers(1, 60))
        got += stripper.feed(body[at : at + step])
        at += step
    assert got + stripper.end() == kept.replace(b"\n", ends)


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def upstream(answer: bytes, seen: list[bytes]) -> Any:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await read_head(reader):
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            seen.append(await reader.readexactly(length))
            for at in range(0, len(answer), 50):
                writer.write(answer[at : at + 50])
                await writer.drain()
            if b"chunked" not in answer and b"Length" not in answer:
                return

    return handler


SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
ON = {"upstreams.up.usage_injection": "on"}


def test_the_openai_sdk_sees_no_usage_and_the_record_has_it(tmp_path: Path) -> None:
    answer = SSE + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(*TEXT, USAGE, DONE)

    async def scenario() -> None:
        seen: list[bytes] = []
        async with stack(upstream(answer, seen), tmp_path, **ON) as up:
            base = f"http://127.0.0.1:{up.proxy_port}/up/v1"
            async with openai.AsyncOpenAI(api_key="k", base_url=base, max_retries=0) as client:
                for _ in range(2):  # the connection is still good afterwards
                    stream = await client.chat.completions.create(
                        model="m", messages=[{"role": "user", "content": "x"}], stream=True
                    )
                    events = [e async for e in stream]
                    assert len(events) == len(TEXT) and all(e.choices for e in events)
            await up.ended(2)
            assert all(json.loads(b)["stream_options"] == {"include_usage": True} for b in seen)
            _, request = up.spool.starts()[0]
            assert "stream_options" not in json.loads(request)  # what the app said
            _, _, raw = up.spool.ends()[0]
            call = decode(
                Exchange(
                    method="POST",
                    path="/v1/chat/completions",
                    request_body=request,
                    http_status=200,
                    response_headers={"content-type": "text/event-stream"},
                    response_body=b"".join([*TEXT, USAGE, DONE]),
                )
            )
            assert USAGE in raw and call.usage.input_tokens == 7

    run(scenario())


async def stream_through(up: Stack, body: bytes, version: bytes = b"1.1") -> bytes:
    head = b"POST /up/v1/chat/completions HTTP/%b\r\nHost: h\r\nConnection: close\r\n" % version
    raw = head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    return await exchange(up.proxy_port, raw, splits=[len(raw) - 5, len(raw) - 9])


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("framing", ["chunked", "eof"])
def test_framings(framing: str, version: bytes, tmp_path: Path) -> None:
    body = b"".join([*TEXT, USAGE, DONE])
    coded = b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body[:70], body[70:])
    answer = SSE + (coded if framing == "chunked" else b"\r\n" + body)

    async def scenario() -> None:
        seen: list[bytes] = []
        async with stack(upstream(answer, seen), tmp_path, **ON) as up:
            got = await stream_through(up, b'{"stream":true}', version)
            _, _, payload = got.partition(b"\r\n\r\n")
            if framing == "chunked" and version == b"1.1":
                assert payload.endswith(b"0\r\n\r\n")
                plain, rest = b"", payload
                while size := int(rest.split(b"\r\n", 1)[0], 16):
                    rest = rest.split(b"\r\n", 1)[1]
                    plain, rest = plain + rest[:size], rest[size + 2 :]
                payload = plain
            assert payload == b"".join([*TEXT, DONE])

    run(scenario())


@pytest.mark.parametrize(
    "answer",
    [
        SSE + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(USAGE) + USAGE,
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
        SSE + b"Content-Length: %d\r\n\r\n" % len(USAGE) + USAGE,
    ],
)
def test_what_can_not_be_stripped_passes_as_it_is(answer: bytes, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stack(upstream(answer, []), tmp_path, **ON) as up:
            got = await stream_through(up, b'{"stream":true}')
            assert got.partition(b"\r\n\r\n")[2] == answer.partition(b"\r\n\r\n")[2]

    run(scenario())


def test_an_upstream_that_refuses_it_is_not_asked_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}"

    async def scenario() -> None:
        seen: list[bytes] = []
        async with stack(upstream(answer, seen), tmp_path, **ON) as up:
            for _ in range(2):
                got = await stream_through(up, b'{"stream":true}')
                assert got.startswith(b"HTTP/1.1 400")
            assert b"stream_options" in seen[0] and seen[1] == b'{"stream":true}'
            assert "usage_injection" in caplog.text

    run(scenario())


def test_off_where_nobody_knows_the_server(tmp_path: Path) -> None:
    answer = SSE + b"Content-Length: %d\r\n\r\n" % len(DONE) + DONE

    async def scenario() -> None:
        seen: list[bytes] = []
        async with stack(upstream(answer, seen), tmp_path) as up:
            await stream_through(up, b'{"stream":true}')
            assert seen == [b'{"stream":true}']

    run(scenario())


def test_a_client_that_leaves_while_its_request_is_held(tmp_path: Path) -> None:
    async def scenario() -> None:
        seen: list[bytes] = []
        async with stack(upstream(b"", seen), tmp_path, **ON) as up:
            _, writer = await asyncio.open_connection("127.0.0.1", up.proxy_port)
            writer.write(b"POST /up/v1/chat/completions HTTP/1.1\r\nHost: h\r\n")
            writer.write(b'Content-Length: 15\r\n\r\n{"stream"')
            await asyncio.sleep(0.05)
            writer.close()
            await up.ended()
            (end, _, _) = up.spool.ends()[0]
            assert end.outcome == "aborted" and seen == []

    run(scenario())


def test_a_stream_that_is_cut_is_cut_for_the_client_too(tmp_path: Path) -> None:
    answer = SSE + b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n" % 500 + TEXT[0] + b"data: {"

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(answer)
        await writer.drain()

    async def scenario() -> None:
        async with stack(handler, tmp_path, **ON) as up:
            got = await stream_through(up, b'{"stream":true}')
            assert TEXT[0] in got and b"data: {\r\n" in got and not got.endswith(b"0\r\n\r\n")

    run(scenario())
