"""A ClickHouse server that goes away, hangs, or loses its answers: calls pass, rows come once.

The server is chDB behind llmtap's own ClickHouse interface, opened for writing, with a relay before
it that plays the faults.
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import httpx
import pytest

from llmtap.cli.demo_backend import DemoBackend
from llmtap.collector.store import Store
from tests.collector.admin.serving import serving
from tests.collector.store.embedded import shared_store
from tests.integration.daemon import Daemon, daemon
from tests.integration.relay import Mode, relay
from tests.integration.test_end_to_end import free_port


def ask(running: Daemon, user: str) -> int:
    response = httpx.post(
        f"{running.proxy}/demo/v1/embeddings",
        json={"model": "text-embedding-3-small", "input": "x"},
        headers={"llmtap-user-id": user},
        trust_env=False,
    )
    return response.status_code


def stored(store: Store, database: str) -> list[str]:
    rows = store.query(f"SELECT user_id FROM {database}.calls ORDER BY user_id")
    return [str(row["user_id"]) for row in rows]


def wait_stored(store: Store, database: str, users: list[str], running: Daemon) -> None:
    deadline = time.monotonic() + 30
    while stored(store, database) != users:
        if time.monotonic() > deadline:
            raise AssertionError(f"{stored(store, database)}\n{running.log.read_text()[-3000:]}")
        time.sleep(0.1)


def health(running: Daemon) -> dict[str, object]:
    answer = httpx.get(f"{running.admin}/healthz", trust_env=False)
    assert answer.status_code == 200
    told: dict[str, object] = answer.json()
    return told


def wait_health(running: Daemon, status: str) -> str:
    deadline = time.monotonic() + 30
    while (told := health(running))["status"] != status:
        assert time.monotonic() < deadline, told
        time.sleep(0.1)
    return str(told["reasons"])


@pytest.mark.parametrize("fault", ["refuse", "hang", "swallow"])
def test_a_store_that_fails_loses_and_doubles_nothing(fault: Mode, tmp_path: Path) -> None:
    store = shared_store()
    port, database = free_port(), f"db_{uuid.uuid4().hex[:12]}"
    config = f'[upstreams.demo]\nbase_url = "http://127.0.0.1:{port}"\n'
    with (
        DemoBackend("127.0.0.1", port),
        serving(store, tmp_path, writable=True) as server,
        relay(server.port) as between,
    ):
        dsn = (
            f"clickhouse://u:hush@127.0.0.1:{between.port}/{database}?proxy_path=/clickhouse"
            "&compress=gzip&send_receive_timeout=2&connect_timeout=2"
        )
        environ = {"LLMTAP_STORE": dsn}
        with daemon(tmp_path / "d", config, environ=environ) as running:
            assert ask(running, "1") == 200
            wait_stored(store, database, ["1"], running)
            between.mode = fault
            assert ask(running, "2") == 200
            reasons = wait_health(running, "degraded")
            assert "the store does not take rows" in reasons and "hush" not in reasons
            running.stop()
        assert "hush" not in running.log.read_text()
        # With the store still away: the daemon starts, calls pass, and it says what is wrong.
        with daemon(tmp_path / "d", config, environ=environ) as running:
            assert ask(running, "3") == 200
            assert "no ClickHouse server answers" in wait_health(running, "degraded")
            assert httpx.get(f"{running.admin}/readyz").status_code == 503
            away = httpx.get(f"{running.admin}/api/calls")
            assert away.status_code == 503 and "no ClickHouse server answers" in away.text
            assert "llmtap_" in httpx.get(f"{running.admin}/metrics").text
            between.mode = "pass"
            wait_stored(store, database, ["1", "2", "3"], running)
            wait_health(running, "ok")
            assert httpx.get(f"{running.admin}/readyz").status_code == 200
