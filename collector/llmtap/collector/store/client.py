"""The one client of the store: embedded chDB or a ClickHouse server, by DSN, through one library.

Inserts are blocking and belong to one thread (the pipeline's). Reads come from any thread and use
connections of their own, locked to reading. Only the collector's process may import this: chDB must
never see a fork, and lets one process at a time open a folder.
"""

from __future__ import annotations

import contextlib
import queue
import re
import time
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

from clickhouse_connect.driver.exceptions import Error as ClickHouseError

from llmtap.collector.store.errors import PermanentInsertError, insert_error
from llmtap.collector.store.guard import NotReadOnlyError, check_read_only
from llmtap.collector.store.migrate import migrate
from llmtap.collector.store.retention import retention_statements
from llmtap.collector.store.rows import CallRow, LossRow

READERS = 3
READ_LIMITS: dict[str, int | str] = {
    "max_execution_time": 30,
    "max_memory_usage": 2 << 30,
    "max_result_rows": 1_000_000,
    "max_result_bytes": 256 << 20,
    "result_overflow_mode": "throw",
}
_INSERT_SETTINGS: dict[str, int] = {
    "async_insert": 0,
    "insert_deduplicate": 1,
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "max_insert_block_size": 1_048_576,
    "min_insert_block_size_rows": 1_048_576,
    "min_insert_block_size_bytes": 1 << 30,
}
# What the library raises for a value that it can not write is whatever writing it raised.
_INSERT_ERRORS = (ClickHouseError, OSError, ValueError, TypeError, AttributeError, ArithmeticError)
_LATEST_TS = 4_102_444_800_000_000
"""The year 2100, in microseconds: `otel_traces_trace_id_ts` ends in 2106."""
_NAME = re.compile(r"[A-Za-z_]\w{0,63}", re.ASCII)


_INSERT = re.compile(
    r"\s*INSERT\s+INTO\s+(?P<table>[\w.`]+)\s*(?:\((?P<columns>[^)]*)\))?"
    r"\s*FORMAT\s+(?P<format>\w+)\s*",
    re.IGNORECASE | re.ASCII,
)
_URL_NOTE = re.compile(r"\s*\(for url [^)\s]*\)|https?://[^\s/]+:\d+\S*")


def _literal(value: int | str) -> str:
    """An SQL literal."""
    if isinstance(value, int):
        return str(value)
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


class Client(Protocol):
    """What is used of a clickhouse-connect client."""

    def command(self, cmd: str, **kw: Any) -> Any: ...
    def query(self, query: str, **kw: Any) -> Any: ...
    def raw_query(self, query: str, **kw: Any) -> bytes: ...
    def insert(self, table: str, data: Any, **kw: Any) -> Any: ...
    def raw_insert(self, table: str, columns: Any, block: Any, **kw: Any) -> Any: ...
    def close(self) -> None: ...


class Store:
    """Tables, inserts and reads. Made by `open_store`."""

    def __init__(
        self, connect: Callable[[str | None], Client], embedded: bool, private: Sequence[str] = ()
    ) -> None:
        self._connect = connect
        self.private = private
        self.embedded = embedded
        self._writer = connect(None)
        self._readers: queue.SimpleQueue[Client | None] = queue.SimpleQueue()
        for _ in range(READERS):
            self._readers.put(None)
        self._types: dict[str, list[str]] = {}

    # set-up
    def migrate(self) -> None:
        """Creates or updates all tables. Raises StoreError."""

        def applied() -> list[int]:
            result = self._writer.query("SELECT number FROM llmtap_migrations")
            return [row[0] for row in result.result_rows]

        migrate(self._writer.command, applied)

    def apply_retention(self, calls_days: int, bodies_days: int, traces_days: int) -> None:
        """Sets the tables' TTLs where they differ."""

        def definition(table: str) -> str:
            return str(self._writer.query(f"SHOW CREATE TABLE {table}").result_rows[0][0])

        for statement in retention_statements(definition, calls_days, bodies_days, traces_days):
            self._writer.command(statement, settings={"materialize_ttl_after_modify": 0})

    # writing
    def insert_calls(self, rows: Sequence[CallRow], token: str) -> None:
        """Inserts rows so that a retry with the same rows and token changes nothing.

        One block per month of `ts` (a block must not touch two partitions, or the token would not
        cover it). Raises RetryableInsertError or PermanentInsertError.
        """
        by_month: dict[tuple[int, int], list[CallRow]] = {}
        for row in rows:
            if not 0 <= row.ts < _LATEST_TS:
                raise PermanentInsertError(f"call {row.id}: ts {row.ts} is no time of this century")
            moment = time.gmtime(row.ts // 1_000_000)
            by_month.setdefault((moment.tm_year, moment.tm_mon), []).append(row)
        for (year, month), group in sorted(by_month.items()):
            self._insert("calls", CallRow._fields, group, f"{token}:{year}{month:02}")

    def insert_losses(self, rows: Sequence[LossRow], token: str) -> None:
        """Inserts loss rows; same rules as `insert_calls`."""
        self._insert("losses", LossRow._fields, rows, f"{token}:losses")

    def _insert(
        self, table: str, names: Sequence[str], rows: Sequence[tuple[Any, ...]], token: str
    ) -> None:
        if not rows:
            return
        settings = {**_INSERT_SETTINGS, "insert_deduplication_token": token}
        try:
            self._writer.insert(
                table,
                list(zip(*rows, strict=True)),
                column_names=list(names),
                column_type_names=self._column_types(table, names),
                column_oriented=True,
                settings=settings,
            )
        except _INSERT_ERRORS as e:
            raise insert_error(e) from e

    def _column_types(self, table: str, names: Sequence[str]) -> list[str]:
        if table not in self._types:
            described = self._writer.query(f"DESCRIBE TABLE {table}").result_rows
            types = {row[0]: row[1] for row in described}
            self._types[table] = [types[name] for name in names]
        return self._types[table]

    def amend_costs(self, amended: Sequence[tuple[str, Decimal | None, str, str]]) -> None:
        """Sets (id, cost_usd, price_source, price_version) of calls that are stored.

        One mutation of three columns: the calls' ids and prices lie in a table for its time.
        """
        names = ("cost_usd", "price_source", "price_version")
        client = self._connect(None)
        try:
            database = client.command("SELECT currentDatabase()")
            table = f"{database}.llmtap_amend_{uuid.uuid4().hex}"
            client.command(
                f"CREATE TABLE {table} (id String, cost_usd Nullable(Decimal(18, 9)), "
                "price_source String, price_version String) ENGINE = Join(ANY, LEFT, id)"
            )
            try:
                client.insert(table, [list(row) for row in amended], column_names=["id", *names])
                sets = ", ".join(f"{name} = joinGet('{table}', '{name}', id)" for name in names)
                client.command(
                    f"ALTER TABLE calls UPDATE {sets} WHERE id IN (SELECT id FROM {table})",
                    settings={"mutations_sync": 1},
                )
            finally:
                client.command(f"DROP TABLE IF EXISTS {table}")
        finally:
            client.close()

    # reading
    @contextlib.contextmanager
    def _reader(self) -> Generator[Client]:
        """A connection locked to reading; thrown away after any error (its state is unknown)."""
        client = self._readers.get()
        try:
            if client is None:
                client = self._connect_reader(None, {})
            yield client
        except BaseException:
            if client is not None:
                client.close()
            client = None
            raise
        finally:
            self._readers.put(client)

    @contextlib.contextmanager
    def _own_reader(
        self, database: str | None, settings: Mapping[str, int | str]
    ) -> Generator[Client]:
        """The same, but with other settings: for one query, in the place of a pooled one."""
        place = self._readers.get()
        try:
            client = self._connect_reader(database, settings)
            try:
                yield client
            finally:
                client.close()
        finally:
            self._readers.put(place)

    def _connect_reader(self, database: str | None, settings: Mapping[str, int | str]) -> Client:
        client = self._connect(database)
        if self.embedded:
            # The engine has no users: the connection locks itself, last, and can not be unlocked.
            chosen = {"session_timezone": "UTC", **READ_LIMITS, **settings}
            try:
                shown = ", ".join(f"{name} = {_literal(value)}" for name, value in chosen.items())
                client.command(f"SET {shown}")
                client.command("SET readonly = 1")
            except BaseException:
                client.close()
                raise
        return client

    def query(
        self,
        sql: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        max_rows: int | None = None,
        timeout_s: int | None = None,
    ) -> list[dict[str, Any]]:
        """Rows of our own SQL (never of users'), values bound by `{name:Type}`."""
        own: dict[str, int | str] = {}
        if max_rows is not None:
            own["max_result_rows"] = max_rows
        if timeout_s is not None:
            own["max_execution_time"] = timeout_s
        with self._own_reader(None, own) if own else self._reader() as client:
            result = client.query(sql, parameters=dict(parameters or {}), settings=self._read(own))
            names = result.column_names
            return [dict(zip(names, row, strict=True)) for row in result.result_rows]

    def raw_query(
        self,
        sql: str,
        *,
        fmt: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        settings: Mapping[str, int | str] | None = None,
        database: str | None = None,
    ) -> bytes:
        """Result bytes of a user's SQL in the asked FORMAT. Reading only.

        `settings` are not the user's to choose freely: see `admin/settings.py`. Raises
        NotReadOnlyError, or clickhouse-connect's errors with the engine's text and code.
        """
        check_read_only(sql, parameters)
        own = dict(settings or {})
        if any(not _NAME.fullmatch(name) for name in own):
            raise NotReadOnlyError("a setting's name is letters, digits and _")
        with self._own_reader(database, own) if own or database else self._reader() as client:
            return client.raw_query(
                sql.rstrip("; \t\r\n"),
                fmt=fmt,
                parameters=dict(parameters or {}),
                settings=self._read(own),
            )

    def execute(
        self,
        sql: str,
        *,
        fmt: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        settings: Mapping[str, int | str] | None = None,
        database: str | None = None,
        data: bytes = b"",
    ) -> bytes:
        """Anything, `INSERT … FORMAT F` with its data too: for tests, where we play the server."""
        client = self._connect(database)
        try:
            if match := _INSERT.fullmatch(sql):
                columns = [c.strip(" `") for c in (match["columns"] or "").split(",") if c.strip()]
                client.raw_insert(
                    match["table"],
                    columns or None,
                    data,
                    settings=dict(settings or {}),
                    fmt=match["format"],
                )
                return b""
            return client.raw_query(
                sql, fmt=fmt, parameters=dict(parameters or {}), settings=dict(settings or {})
            )
        finally:
            client.close()

    def public_text(self, error: BaseException) -> str:
        """An error's text for users: without our folders, hosts and internals."""
        text = str(error).strip()
        for private in self.private:
            text = text.replace(private, "…")
        return _URL_NOTE.sub("", text)[:4000]

    def _read(self, own: Mapping[str, int | str]) -> dict[str, Any] | None:
        """Settings that go with a query: a server knows them by request, chDB by connection."""
        return None if self.embedded else {**READ_LIMITS, **own, "readonly": 1}

    def version(self) -> str:
        return str(self._writer.command("SELECT version()"))

    def close(self) -> None:
        for _ in range(READERS):
            client = self._readers.get()
            if client is not None:
                client.close()
        self._writer.close()
