"""TLS on both sides: the upstream's certificate is checked, and the proxy can serve TLS itself."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.proxy.harness import read_head, read_request, run, stack
from tests.proxy.test_wire import post

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """(certificate, key) for 127.0.0.1, signed by itself."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


async def _hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            _, body = await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


@pytest.mark.parametrize("trusted", [True, False])
def test_upstream_certificate_is_checked(
    trusted: bool, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    cert, key = certificate

    async def scenario() -> None:
        server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_side.load_cert_chain(cert, key)
        server = await asyncio.start_server(_hello, "127.0.0.1", 0, ssl=server_side)
        port = server.sockets[0].getsockname()[1]
        more = {"upstreams.tls.base_url": f"https://127.0.0.1:{port}"}
        if trusted:
            more["upstreams.tls.ca_file"] = str(cert)
        async with stack(_hello, tmp_path, **more) as s:
            raw = post(b"x" * 100_000).replace(b"/v1/", b"/tls/v1/")
            for _ in range(3):
                got = await s.exchange(raw)
                if trusted:
                    assert got.startswith(b"HTTP/1.1 200") and got.endswith(b"x" * 100_000)
                else:
                    assert got.startswith(b"HTTP/1.1 502") and b"certificate" in got
            await s.ended(3)
            kinds = {(end.outcome, end.error) for end, _, _ in s.spool.ends()}
            assert kinds == ({("done", "")} if trusted else {("refused", "upstream_tls")})
        server.close()

    run(scenario())


def test_proxy_serves_tls(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    cert, key = certificate

    async def scenario() -> None:
        more = {"proxy.tls_cert": str(cert), "proxy.tls_key": str(key)}
        async with stack(_hello, tmp_path, **more) as s:
            client_side = ssl.create_default_context(cafile=str(cert))
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", s.proxy_port, ssl=client_side
            )
            writer.write(post(b"secret"))
            assert (await read_head(reader)).startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(6) == b"secret"
            writer.close()
            await s.ended()
            assert s.spool.starts()[0][1] == b"secret"

    run(scenario())
