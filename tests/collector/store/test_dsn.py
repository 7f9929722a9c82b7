"""Stores by DSN: what is understood, what is said when it is not, and a server over HTTP.

The server is our own ClickHouse interface, writable, over the process's embedded engine; each test
has a database of its own in it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from clickhouse_connect.driver.exceptions import DatabaseError

from llmtap.collector.admin.app import create_app
from llmtap.collector.admin.health import Health
from llmtap.collector.admin.tail import TailHub
from llmtap.collector.store import (
    LossRow,
    PermanentInsertError,
    RetryableInsertError,
    Store,
    StoreConfigError,
    StoreError,
    StoreUnreachableError,
    open_store,
)
from llmtap.collector.store.guard import NotReadOnlyError
from tests.collector.store.embedded import TS, call_row

MONTH_US = 31 * 86_400 * 1_000_000


@asynccontextmanager
async def served(store: Store) -> AsyncGenerator[str]:
    """A server; gives the start of its DSN, with a password that must never be shown."""
    app = create_app(
        lambda: store,
        health=lambda: Health("ok", True),
        metrics=lambda: b"",
        tail=TailHub(asyncio.get_running_loop()),
        writable=True,
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"clickhouse://writer:hush%40hush@127.0.0.1:{port}"
    finally:
        await runner.cleanup()


def dsn(server: str, database: str) -> str:
    return f"{server}/{database}?proxy_path=/clickhouse&compress=gzip"


def database() -> str:
    return f"db_{uuid.uuid4().hex[:12]}"


def counts(store: Store) -> dict[str, int]:
    tables = ("calls", "otel_traces", "otel_traces_trace_id_ts", "losses")
    return {t: store.query(f"SELECT count() AS n FROM {t}")[0]["n"] for t in tables}


async def test_a_server_takes_every_row_once(store: Store, tmp_path: Path) -> None:
    rows = [call_row(ts=TS + i * MONTH_US) for i in (0, 0, 1)]
    losses = [LossRow(TS, TS + 1, "full", 3, "spool full", "w-1", "b-1")]

    def work(where: str) -> None:
        remote = open_store(where, tmp_path)
        for _ in range(3):
            remote.insert_calls(rows, "b-1")
            remote.insert_losses(losses, "b-1")
        assert counts(remote) == {
            **dict.fromkeys(("calls", "otel_traces", "otel_traces_trace_id_ts"), 3),
            "losses": 1,
        }
        got = remote.query("SELECT * FROM calls ORDER BY ts, id")
        assert sorted(str(r["id"]) for r in got) == sorted(r.id for r in rows)
        assert got[0]["cost_usd"] == rows[0].cost_usd and got[0]["output_text"] == "Grüß Gott"
        remote.close()

    async with served(store) as server:
        await asyncio.to_thread(work, dsn(server, database()))


async def test_reading_from_a_server_is_only_reading_and_limited(
    store: Store, tmp_path: Path
) -> None:
    def work(where: str) -> None:
        remote = open_store(where, tmp_path)
        assert remote.raw_query("SELECT 1 + {x:UInt8};", fmt="TSV", parameters={"x": 1}) == b"2\n"
        with pytest.raises(NotReadOnlyError):
            remote.raw_query("INSERT INTO calls (id) VALUES ('x')")
        with pytest.raises(DatabaseError, match="READONLY"):
            remote.raw_query("SELECT 1 SETTINGS max_execution_time = 0", fmt="TSV")
        with pytest.raises(DatabaseError, match="396"):
            remote.raw_query("SELECT * FROM numbers(9)", fmt="TSV", settings={"max_result_rows": 4})
        with pytest.raises(DatabaseError, match="396"):
            remote.query("SELECT number FROM numbers(9)", max_rows=4)
        remote.close()

    async with served(store) as server:
        await asyncio.to_thread(work, dsn(server, database()))


async def test_a_server_that_goes_away_is_worth_another_try(store: Store, tmp_path: Path) -> None:
    async with served(store) as server:
        where = dsn(server, database())
        remote = await asyncio.to_thread(open_store, where, tmp_path)
    with pytest.raises(RetryableInsertError):
        await asyncio.to_thread(remote.insert_calls, [call_row()], "b-2")
    with pytest.raises(StoreUnreachableError) as caught:
        await asyncio.to_thread(open_store, where, tmp_path)
    assert "hush" not in str(caught.value) and "127.0.0.1" in str(caught.value)
    remote.close()


async def test_a_row_that_can_not_be_written_is_permanent_on_a_server_too(
    store: Store, tmp_path: Path
) -> None:
    def work(where: str) -> None:
        remote = open_store(where, tmp_path)
        with pytest.raises(PermanentInsertError):
            remote.insert_calls([call_row(input_text="\ud800")], "b-3")
        with pytest.raises(PermanentInsertError):
            remote.insert_calls([call_row(http_status=70_000)], "b-4")
        remote.insert_calls([call_row()], "b-5")
        assert counts(remote)["calls"] == 1
        remote.close()

    async with served(store) as server:
        await asyncio.to_thread(work, dsn(server, database()))


async def test_a_start_after_a_crash_amid_migrations_finishes_them(
    store: Store, tmp_path: Path
) -> None:
    """All statements run again over what is there, and rows stay."""

    def work(where: str, name: str) -> None:
        remote = open_store(where, tmp_path)
        remote.insert_calls([call_row()], "b-6")
        remote.close()
        store.execute(f"TRUNCATE TABLE {name}.llmtap_migrations")
        again = open_store(where, tmp_path)
        assert counts(again)["calls"] == 1
        done = again.query("SELECT number FROM llmtap_migrations ORDER BY number")
        assert [r["number"] for r in done] == list(range(1, len(done) + 1))
        again.close()

    async with served(store) as server:
        name = database()
        await asyncio.to_thread(work, dsn(server, name), name)


async def test_a_newer_schema_is_refused(store: Store, tmp_path: Path) -> None:
    def work(where: str, name: str) -> None:
        open_store(where, tmp_path).close()
        store.execute(f"INSERT INTO {name}.llmtap_migrations (number, name) VALUES (9999, 'x')")
        with pytest.raises(StoreConfigError, match="newer llmtap"):
            open_store(where, tmp_path)

    async with served(store) as server:
        name = database()
        await asyncio.to_thread(work, dsn(server, name), name)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "forms: chdb"),
        ("nonsense", "forms: chdb"),
        ("ftp://u:hush@h/x", "forms: chdb"),
        ("clickhouse://", "forms: chdb"),
        ("clickhouse://u:hush@h:port/x", "port is not a number"),
        ("clickhouse://u:hush@127.0.0.1:9/a-b", "database name"),
        ("clickhouse://u:hush@127.0.0.1:9/x?no_such_option=1", "unknown option"),
        ("chdb://relative/folder", "must be absolute"),
    ],
)
def test_a_wrong_dsn_is_explained(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(StoreConfigError, match=says) as caught:
        open_store(text, tmp_path)
    assert "hush" not in str(caught.value)


def test_no_server_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        open_store("https://u:hush@127.0.0.1:9/x", tmp_path)
    assert isinstance(caught.value, StoreUnreachableError)
    assert "127.0.0.1:9" in str(caught.value) and "hush" not in str(caught.value)


def test_errors_shown_to_users_hide_hosts_and_folders(store: Store) -> None:
    error = ValueError(f"boom in {store.private[0]}/x (for url http://db.internal:8123/)")
    assert store.public_text(error) == "boom in …/x"
