"""The whole daemon with real SDKs, real chDB, and backends that nobody here wrote."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import anthropic
import clickhouse_connect
import httpx
import ollama
import openai
import pytest
from aiohttp import web
from click.testing import CliRunner

from llmtap.cli.demo_backend import DemoBackend
from llmtap.cli.main import main as llmtap
from tests.dialects.samples import OLLAMA_LINES
from tests.integration.daemon import Daemon, daemon


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with two workers in front of the demo's scripted backend."""
    port = free_port()
    config = f'[upstreams.demo]\nbase_url = "http://127.0.0.1:{port}"\n'
    with (
        DemoBackend("127.0.0.1", port),
        daemon(tmp_path_factory.mktemp("stack"), config, "--workers", "2") as running,
    ):
        yield running


def last(stack: Daemon, user: str) -> dict[str, object]:
    """The one stored call of a user."""
    stack.wait(f"SELECT count() FROM calls WHERE user_id = '{user}'", 1)
    return stack.rows(f"SELECT * FROM calls WHERE user_id = '{user}'")[0]


def test_openai_sdk(stack: Daemon) -> None:
    client = openai.OpenAI(base_url=f"{stack.proxy}/demo/v1", api_key="sk-never-stored")
    headers = {"llmtap-user-id": "sdk-chat", "llmtap-session-id": "s", "llmtap-property-k": "v"}
    answer = client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}], extra_headers=headers
    )
    row = last(stack, "sdk-chat")
    assert answer.usage is not None
    assert row["input_tokens"] == answer.usage.prompt_tokens
    assert row["output_tokens"] == answer.usage.completion_tokens
    assert row["output_text"] == answer.choices[0].message.content
    assert (row["status"], row["usage_source"], row["provider"]) == ("ok", "reported", "openai")
    assert row["cost_usd"] is not None and row["price_source"] == "genai-prices"
    assert row["properties"] == {"k": "v"} and row["session_id"] == "s"
    spans = stack.rows(f"SELECT * FROM otel_traces WHERE SpanId = '{row['span_id']}'")
    assert spans[0]["SpanName"] == "chat gpt-4o-mini"
    assert spans[0]["SpanAttributes"]["gen_ai.usage.output_tokens"] == str(row["output_tokens"])


def test_openai_stream_and_early_hang_up(stack: Daemon) -> None:
    client = openai.OpenAI(base_url=f"{stack.proxy}/demo/v1", api_key="k")
    text = ""
    for event in client.chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": "hi"}],
        stream=True,
        stream_options={"include_usage": True},
        extra_headers={"llmtap-user-id": "sdk-stream"},
    ):
        if event.choices:
            text += event.choices[0].delta.content or ""
    row = last(stack, "sdk-stream")
    assert row["output_text"] == text and row["stream"]
    assert row["status"] == "ok", "the SDK hangs up after [DONE]; that is no abort"
    assert row["ttft_us"] and row["tpot_us"] and row["chunks"]


def test_anthropic_sdk(stack: Daemon) -> None:
    client = anthropic.Anthropic(base_url=f"{stack.proxy}/demo", api_key="k")
    with client.messages.stream(
        model="claude-sonnet-4-6",
        max_tokens=50,
        messages=[{"role": "user", "content": "hi"}],
        extra_headers={"llmtap-user-id": "sdk-claude"},
    ) as stream:
        final = stream.get_final_message()
    row = last(stack, "sdk-claude")
    usage = final.usage
    read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    assert row["input_tokens"] == usage.input_tokens + read + written
    assert row["output_tokens"] == usage.output_tokens
    assert row["finish_reason"] == final.stop_reason == "end_turn"
    assert (row["provider"], row["dialect"]) == ("anthropic", "anthropic_messages")


def test_errors_reach_the_sdk_unchanged(stack: Daemon) -> None:
    client = openai.OpenAI(base_url=f"{stack.proxy}/demo/v1", api_key="k", max_retries=0)
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.chat.completions.create(
            model="gpt-missing",
            messages=[{"role": "user", "content": "hi"}],
            extra_headers={"llmtap-user-id": "sdk-error"},
        )
    row = last(stack, "sdk-error")
    assert (row["status"], row["http_status"]) == ("error", 404)
    assert row["error_type"] == "invalid_request_error" and row["cost_usd"] is None


def test_client_abort_is_stored_with_what_came(stack: Daemon) -> None:
    client = openai.OpenAI(base_url=f"{stack.proxy}/demo/v1", api_key="k")
    stream = client.chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": "hi"}],
        stream=True,
        extra_headers={"llmtap-user-id": "sdk-abort"},
    )
    for i, _ in enumerate(stream):
        if i == 4:
            stream.close()
            break
    row = last(stack, "sdk-abort")
    assert row["status"] == "aborted" and row["output_text"]
    assert row["usage_source"] == "counted"


def test_capture_metadata_stores_no_text(stack: Daemon) -> None:
    client = openai.OpenAI(base_url=f"{stack.proxy}/demo/v1", api_key="k")
    client.chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": "very private"}],
        extra_headers={"llmtap-user-id": "sdk-private", "llmtap-capture": "metadata"},
    )
    row = last(stack, "sdk-private")
    assert row["input_messages"] == row["output_text"] == "" and row["output_tokens"]


async def test_aiohttp_and_httpx_clients(stack: Daemon) -> None:
    body = {"model": "text-embedding-3-small", "input": "x"}
    url = f"{stack.proxy}/demo/v1/embeddings"
    async with (
        aiohttp.ClientSession(headers={"llmtap-user-id": "aio"}) as session,
        session.post(url, json=body) as response,
    ):
        assert response.status == 200 and response.headers["llmtap-call-id"]
    async with httpx.AsyncClient() as client:
        got = await client.post(url, json=body, headers={"llmtap-user-id": "httpx"})
        assert got.json()["usage"]["prompt_tokens"] == 0
    for user in ("aio", "httpx"):
        row = await asyncio.to_thread(last, stack, user)
        assert (row["operation"], row["output_tokens"]) == ("embeddings", 0)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed (make ci-deps)")
def test_curl_on_proxy_and_clickhouse_interface(stack: Daemon) -> None:
    out = subprocess.run(
        ["curl", "-sS", f"{stack.admin}/clickhouse/?query=SELECT+1+AS+x+FORMAT+JSONEachRow"],
        check=True,
        capture_output=True,
    )
    assert out.stdout == b'{"x":1}\n'
    out = subprocess.run(
        ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", f"{stack.proxy}/nowhere/v1/x"],
        check=True,
        capture_output=True,
    )
    assert out.stdout == b"404"


def test_clickhouse_connect_client_on_the_read_only_interface(stack: Daemon) -> None:
    """The real client library, as Grafana's or a notebook's would."""
    url = httpx.URL(stack.admin)
    client = clickhouse_connect.get_client(
        host=url.host, port=url.port or 0, proxy_path="/clickhouse", username="default"
    )
    assert client.query("SELECT 1 AS a, 'x' AS b").result_rows == [(1, "x")]
    bound = client.query("SELECT {x:String} AS v", parameters={"x": "it's"})
    assert bound.result_rows == [("it's",)]
    calls = client.query("SELECT id, ts, cost_usd, properties FROM calls LIMIT 5")
    assert calls.column_names == ("id", "ts", "cost_usd", "properties")
    assert client.raw_query("SELECT number FROM numbers(3)", fmt="CSV") == b"0\n1\n2\n"
    for sql in (
        "INSERT INTO calls (id) VALUES ('x')",
        "DROP TABLE calls",
        "SELECT * FROM url('http://127.0.0.1/')",
    ):
        with pytest.raises(clickhouse_connect.driver.exceptions.Error):
            client.command(sql)
    with pytest.raises(
        clickhouse_connect.driver.exceptions.DatabaseError, match="UNKNOWN_TABLE|no_such"
    ):
        client.query("SELECT * FROM no_such_table")
    client.close()


def test_admin_api(stack: Daemon) -> None:
    http = httpx.Client(base_url=stack.admin)
    assert http.get("/healthz").json()["status"] == "ok"
    assert http.get("/readyz").status_code == 200
    some = http.get("/api/calls", params={"since": "1h", "limit": "5"}).json()["calls"]
    assert 0 < len(some) <= 5
    one = http.get(f"/api/calls/{some[0]['id']}").json()
    assert one["id"] == some[0]["id"] and "output_messages" in one
    assert http.get("/api/calls/00000000-0000").status_code == 404
    assert http.get("/api/calls", params={"since": "soon"}).status_code == 400
    assert http.get("/api/stats", params={"since": "1h"}).json()["calls"] > 0
    assert http.get("/api/sql", params={"query": "DROP TABLE calls"}).status_code == 400
    body = gzip.compress(b"SELECT 2")
    packed = http.post("/clickhouse/", content=body, headers={"Content-Encoding": "gzip"})
    assert packed.text == "2\n" and packed.headers["X-ClickHouse-Format"] == "TabSeparated"
    missing = http.get("/clickhouse/", params={"query": "SELECT * FROM nope"})
    assert missing.status_code == 404 and missing.headers["X-ClickHouse-Exception-Code"] == "60"
    assert http.get("/healthz", headers={"Host": "evil.example"}).status_code == 403
    assert http.get("/api/calls", headers={"Origin": "http://evil.example"}).status_code == 403
    text = http.get("/metrics").text
    assert "llmtap_calls_stored_total" in text and "llmtap_proxy_calls_total" in text
    http.close()
    if shutil.which("promtool"):
        check = subprocess.run(
            ["promtool", "check", "metrics"], input=text.encode(), capture_output=True
        )
        assert check.returncode == 0, check.stderr


def test_command_line(stack: Daemon) -> None:
    run, data = CliRunner(), ["--data", str(stack.data)]
    listed = run.invoke(llmtap, ["calls", *data, "--limit", "3", "--json"])
    assert listed.exit_code == 0, listed.output
    call_id = json.loads(listed.output.splitlines()[0])["id"]
    shown = run.invoke(llmtap, ["show", call_id, *data])
    assert shown.exit_code == 0 and call_id in shown.output and "usage" in shown.output
    table = run.invoke(llmtap, ["calls", *data, "--since", "1h"])
    assert "gpt-4o-mini" in table.output
    sql = run.invoke(llmtap, ["sql", *data, "--format", "CSV", "SELECT count() > 0 FROM calls"])
    assert sql.output.endswith("true\n") or sql.output.endswith("1\n")
    wrong = run.invoke(llmtap, ["sql", *data, "SELEC 1"])
    assert wrong.exit_code == 1 and "only reading" in wrong.output
    exported = run.invoke(llmtap, ["export", *data, "--model", "gpt-4o-mini"])
    assert json.loads(exported.output.splitlines()[0])["model_requested"] == "gpt-4o-mini"
    costs = run.invoke(llmtap, ["costs", *data, "--by", "user,model", "--since", "1h"])
    assert costs.exit_code == 0 and "gpt-4o-mini" in costs.output and "total" in costs.output
    again = run.invoke(llmtap, ["reprice", *data, "--since", "1h"])
    assert again.exit_code == 0 and " 0 changed" in again.output, again.output
    doctor = run.invoke(llmtap, ["doctor", *data])
    assert "llmtap runs" in doctor.output
    nobody = run.invoke(
        llmtap,
        ["calls", "--data", "/nonexistent-llmtap", "--config", "/dev/null"],
        env={"LLMTAP_ADMIN_URL": f"http://127.0.0.1:{free_port()}"},
    )
    assert nobody.exit_code == 1 and "llmtap up" in nobody.output


def test_reconcile(stack: Daemon, tmp_path: Path) -> None:
    """What llmtap stored, written as OpenAI exports it, agrees; a cent more does not."""
    client = openai.OpenAI(base_url=f"{stack.proxy}/demo/v1", api_key="k")
    client.embeddings.create(model="text-embedding-3-small", input="x", user="sdk-reconcile")
    last(stack, "sdk-reconcile")
    rows = stack.rows(
        "SELECT toUnixTimestamp(toStartOfDay(ts)) AS start_time, model_requested AS model, "
        "sum(c.input_tokens) AS input_tokens, sum(c.output_tokens) AS output_tokens, "
        "count() AS num_model_requests FROM calls AS c WHERE isNotNull(c.input_tokens) "
        "GROUP BY ALL SETTINGS output_format_json_quote_64bit_integers = 0"
    )
    data = [{"start_time": r.pop("start_time"), "results": [r]} for r in rows]
    path = tmp_path / "usage.json"
    path.write_text(json.dumps({"object": "page", "data": data}))
    run, where = CliRunner(), ["--data", str(stack.data)]
    told = run.invoke(llmtap, ["reconcile", str(path), *where])
    assert told.exit_code == 0 and "agrees" in told.output, told.output
    data[0]["results"][0]["input_tokens"] *= 2
    path.write_text(json.dumps({"data": data}))
    told = run.invoke(llmtap, ["reconcile", str(path), *where])
    assert told.exit_code == 1 and "-50.00 %" in told.output, told.output


def test_demo(stack: Daemon, tmp_path: Path) -> None:
    """`llmtap demo` as a user runs it, on its own daemon (the backend's port must be free)."""
    port = free_port()
    config = f'[upstreams.demo]\nbase_url = "http://127.0.0.1:{port}"\n'
    with daemon(tmp_path, config) as running:
        out = subprocess.run(
            [
                *(sys.executable, "-m", "llmtap.cli.main", "demo", "--calls", "60"),
                *("--data", str(running.data), "--config", str(tmp_path / "llmtap.toml")),
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert out.returncode == 0, out.stderr
        assert "60 calls sent, 60 stored" in out.stdout
        assert "llmtap show" in out.stdout and "slowest call" in out.stdout
        kinds = running.rows("SELECT DISTINCT status FROM calls ORDER BY status")
        assert [k["status"] for k in kinds] == ["aborted", "error", "ok"]


def test_ollama_sdk(tmp_path: Path) -> None:
    """No Ollama server runs here: scripted lines, judged by the real SDK."""

    async def chat(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        for line in OLLAMA_LINES:
            await response.write(json.dumps(line).encode() + b"\n")
        return response

    loop = asyncio.new_event_loop()
    app = web.Application()
    app.router.add_post("/api/chat", chat)
    runner = web.AppRunner(app)
    port = free_port()

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()

    loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    config = f'[upstreams.ollama]\nbase_url = "http://127.0.0.1:{port}"\n'
    try:
        with daemon(tmp_path, config) as running:
            client = ollama.Client(host=f"{running.proxy}/ollama")
            parts = list(client.chat("llama3.2", [{"role": "user", "content": "hi"}], stream=True))
            running.wait("SELECT count() FROM calls", 1)
            row = running.rows("SELECT * FROM calls")[0]
            assert row["output_text"] == "".join(p.message.content or "" for p in parts)
            assert (row["provider"], row["input_tokens"], row["output_tokens"]) == ("ollama", 11, 3)
            assert row["cost_usd"] is None, "self-hosted work has no hosted price"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_reload_adds_a_route_without_dropping_a_stream(tmp_path: Path) -> None:
    port = free_port()
    with (
        DemoBackend("127.0.0.1", port),
        daemon(tmp_path, f'[upstreams.demo]\nbase_url = "http://127.0.0.1:{port}"\n') as running,
    ):
        client = openai.OpenAI(base_url=f"{running.proxy}/demo/v1", api_key="k", max_retries=0)
        stream = client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        first = next(iter(stream))
        config = tmp_path / "llmtap.toml"
        config.write_text(
            config.read_text() + f'[upstreams.added]\nbase_url = "http://127.0.0.1:{port}"\n'
        )
        running.process.send_signal(signal.SIGHUP)
        assert first.choices and sum(1 for _ in stream) > 5
        deadline = time.monotonic() + 5
        url = f"{running.proxy}/added/v1/embeddings"
        while httpx.post(url, json={"model": "m", "input": "x"}).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        config.write_text("[proxy]\nprot = 1\n")
        running.process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert httpx.post(url, json={"model": "m", "input": "x"}).status_code == 200
        assert "did you mean 'port'" in running.log.read_text()


BAD_STARTS = {
    "port_in_use": ([], "Address already in use", "--proxy-port"),
    "bad_dsn": (["LLMTAP_STORE=mysql://x"], "store.dsn is not understood", "clickhouse://USER"),
    "spool_is_a_file": ([], "cannot make the data folder", "--data"),
    "no_server": (
        ["LLMTAP_STORE=clickhouse://u:secret-pw@127.0.0.1:1/x"],
        "no ClickHouse server",
        "8123",
    ),
}


@pytest.mark.parametrize("case", BAD_STARTS)
def test_bad_starts_say_what_to_do(case: str, tmp_path: Path) -> None:
    settings, *expected = BAD_STARTS[case]
    env = {**os.environ, **dict(s.split("=", 1) for s in settings)}
    if case == "spool_is_a_file":
        (tmp_path / "spool").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1] if case == "port_in_use" else 0
        out = subprocess.run(
            [
                *(sys.executable, "-m", "llmtap.cli.main", "up", "--config", "/dev/null"),
                *("--data", str(tmp_path), "--proxy-port", str(port), "--admin-port", "0"),
            ],
            capture_output=True,
            text=True,
            env=env,
            timeout=60,
        )
    said = out.stdout + out.stderr
    assert out.returncode == 1, said
    for text in expected:
        assert text in said
    assert "Traceback" not in said and "secret-pw" not in said


def test_second_daemon_on_the_same_folder_is_refused(stack: Daemon) -> None:
    out = subprocess.run(
        [
            *(sys.executable, "-m", "llmtap.cli.main", "up", "--config", "/dev/null"),
            *("--data", str(stack.data), "--proxy-port", "0", "--admin-port", "0"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert out.returncode == 1 and "another llmtap collector" in out.stderr + out.stdout
    assert httpx.get(f"{stack.admin}/readyz").status_code == 200


def test_an_unreadable_segment_is_told_once_and_holds_nothing_up(tmp_path: Path) -> None:
    port = free_port()
    config = f'[upstreams.demo]\nbase_url = "http://127.0.0.1:{port}"\n'
    writer = tmp_path / "data" / "spool" / ("0123456789abcdef" * 2)
    (writer / "0000000000000001.seg").mkdir(parents=True)  # not even root can read it
    with DemoBackend("127.0.0.1", port), daemon(tmp_path, config) as running:
        body = {"model": "m", "input": "x"}
        assert httpx.post(f"{running.proxy}/demo/v1/embeddings", json=body).status_code == 200
        running.wait("SELECT count() FROM calls", 1)
        told = httpx.get(f"{running.admin}/healthz").json()
        assert told["status"] == "degraded" and "cannot be read" in told["reasons"][0]
    assert running.log.read_text().count("cannot be read") == 1
