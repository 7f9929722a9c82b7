"""The wire: bytes a client gets through the proxy equal those it gets direct."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.proxy.harness import (
    Handler,
    exchange,
    read_head,
    read_request,
    run,
    stack,
    without_ours,
)

POST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%b"
)


def post(body: bytes = b'{"model":"m"}', extra: bytes = b"") -> bytes:
    raw = POST % (len(body), body)
    return raw.replace(b"Connection:", extra + b"Connection:", 1)


def chunked(*pieces: bytes, trailers: bytes = b"") -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces if p)
    return body + b"0\r\n" + trailers + b"\r\n"


SHAPES = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nX-A: b\r\n\r\nhello world",
    "empty": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    + chunked(b"data: {}\n\n", b"x" * 70_000, b"data: [DONE]\n\n"),
    "extensions": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'5;name="v"\r\nhello\r\n0;last\r\n\r\n',
    "trailers": b"HTTP/1.1 200 OK\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n"
    + chunked(b"abc", trailers=b"X-T: 1\r\nX-U: 2\r\n"),
    "until_close": b"HTTP/1.1 200 OK\r\nX-A: b\r\n\r\nframed by the end of the connection",
    "http_1_0": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nold server",
    "no_content": b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
    "not_modified": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n",
    "error": b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\n{}",
    "early_hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "odd_status": b"HTTP/1.1 529 Site is overloaded\r\nContent-Length: 1\r\n\r\n!",
    "no_reason": b"HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\n!",
}


def scripted(response: bytes, splits: list[int]) -> Handler:
    """An upstream that answers every request with these bytes, cut at `splits`, then closes."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        cuts = [0, *sorted(set(splits)), len(response)]
        for a, b in itertools.pairwise(cuts):
            writer.write(response[a:b])
            await writer.drain()
            if splits:
                await asyncio.sleep(0.001)

    return handler


@pytest.mark.parametrize("shape", SHAPES)
def test_response_bytes_equal_direct_ones(shape: str, tmp_path: Path) -> None:
    response = SHAPES[shape]

    async def scenario() -> None:
        async with stack(scripted(response, []), tmp_path) as s:
            direct = await exchange(s.upstream_port, post())
            through = await s.exchange(post())
            assert without_ours(through) == without_ours(direct)
            await s.ended()
            end, _, _ = s.spool.ends()[0]
            assert (end.outcome, end.request_complete) == ("done", True)

    run(scenario())


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    shape=st.sampled_from(sorted(SHAPES)),
    up=st.lists(st.integers(1, 400), max_size=6),
    down=st.lists(st.integers(1, 300), max_size=6),
    big=st.integers(0, 200_000),
    request_chunked=st.booleans(),
)
def test_any_split_points(
    tmp_path_factory: pytest.TempPathFactory,
    shape: str,
    up: list[int],
    down: list[int],
    big: int,
    request_chunked: bool,
) -> None:
    """Bytes are the same however reads fall, in both directions; the tee has them too."""
    response = SHAPES[shape]
    body = random.Random(big).randbytes(big % 5000) * (1 + big // 50_000)
    raw = post(body)
    if request_chunked:
        wire = chunked(body[: len(body) // 2], body[len(body) // 2 :])
        raw = raw[: raw.index(b"\r\n\r\n") + 4].replace(
            b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked"
        )
        raw += wire
    else:
        wire = body

    received: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, got = await read_request(reader)
        received.append(got)
        cuts = [0, *sorted({c for c in down if c < len(response)}), len(response)]
        for a, b in itertools.pairwise(cuts):
            writer.write(response[a:b])
            await writer.drain()
            await asyncio.sleep(0.0005)

    async def scenario() -> None:
        async with stack(handler, tmp_path_factory.mktemp("w")) as s:
            through = await s.exchange(raw, splits=[c for c in up if c < len(raw)])
            assert without_ours(through) == response
            assert received == [wire]
            await s.ended()
            (_, first), (end, rest, kept) = s.spool.starts()[0], s.spool.ends()[0]
            assert first + rest == wire
            assert end.request_bytes == len(wire)
            tail = response.rpartition(b"\r\n\r\n")[2] if shape != "trailers" else kept
            assert kept.endswith(tail) or shape == "not_modified"

    run(scenario())


def test_keep_alive_and_pipelining(tmp_path: Path) -> None:
    """Many requests on one connection, all sent at once, are answered in order; pool is used."""
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            _, body = await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async def scenario() -> None:
        async with stack(handler, tmp_path) as s:
            bodies = [b"number %d" % i for i in range(20)]
            raw = b"".join(post(b).replace(b"Connection: close\r\n", b"") for b in bodies[:-1])
            got = await s.exchange(raw + post(bodies[-1]))
            positions = [got.index(body) for body in bodies]
            assert positions == sorted(positions)
            assert got.count(b"HTTP/1.1 200 OK") == 20
            assert connections == 1
            assert [r.split(b"\r\n\r\n")[-1] for _, r in s.spool.starts()] == bodies

    run(scenario())


def test_http_1_0_client_gets_plain_body(tmp_path: Path) -> None:
    async def scenario() -> None:
        response = SHAPES["trailers"]
        async with stack(scripted(response, [60, 75]), tmp_path) as s:
            got = await s.exchange(b"GET /v1/models HTTP/1.0\r\n\r\n")
            head, _, body = got.partition(b"\r\n\r\n")
            assert body == b"abc"
            assert b"transfer-encoding" not in head.lower()
            assert b"Connection: close" in head

    run(scenario())


def test_head_request_has_no_body(tmp_path: Path) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await read_head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")

    async def scenario() -> None:
        async with stack(handler, tmp_path) as s:
            raw = b"HEAD /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
            got = await s.exchange(raw + raw.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            assert got.count(b"200 OK") == 2
            assert got.count(b"Content-Length: 500") == 2

    run(scenario())


def test_expect_continue_is_relayed(tmp_path: Path) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        assert b"Expect: 100-continue" in head
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(5)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + body)

    async def scenario() -> None:
        async with stack(handler, tmp_path) as s:
            reader, writer = await asyncio.open_connection("127.0.0.1", s.proxy_port)
            raw = post(b"12345", b"Expect: 100-continue\r\n")
            writer.write(raw[:-5])
            assert await read_head(reader) == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(raw[-5:])
            assert (await reader.read(-1)).endswith(b"12345")
            writer.close()

    run(scenario())


def test_upgrade_is_tunnelled_and_teed(tmp_path: Path) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        assert b"Upgrade: websocket" in head and b"Connection: Upgrade" in head
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\n\r\nfirst"
        )
        while data := await reader.read(100):
            writer.write(data.upper())

    async def scenario() -> None:
        async with stack(handler, tmp_path) as s:
            reader, writer = await asyncio.open_connection("127.0.0.1", s.proxy_port)
            writer.write(
                b"GET /v1/realtime HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
                b"Upgrade: websocket\r\nSec-WebSocket-Key: abc\r\n\r\n"
            )
            assert b"101 Switching" in await read_head(reader)
            assert await reader.readexactly(5) == b"first"
            for word in (b"hello", b"again"):
                writer.write(word)
                assert await reader.readexactly(5) == word.upper()
            writer.close()
            await s.ended()
            end, rest, response = s.spool.ends()[0]
            assert (end.http_status, end.outcome) == (101, "done")
            assert (rest, response) == (b"helloagain", b"firstHELLOAGAIN")

    run(scenario())


@pytest.mark.parametrize("when", ["before_head", "mid_stream"])
def test_client_abort_closes_upstream_soon(when: str, tmp_path: Path) -> None:
    gone = asyncio.Event

    async def scenario() -> None:
        closed = gone()

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            if when == "mid_stream":
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            try:
                await reader.read(1)
            except ConnectionError:
                pass
            closed.set()

        async with stack(handler, tmp_path) as s:
            reader, writer = await asyncio.open_connection("127.0.0.1", s.proxy_port)
            writer.write(post(b'{"prompt":"p"}'))
            if when == "mid_stream":
                await reader.readuntil(b"hello")
            else:
                await asyncio.sleep(0.05)
            before = asyncio.get_running_loop().time()
            writer.close()
            async with asyncio.timeout(2):
                await closed.wait()
            assert asyncio.get_running_loop().time() - before < 0.1
            await s.ended()
            end, _, response = s.spool.ends()[0]
            assert end.outcome == "aborted"
            assert s.spool.starts()[0][1] == b'{"prompt":"p"}'
            assert (b"hello" in response) == (when == "mid_stream")

    run(scenario())


def test_slow_reader_does_not_fill_memory(tmp_path: Path) -> None:
    """A client that does not read stops the upstream, and still gets every byte later."""
    sent = 0
    total = 40 << 20

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        piece = b"z" * 65536
        while sent < total:
            writer.write(piece)
            sent += len(piece)
            await writer.drain()

    async def scenario() -> None:
        async with stack(handler, tmp_path) as s:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, ("127.0.0.1", s.proxy_port))
            await loop.sock_sendall(sock, post())
            await asyncio.sleep(0.5)
            assert sent < total // 2, "the upstream was not held back"
            got = 0
            while data := await loop.sock_recv(sock, 1 << 20):
                got += len(data)
            assert got > total
            await s.ended()
            end, _, response = s.spool.ends()[0]
            assert end.response_bytes == total
            assert len(response) == 8 << 20 and end.truncated == 2
            sock.close()

    run(scenario())


def test_large_upload_streams_through(tmp_path: Path) -> None:
    size = 100 << 20

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        left = size
        while left:
            left -= len(await reader.read(min(left, 1 << 20)))
            await asyncio.sleep(0)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def scenario() -> None:
        async with stack(handler, tmp_path) as s:
            reader, writer = await asyncio.open_connection("127.0.0.1", s.proxy_port)
            writer.write(POST % (size, b""))
            piece = b"u" * (1 << 20)
            for _ in range(size >> 20):
                writer.write(piece)
                await writer.drain()
            assert (await reader.read(-1)).endswith(b"ok")
            writer.close()
            await s.ended()
            end, rest, _ = s.spool.ends()[0]
            assert end.request_bytes == size and end.truncated == 1
            assert len(s.spool.starts()[0][1]) + len(rest) == 8 << 20

    run(scenario())


def test_upstream_answers_before_the_upload_ends(tmp_path: Path) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(
            b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig"
        )
        await writer.drain()

    async def scenario() -> None:
        async with stack(handler, tmp_path) as s:
            reader, writer = await asyncio.open_connection("127.0.0.1", s.proxy_port)
            writer.write(POST % (10_000_000, b"x" * 1000))
            assert (await reader.readuntil(b"big")).startswith(b"HTTP/1.1 413")
            assert await reader.read(-1) == b""
            writer.close()

    run(scenario())


@pytest.mark.parametrize(
    "how", ["fin", "reset", "before_head", "garbage", "bad_chunk", "half_head"]
)
def test_upstream_failures_are_told(how: str, tmp_path: Path) -> None:
    replies = {
        "fin": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        "reset": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "before_head": b"",
        "garbage": b"\x16\x03\x01 this is no HTTP at all \r\n\r\n",
        "bad_chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
        "half_head": b"HTTP/1.1 200 OK\r\nContent-Le",
    }

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(replies[how])
        await writer.drain()
        await asyncio.sleep(0.05)
        if how == "reset":
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def scenario() -> None:
        async with stack(handler, tmp_path) as s:
            got = await s.exchange(post())
            await s.ended()
            end, _, _ = s.spool.ends()[0]
            assert end.outcome == "upstream_closed"
            if how in ("fin", "reset", "bad_chunk"):
                assert b"hello" in got.partition(b"\r\n\r\n")[2]
                assert end.http_status == 200
            else:
                assert got.startswith(b"HTTP/1.1 502 ")
                assert b"llmtap-error: upstream_" in got
                assert end.http_status == 502

    run(scenario())


def test_upstream_down_is_a_clear_502(tmp_path: Path) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        return

    async def scenario() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        more = {"upstreams.down.base_url": f"http://127.0.0.1:{port}"}
        async with stack(handler, tmp_path, **more) as s:
            got = await s.exchange(post().replace(b"/v1/", b"/down/v1/"))
            assert got.startswith(b"HTTP/1.1 502 ")
            assert b"cannot connect to upstream 'down'" in got
            assert b"Connection refused" in got
            await s.ended()
            assert s.spool.ends()[0][0].error == "upstream_unreachable"

    run(scenario())


@pytest.mark.parametrize("phase", ["first_byte", "idle"])
def test_timeouts_per_upstream(phase: str, tmp_path: Path) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        if phase == "idle":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        await asyncio.sleep(10)

    async def scenario() -> None:
        async with stack(handler, tmp_path, **{f"upstreams.up.timeouts.{phase}": 0.3}) as s:
            got = await s.exchange(post())
            await s.ended()
            end, _, _ = s.spool.ends()[0]
            assert (end.outcome, end.error) == ("timeout", "upstream_timeout")
            if phase == "first_byte":
                assert got.startswith(b"HTTP/1.1 504 ")
            else:
                assert got.endswith(b"hello")

    run(scenario())


BAD_REQUESTS = {
    "cl_and_te": b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two_cl": b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "signed_cl": b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc",
    "bare_lf": b"POST /v1/x HTTP/1.1\nHost: x\n\n",
    "bare_lf_field": b"GET /v1/x HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
    "obs_fold": b"GET /v1/x HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
    "space_before_colon": b"GET /v1/x HTTP/1.1\r\nHost : x\r\n\r\n",
    "no_host": b"GET /v1/x HTTP/1.1\r\n\r\n",
    "two_hosts": b"GET /v1/x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "bad_host": b"GET /v1/x HTTP/1.1\r\nHost: a/b?c\r\n\r\n",
    "te_gzip": b"POST /v1/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "te_twice": b"POST /v1/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n",
    "te_on_1_0": b"POST /v1/x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunk_size": b"POST /v1/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello",
    "chunk_sign": b"POST /v1/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello",
    "chunk_long": b"POST /v1/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhelloX\r\n0\r\n\r\n",
    "absolute": b"GET http://evil/v1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "connect": b"CONNECT evil:443 HTTP/1.1\r\nHost: evil\r\n\r\n",
    "nul": b"GET /v1/x HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
    "no_http": b"hello, is this thing on?\r\n\r\n",
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_malformed_requests_are_refused_and_never_forwarded(case: str, tmp_path: Path) -> None:
    reached: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(await reader.read(65536))

    async def scenario() -> None:
        async with stack(handler, tmp_path) as s:
            got = await s.exchange(BAD_REQUESTS[case], eof=False)
            assert got.startswith(b"HTTP/1.1 400 "), got[:60]
            assert b"llmtap-error: " in got
            await asyncio.sleep(0.02)
            if not case.startswith("chunk_"):
                assert reached == []

    run(scenario())


def test_limits_on_heads_and_bodies(tmp_path: Path) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 20)
        await asyncio.sleep(1)

    async def scenario() -> None:
        more = {"limits.body_bytes": 1000, "limits.header_timeout": 0.3}
        async with stack(handler, tmp_path, **more) as s:
            big_head = b"GET /v1/x HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40_000 + b"\r\n\r\n"
            assert (await s.exchange(big_head)).startswith(b"HTTP/1.1 431 ")
            many = b"GET /v1/x HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 101 + b"\r\n"
            assert (await s.exchange(many)).startswith(b"HTTP/1.1 431 ")
            assert (await s.exchange(POST % (1001, b""))).startswith(b"HTTP/1.1 413 ")
            raw = POST.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked")
            assert (await s.exchange(raw % chunked(b"x" * 2000))).startswith(b"HTTP/1.1 413 ")
            slow = await s.exchange(b"GET /v1/x HTTP/1.1\r\nHos")
            assert slow.startswith(b"HTTP/1.1 408 ")

    run(scenario())


def test_routes_headers_and_local_paths(tmp_path: Path) -> None:
    heads: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await read_request(reader)
        heads.append(head)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx-request-id: r1\r\n\r\nok")

    extra = (
        b"Authorization: Bearer sk-secret\r\nllmtap-user-id: ada\r\nLLMTap-Property-Team: core\r\n"
        b"Helicone-Session-Id: s1\r\nHelicone-Auth: Bearer sk-helicone\r\nX-Custom: kept\r\n"
        b"Keep-Alive: timeout=5\r\nX-Hop: 1\r\n"
        b"traceparent: 00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01\r\n"
    )

    async def scenario() -> None:
        async with stack(handler, tmp_path) as s:
            raw = post(b"{}", extra).replace(b"/v1/chat", b"/up/v1/chat")
            raw = raw.replace(b"Connection: close", b"Connection: close, X-Hop")
            raw = raw.replace(b"completions HTTP", b"completions?key=sk-query&alt=sse HTTP")
            got = await s.exchange(raw)
            sent = heads[0]
            assert sent.startswith(b"POST /v1/chat/completions?key=sk-query&alt=sse HTTP/1.1\r\n")
            assert b"Authorization: Bearer sk-secret" in sent and b"X-Custom: kept" in sent
            for gone in (b"llmtap", b"elicone", b"X-Hop", b"Keep-Alive", b"traceparent"):
                assert gone.lower() not in sent.lower()
            assert b"Host: 127.0.0.1:%d" % s.upstream_port in sent
            assert b"llmtap-call-id: " in got and b"traceparent: 00-" + b"a" * 32 in got
            await s.ended()
            start = s.spool.starts()[0][0]
            assert (start.trace_id, start.parent_span_id) == ("a" * 32, "b" * 16)
            assert start.tags == {"user-id": "ada", "property-team": "core", "session-id": "s1"}
            assert start.path == "/v1/chat/completions?key=***&alt=sse"
            assert s.spool.ends()[0][0].headers == {"x-request-id": "r1"}
            everything = b"".join(payload for _, payload in s.spool.records)
            assert b"sk-" not in everything

            missing = await s.exchange(post().replace(b"/v1/", b"/nowhere/v1/"))
            assert missing.startswith(b"HTTP/1.1 404 ") and b"known upstreams: " in missing
            unset = await s.exchange(post().replace(b"/v1/", b"/azure/v1/"))
            assert b"[upstreams.azure] base_url" in unset
            health = b"GET /_llmtap/healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            assert (await s.exchange(health)).endswith(b'{"status":"ok"}')

    run(scenario())


def test_capture_off_records_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stack(scripted(SHAPES["length"], []), tmp_path) as s:
            got = await s.exchange(post(extra=b"llmtap-capture: off\r\n"))
            assert got.endswith(b"hello world")
            assert s.spool.records == []

    run(scenario())


def test_drain_lets_a_stream_end(tmp_path: Path) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(5):
            await asyncio.sleep(0.05)
            writer.write(b"3\r\nabc\r\n")
        writer.write(b"0\r\n\r\n")

    async def scenario() -> None:
        async with stack(handler, tmp_path) as s:
            raw = post().replace(b"Connection: close\r\n", b"")
            call = asyncio.ensure_future(s.exchange(raw))
            await asyncio.sleep(0.1)
            await s.worker.drain()
            got = await call
            assert got.count(b"abc") == 5 and got.endswith(b"0\r\n\r\n")

    run(scenario())


def test_stale_pooled_connection_is_not_used(tmp_path: Path) -> None:
    """A server that closes after its answer without saying so must not cost the next call."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def scenario() -> None:
        async with stack(handler, tmp_path) as s:
            for _ in range(20):
                assert (await s.exchange(post())).endswith(b"ok")
                await asyncio.sleep(0.003)

    run(scenario())
