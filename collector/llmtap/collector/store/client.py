"""The one client of the store: embedded chDB or a ClickHouse server, by DSN, through one library.

Inserts are blocking and belong to one thread (the pipeline's). Reads come from any thread and use
connections of their own, locked to reading. Only the collector's process may import this: chDB must
never see a fork, and lets one process at a time open a folder.
"""

from __future__ import annotations

import contextlib
import queue
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.exceptions import Error as ClickHouseError

from llmtap.collector.store.errors import (
    StoreConfigError,
    StoreLockedError,
    StoreUnreachableError,
    code_of,
    insert_error,
)
from llmtap.collector.store.guard import check_read_only
from llmtap.collector.store.migrate import migrate
from llmtap.collector.store.retention import retention_statements
from llmtap.collector.store.rows import CallRow, LossRow

DSN_FORMS = (
    "chdb | chdb:///FOLDER | clickhouse://USER:PASSWORD@HOST:8123/DATABASE | "
    "clickhouses://… (TLS) | http(s)://USER:PASSWORD@HOST:PORT/DATABASE"
)
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
_INSERT_ERRORS = (ClickHouseError, OSError, ValueError, TypeError, AttributeError, OverflowError)
_DATABASE = re.compile(r"[A-Za-z_]\w{0,63}")


class _Client(Protocol):
    """What is used of a clickhouse-connect client."""

    def command(self, cmd: str, **kw: Any) -> Any: ...
    def query(self, query: str, **kw: Any) -> Any: ...
    def raw_query(self, query: str, **kw: Any) -> bytes: ...
    def insert(self, table: str, data: Any, **kw: Any) -> Any: ...
    def close(self) -> None: ...


class Store:
    """Tables, inserts and reads. Made by `open_store`."""

    def __init__(self, connect: Any, embedded: bool) -> None:
        self._connect = connect
        self.embedded = embedded
        self._writer: _Client = connect()
        self._readers: queue.SimpleQueue[_Client | None] = queue.SimpleQueue()
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
        except (
            ClickHouseError,
            OSError,
            ValueError,
            TypeError,
            AttributeError,
            OverflowError,
        ) as e:
            raise insert_error(e) from e

    def _column_types(self, table: str, names: Sequence[str]) -> list[str]:
        if table not in self._types:
            described = self._writer.query(f"DESCRIBE TABLE {table}").result_rows
            types = {row[0]: row[1] for row in described}
            self._types[table] = [types[name] for name in names]
        return self._types[table]

    # reading
    @contextlib.contextmanager
    def _reader(self) -> Iterator[_Client]:
        """A connection locked to reading; thrown away after any error (its state is unknown)."""
        client = self._readers.get()
        try:
            if client is None:
                client = cast("_Client", self._connect())
                if self.embedded:
                    for name, value in READ_LIMITS.items():
                        shown = f"'{value}'" if isinstance(value, str) else value
                        client.command(f"SET {name} = {shown}")
                    client.command("SET readonly = 1")
            yield client
        except BaseException:
            if client is not None:
                client.close()
            client = None
            raise
        finally:
            self._readers.put(client)

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Rows of our own SQL (never of users'), values bound by `{name:Type}`."""
        with self._reader() as client:
            result = client.query(sql, parameters=dict(parameters or {}), settings=self._read())
            names = result.column_names
            return [dict(zip(names, row, strict=True)) for row in result.result_rows]

    def raw_query(
        self,
        sql: str,
        *,
        fmt: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> bytes:
        """Result bytes of a user's SQL in the asked FORMAT. Reading only.

        Raises NotReadOnlyError, or clickhouse-connect's errors with the engine's text and code.
        """
        check_read_only(sql)
        with self._reader() as client:
            return client.raw_query(
                sql, fmt=fmt, parameters=dict(parameters or {}), settings=self._read()
            )

    def _read(self) -> dict[str, Any] | None:
        return None if self.embedded else {**READ_LIMITS, "readonly": 1}

    def version(self) -> str:
        return str(self._writer.command("SELECT version()"))

    def close(self) -> None:
        for _ in range(READERS):
            client = self._readers.get()
            if client is not None:
                client.close()
        self._writer.close()


def open_store(dsn: str, data_dir: Path) -> Store:
    """Opens (and creates) the store, schema included. Raises StoreError with what to do."""
    if dsn == "chdb" or dsn.startswith("chdb:"):
        store = _open_embedded(dsn, data_dir)
    else:
        store = _open_server(dsn)
    try:
        store.migrate()
    except ClickHouseError as e:
        raise StoreUnreachableError(f"the schema could not be set up: {e}") from e
    return store


def _open_embedded(dsn: str, data_dir: Path) -> Store:
    path = dsn.removeprefix("chdb").removeprefix("://")
    folder = Path(path) if path else data_dir / "store"
    if path and not folder.is_absolute():
        raise StoreConfigError(f"store.dsn: a chdb folder must be absolute, as in {DSN_FORMS}")
    # The library writes every insert to a temporary file: prompts belong in our folder, not /tmp.
    scratch = data_dir / "tmp"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700, parents=True)
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    tempfile.tempdir = str(scratch)

    def connect() -> _Client:
        return cast("_Client", clickhouse_connect.get_client(dsn=f"chdb://{folder}"))

    try:
        store = Store(connect, embedded=True)
    except (ClickHouseError, RuntimeError) as e:
        if "lock" in str(e).lower() or "already running" in str(e):
            raise StoreLockedError(
                f"the store at {folder} is open in another process. Stop that llmtap, ask it "
                "instead (`llmtap sql`), or give this one its own folder with --data"
            ) from e
        raise StoreConfigError(f"the store at {folder} can not be opened: {e}") from e
    folder.chmod(0o700)
    return store


def _open_server(dsn: str) -> Store:
    parts = urlsplit(dsn)
    schemes = {"clickhouse": False, "clickhouses": True, "http": False, "https": True}
    try:
        port = parts.port
    except ValueError as e:
        raise StoreConfigError(f"store.dsn: the port is not a number; forms: {DSN_FORMS}") from e
    if parts.scheme not in schemes or not parts.hostname:
        raise StoreConfigError(f"store.dsn is not understood; forms: {DSN_FORMS}")
    secure = schemes[parts.scheme]
    database = parts.path.strip("/") or "llmtap"
    if not _DATABASE.fullmatch(database):
        raise StoreConfigError("store.dsn: the database name must be letters, digits and _")
    options: dict[str, Any] = {
        "autogenerate_session_id": False,
        "host": parts.hostname,
        "port": port or (8443 if secure else 8123),
        "username": unquote(parts.username or "default"),
        "password": unquote(parts.password or ""),
        "secure": secure,
        "send_receive_timeout": 300,
        "connect_timeout": 10,
        **dict(parse_qsl(parts.query)),
    }
    where = f"{parts.hostname}:{options['port']}"

    def connect(**more: Any) -> _Client:
        return cast("_Client", clickhouse_connect.get_client(**options, **more))

    try:
        first = connect()
        first.command(f"CREATE DATABASE IF NOT EXISTS {database}")
        first.close()
        return Store(lambda: connect(database=database), embedded=False)
    except ClickHouseError as e:
        if code_of(e) in (192, 193, 194, 497, 516):
            raise StoreConfigError(
                f"the ClickHouse server at {where} refuses user {options['username']!r}: "
                "check user, password and grants in store.dsn / LLMTAP_STORE"
            ) from e
        raise StoreUnreachableError(
            f"no ClickHouse server answers at {where} ({type(e).__name__}). Is it running, and is "
            "this its HTTP port (8123, TLS 8443)?"
        ) from e
    except TypeError as e:
        raise StoreConfigError(f"store.dsn: unknown option: {e}") from e
