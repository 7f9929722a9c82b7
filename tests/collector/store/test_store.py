"""The store on a real embedded engine: rows in and out, exactly once, spans, errors."""

from __future__ import annotations

import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, DataError, OperationalError

from llmtap.collector.store import (
    CallRow,
    LossRow,
    PermanentInsertError,
    RetryableInsertError,
    Store,
    StoreConfigError,
    StoreUnreachableError,
    open_store,
)
from llmtap.collector.store.errors import insert_error
from llmtap.collector.store.migrate import migrate, migrations
from tests.collector.store.embedded import TS, call_row, one

TABLES = ("calls", "losses", "otel_traces", "otel_traces_trace_id_ts")


def token() -> str:
    return uuid.uuid4().hex


@pytest.mark.parametrize(("table", "row"), [("calls", CallRow), ("losses", LossRow)])
def test_rows_have_the_columns_of_their_table(
    store: Store, table: str, row: type[CallRow] | type[LossRow]
) -> None:
    described = store.query(f"DESCRIBE TABLE {table}")
    assert tuple(column["name"] for column in described) == row._fields


@pytest.mark.parametrize("table", TABLES)
def test_every_target_survives_power_cuts_and_retries(store: Store, table: str) -> None:
    definition = next(iter(one(store, f"SHOW CREATE TABLE {table}").values()))
    for setting in ("fsync_after_insert = 1", "fsync_part_directory = 1"):
        assert setting in definition
    assert "non_replicated_deduplication_window = 1000" in definition


def test_a_row_comes_back_as_it_went_in(store: Store) -> None:
    row = call_row()
    store.insert_calls([row], token())
    found = one(store, "SELECT * FROM calls WHERE id = {id:String}", id=row.id)
    assert found.pop("ts").replace(tzinfo=UTC) == datetime.fromtimestamp(TS / 1e6, UTC)
    expected = row._asdict()
    del expected["ts"]
    assert found == expected


def test_unknown_is_null(store: Store) -> None:
    unknown = dict.fromkeys(
        ("ttfb_us", "ttft_us", "tpot_us", "input_tokens", "output_tokens", "cost_usd")
    )
    row = call_row(**unknown)
    store.insert_calls([row], token())
    found = one(
        store, f"SELECT {', '.join(unknown)} FROM calls WHERE id = {{id:String}}", id=row.id
    )
    assert found == unknown


@pytest.mark.parametrize(
    "text", ["nul \x00 byte", "line\nand\ttab\\", "日本語 🦙", "x" * 1_000_000]
)
def test_texts_are_kept_to_the_byte(store: Store, text: str) -> None:
    row = call_row(input_text=text)
    store.insert_calls([row], token())
    sql = "SELECT input_text FROM calls WHERE id = {id:String}"
    assert one(store, sql, id=row.id) == {"input_text": text}


def test_a_retry_changes_nothing_in_any_table(store: Store) -> None:
    batch = token()
    days = [int(timedelta(days=d).total_seconds() * 1e6) for d in (0, 1, 20)]
    rows = [call_row(ts=TS + d, batch=batch, user_id=batch) for d in days for _ in range(40)]
    for _ in range(3):
        store.insert_calls(rows, batch)
    traces = [row.trace_id for row in rows]
    where = "WHERE has({traces:Array(String)}, {column})"
    for table, column in (
        ("calls", "trace_id"),
        ("otel_traces", "TraceId"),
        ("otel_traces_trace_id_ts", "TraceId"),
    ):
        sql = f"SELECT count() AS n FROM {table} {where.replace('{column}', column)}"
        assert one(store, sql, traces=traces) == {"n": len(rows)}, table


def test_months_go_in_separately_and_a_retry_repairs_what_is_missing(store: Store) -> None:
    batch = token()
    month = int(timedelta(days=31).total_seconds() * 1e6)
    first = [call_row(ts=TS, user_id=batch)]
    both = [*first, call_row(ts=TS + month, user_id=batch)]
    store.insert_calls(first, batch)  # as if the process had been killed between the two months
    store.insert_calls(both, batch)
    found = store.query(
        "SELECT _partition_id AS month, count() AS n FROM calls WHERE user_id = {u:String} "
        "GROUP BY month ORDER BY month",
        {"u": batch},
    )
    assert found == [{"month": "202609", "n": 1}, {"month": "202610", "n": 1}]


def test_a_batch_is_one_block(store: Store) -> None:
    batch = token()
    store.insert_calls([call_row(user_id=batch) for _ in range(5000)], batch)
    sql = "SELECT uniq(_part) AS parts, count() AS n FROM calls WHERE user_id = {u:String}"
    assert one(store, sql, u=batch) == {"parts": 1, "n": 5000}


def test_the_same_rows_under_another_token_are_stored_again(store: Store) -> None:
    row = call_row()
    store.insert_calls([row], token())
    store.insert_calls([row], token())
    sql = "SELECT count() AS n FROM calls WHERE id = {id:String}"
    assert one(store, sql, id=row.id) == {"n": 2}


def test_losses_are_stored_once(store: Store) -> None:
    batch = token()
    loss = LossRow(TS, TS + 5, "full", 7, "70 %", "w-1", batch)
    for _ in range(2):
        store.insert_losses([loss], batch)
    found = one(store, "SELECT * FROM losses WHERE batch = {b:String}", b=batch)
    assert (found["reason"], found["records"], found["worker"]) == ("full", 7, "w-1")


def test_nothing_to_insert_is_no_insert(store: Store) -> None:
    store.insert_calls([], token())
    store.insert_losses([], token())


@pytest.mark.parametrize(
    "bad",
    [
        {"input_text": "lone \ud800 surrogate"},
        {"input_tokens": -1},
        {"input_tokens": 1 << 40},
        {"http_status": 1 << 20},
        {"cost_usd": Decimal("1e30")},
        {"cost_usd": "free"},
        {"properties": None},
        {"ts": 1 << 62},
        {"ts": -1},
        {"duration_us": None},
    ],
    ids=str,
)
def test_a_row_that_can_not_be_stored_is_refused_for_good(
    store: Store, bad: dict[str, object]
) -> None:
    """As Permanent, so that the pipeline puts it aside and does not try for ever."""
    row = call_row(**bad)
    with pytest.raises(PermanentInsertError):
        store.insert_calls([call_row(), row], token())
    store.insert_calls([call_row()], token())  # the client still works


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DatabaseError("Code: 159. DB::Exception: Timeout exceeded"), RetryableInsertError),
        (DatabaseError("Code: 202. DB::Exception: Too many simultaneous"), RetryableInsertError),
        (DatabaseError("Code: 241. DB::Exception: Memory limit"), RetryableInsertError),
        (DatabaseError("Code: 252. DB::Exception: Too many parts"), RetryableInsertError),
        (DatabaseError("Code: 999. DB::Exception: Keeper"), RetryableInsertError),
        (
            DatabaseError("Code: 60. DB::Exception: Table calls does not exist"),
            RetryableInsertError,
        ),
        (DatabaseError("Code: 516. DB::Exception: Authentication failed"), RetryableInsertError),
        (OperationalError("Error executing HTTP request"), RetryableInsertError),
        (OSError(28, "No space left on device"), RetryableInsertError),
        (DatabaseError("Code: 53. DB::Exception: Type mismatch"), PermanentInsertError),
        (DatabaseError("Code: 349. DB::Exception: NULL"), PermanentInsertError),
        (DatabaseError("Code: 117. DB::Exception: Incorrect data"), PermanentInsertError),
        (DataError("Unable to create Python array"), PermanentInsertError),
        (
            UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
            PermanentInsertError,
        ),
    ],
)
def test_errors_worth_another_try_are_told_from_others(
    error: Exception, kind: type[Exception]
) -> None:
    assert type(insert_error(error)) is kind


def test_a_call_is_a_span(store: Store) -> None:
    row = call_row(parent_span_id="00f067aa0ba902b7")
    store.insert_calls([row], token())
    span = one(store, "SELECT * FROM otel_traces WHERE TraceId = {t:String}", t=row.trace_id)
    attributes = span.pop("SpanAttributes")
    assert span["SpanName"] == "chat gpt-4o-mini"
    assert (span["SpanKind"], span["ServiceName"]) == ("Client", "llmtap")
    assert (span["SpanId"], span["ParentSpanId"]) == (row.span_id, "00f067aa0ba902b7")
    assert (span["Duration"], span["StatusCode"]) == (1_250_000_000, "Ok")
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": '["stop"]',
        "gen_ai.usage.input_tokens": "120",
        "gen_ai.usage.output_tokens": "51",
        "gen_ai.usage.cache_read.input_tokens": "100",
        "session.id": "s-1",
        "user.id": "u-1",
        "http.response.status_code": "200",
        "llmtap.call_id": row.id,
    }
    assert {key: attributes.get(key) for key in expected} == expected
    assert "error.type" not in attributes
    assert not [value for value in attributes.values() if "hallo" in value or "Grüß" in value]


@pytest.mark.parametrize(
    ("status", "code", "error_type"),
    [
        ("error", "Error", "rate_limit"),
        ("timeout", "Error", "timeout"),
        ("aborted", "Unset", "aborted"),
    ],
)
def test_a_failed_call_is_a_failed_span(
    store: Store, status: str, code: str, error_type: str
) -> None:
    given = error_type if status == "error" else ""
    row = call_row(status=status, error_type=given, error_message="no", http_status=0)
    store.insert_calls([row], token())
    span = one(store, "SELECT * FROM otel_traces WHERE TraceId = {t:String}", t=row.trace_id)
    assert (span["StatusCode"], span["StatusMessage"]) == (code, "no")
    assert span["SpanAttributes"]["error.type"] == error_type
    assert "http.response.status_code" not in span["SpanAttributes"]


def test_a_trace_can_be_found_by_its_times(store: Store) -> None:
    trace = uuid.uuid4().hex
    rows = [call_row(trace_id=trace, ts=TS + n * 60_000_000) for n in range(3)]
    store.insert_calls(rows, token())
    sql = (
        "SELECT toUnixTimestamp(min(Start)) AS a, toUnixTimestamp(max(End)) AS b "
        "FROM otel_traces_trace_id_ts WHERE TraceId = {t:String}"
    )
    assert one(store, sql, t=trace) == {"a": TS // 10**6, "b": TS // 10**6 + 120}


def test_views_answer(store: Store) -> None:
    project = token()
    store.insert_calls(
        [call_row(project=project), call_row(project=project, status="error", cost_usd=None)],
        token(),
    )
    cost = one(store, "SELECT * FROM calls_cost_daily WHERE project = {p:String}", p=project)
    assert (cost["calls"], cost["cost_usd"]) == (2, Decimal("0.000123456"))
    assert (cost["input_tokens"], cost["calls_without_price"]) == (240, 1)
    latency = one(store, "SELECT * FROM calls_latency_hourly WHERE project = {p:String}", p=project)
    assert latency["duration_us_quantiles"] == [1_250_000] * 3
    errors = one(store, "SELECT * FROM calls_errors_hourly WHERE project = {p:String}", p=project)
    assert (errors["calls"], errors["failed"]) == (2, 1)


def test_migrations_run_again_from_any_point(store: Store) -> None:
    """As after a crash between two statements, or before a migration was noted down."""
    before = store.query(
        "SELECT name, create_table_query FROM system.tables WHERE database = 'default'"
    )
    migrate(lambda sql: store.execute(sql), list)
    names = [name for _, name, _ in migrations()]
    after = store.query(
        "SELECT name, create_table_query FROM system.tables WHERE database = 'default'"
    )
    assert after == before
    assert names == sorted(names)


def test_a_newer_schema_is_refused() -> None:
    with pytest.raises(StoreConfigError, match="newer llmtap"):
        migrate(lambda sql: None, lambda: [1, 9999])


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        "foo",
        "chdb:relative",
        "chdb://relative/folder",
        "postgres://h/d",
        "clickhouse://",
        "http://h:x/",
    ],
)
def test_a_dsn_that_is_not_understood_shows_what_is(dsn: str, tmp_path: Path) -> None:
    with pytest.raises(StoreConfigError, match="chdb:///FOLDER"):
        open_store(dsn, tmp_path)


def test_no_error_shows_the_password(tmp_path: Path) -> None:
    with pytest.raises(StoreUnreachableError) as caught:
        open_store("clickhouse://me:geheim@127.0.0.1:1/db", tmp_path)
    text = ""
    error: BaseException | None = caught.value
    while isinstance(error, BaseException):
        text += str(error)
        error = error.__cause__
    assert "127.0.0.1:1" in text
    assert "geheim" not in text


_SECOND = """
import sys
from pathlib import Path
from llmtap.collector.store import StoreLockedError, open_store
try:
    open_store(sys.argv[1], Path(sys.argv[2]))
except StoreLockedError as e:
    print(e)
    sys.exit(7)
"""


def test_a_second_process_is_told_what_to_do(store: Store, tmp_path: Path) -> None:
    path = one(store, "SELECT path FROM system.disks LIMIT 1")["path"]
    done = subprocess.run(
        [sys.executable, "-c", _SECOND, f"chdb://{path.rstrip('/')}", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 7, done.stderr
    assert "open in another process" in done.stdout
    assert "--data" in done.stdout


_SIGNALLED = """
import asyncio, os, signal, sys
from pathlib import Path
from llmtap.collector.store import open_store
async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    store = await asyncio.to_thread(open_store, "chdb", Path(sys.argv[1]))
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(20):
        await stop.wait()
    store.close()
    print("stopped", oct((Path(sys.argv[1]) / "store").stat().st_mode & 0o777),
          oct((Path(sys.argv[1]) / "tmp").stat().st_mode & 0o777))
asyncio.run(main())
"""


def test_sigterm_reaches_the_loop_and_folders_are_private(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp" / "left-behind.native").write_bytes(b"a prompt")
    done = subprocess.run(
        [sys.executable, "-c", _SIGNALLED, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.split() == ["stopped", "0o700", "0o700"], done.stderr
    assert list((tmp_path / "tmp").iterdir()) == []
