"""A ClickHouse HTTP interface over the store, reading only, so that clients need no server.

Takes what ClickHouse's port 8123 takes (query in URL or body, `param_x`, `default_format`,
`database`, `client_protocol_version`, settings; the web server has undone gzip) and answers as it
does: bytes of the asked FORMAT, `X-ClickHouse-…` headers, errors as text with their code. User and
password are not looked at: whoever reaches this port may read. Source: ClickHouse documentation,
"HTTP interface", and `HTTPHandler.cpp` for the status codes.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import orjson
from clickhouse_connect.driver.exceptions import Error as ClickHouseError

from llmtap.collector.admin import settings
from llmtap.collector.admin.native import NativeError, header, with_revision
from llmtap.collector.store import Store
from llmtap.collector.store.errors import code_of
from llmtap.collector.store.guard import Escaped, NotReadOnlyError

MAX_SQL_BYTES = 1 << 20
_FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
_NAME = re.compile(r"\w{1,64}", re.ASCII)
_QUERY_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)
_INSERT = re.compile(rb"\s*INSERT\s", re.IGNORECASE)
_INSERT_HEAD = re.compile(rb"\s*INSERT\s.*?\sFORMAT\s+\w+[ \t]*\r?\n", re.IGNORECASE | re.DOTALL)
_BINARY = frozenset(
    (
        *("Native", "RowBinary", "RowBinaryWithNames", "RowBinaryWithNamesAndTypes", "Parquet"),
        *("Arrow", "ArrowStream", "ORC", "Avro", "MsgPack"),
    )
)
_STATUS = {
    **dict.fromkeys((36, 62, 69, 70, 72, 130, 131, 386, 457), 400),
    **dict.fromkeys((192, 193, 194, 497, 516), 403),
    **dict.fromkeys((46, 47, 50, 56, 60, 63, 73, 81, 115), 404),
    159: 408,
    48: 501,
    **dict.fromkeys((202, 209, 210, 279, 439), 503),
}


@dataclass(frozen=True, slots=True)
class _Statement:
    """What a request asks for.

    `fmt` is None when the statement names its FORMAT or returns none; `data` is an INSERT's.
    """

    sql: str
    fmt: str | None
    parameters: dict[str, Escaped]
    settings: dict[str, int | str]
    database: str | None
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request. `query`: URL parameters; `headers`: lower-case names; `body`: unpacked."""

    method: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict[str, str])


def answer(store: Store, request: Request, *, writable: bool = False) -> Answer:
    """Runs one request. `writable` is for tests that let us play a server: anything goes then."""
    query, headers = request.query, request.headers
    asked = query.get("query_id", "")
    base = {
        "X-ClickHouse-Query-Id": asked if _QUERY_ID.fullmatch(asked) else str(uuid.uuid4()),
        "X-ClickHouse-Server-Display-Name": "llmtap",
        "X-ClickHouse-Timezone": "UTC",
    }
    writable = writable and query.get("readonly", "0") == "0"
    sql, data = _sql_and_data(query.get("query", ""), request.body)
    if not sql.strip():
        return (
            Answer(200, b"Ok.\n", base) if request.method == "GET" else _error(base, 62, "no query")
        )
    if len(sql) > MAX_SQL_BYTES:
        return _error(base, 62, f"a query may have {MAX_SQL_BYTES} bytes")
    if query.get("compress", "0") not in ("", "0"):
        return _error(base, 48, "compress=1 is not served here; use gzip. (NOT_IMPLEMENTED)")
    inserts = _INSERT.match(sql.encode()) is not None
    named = None if inserts else own_format(sql)
    fmt = named or _default_format(query, headers)
    statement = _Statement(
        sql=sql.rstrip() if inserts else sql.rstrip().rstrip(";"),
        fmt=None if inserts or named else fmt,
        parameters=_parameters(query),
        settings=_all_settings(query) if writable else settings.chosen(query),
        database=_database(query, headers),
        data=data,
    )
    started = time.monotonic_ns()
    try:
        result = _run(store, statement, writable)
        if fmt == "Native" and not (inserts or result):
            result = _header(store, statement, writable)
        if fmt == "Native" and result:
            result = with_revision(result, _revision(query))
    except NotReadOnlyError as e:
        return _error(base, 164, f"{e}. (READONLY)")
    except NativeError as e:
        return _error(base, 48, f"{e}. (NOT_IMPLEMENTED)")
    except ClickHouseError as e:
        return _error(base, code_of(e) or 1002, _text(store.public_text(e)))
    summary = {
        **dict.fromkeys(("read_rows", "read_bytes", "written_rows", "written_bytes"), "0"),
        **dict.fromkeys(("total_rows_to_read", "result_rows", "result_bytes"), "0"),
        "elapsed_ns": str(time.monotonic_ns() - started),
    }
    return Answer(
        200,
        result,
        {
            **base,
            "X-ClickHouse-Format": fmt,
            "X-ClickHouse-Summary": orjson.dumps(summary).decode(),
            "Content-Type": content_type(fmt),
        },
    )


def content_type(fmt: str) -> str:
    """The media type of an output format."""
    if fmt in _BINARY:
        return "application/octet-stream"
    if fmt.startswith("JSON"):
        lines = fmt.endswith("EachRow")
        return "application/x-ndjson" if lines else "application/json; charset=UTF-8"
    if fmt.startswith("CSV"):
        return "text/csv; charset=UTF-8"
    if fmt.startswith(("TSV", "TabSeparated")):
        return "text/tab-separated-values; charset=UTF-8"
    return "text/plain; charset=UTF-8"


def _run(store: Store, statement: _Statement, writable: bool) -> bytes:
    if not writable:
        return store.raw_query(
            statement.sql,
            fmt=statement.fmt,
            parameters=statement.parameters,
            settings=statement.settings,
            database=statement.database,
        )
    return store.execute(
        statement.sql,
        fmt=statement.fmt,
        parameters=statement.parameters,
        settings=statement.settings,
        database=statement.database,
        data=statement.data,
    )


_NO_RESULT = re.compile(
    r"\s*(?:create|alter|drop|set|truncate|optimize|system|use|rename|grant)\b", re.IGNORECASE
)


def _header(store: Store, statement: _Statement, writable: bool) -> bytes:
    """For no rows chDB writes no Native at all, while clients want the columns' names and types."""
    if _NO_RESULT.match(statement.sql):
        return b""
    again = replace(statement, sql=_FORMAT.sub("", statement.sql), fmt="JSONCompact")
    meta = orjson.loads(_run(store, again, writable))["meta"]
    return header((column["name"], column["type"]) for column in meta)


_NOT_SETTINGS = frozenset(
    (
        *("query", "database", "default_format", "query_id", "session_id", "session_timeout"),
        *("session_check", "user", "password", "client_protocol_version", "compress", "role"),
        *("decompress", "wait_end_of_query", "enable_http_compression", "quota_key", "readonly"),
        *("send_progress_in_http_headers", "http_headers_progress_interval_ms", "buffer_size"),
    )
)


def _all_settings(query: Mapping[str, str]) -> dict[str, int | str]:
    return {
        name: value
        for name, value in query.items()
        if name not in _NOT_SETTINGS and not name.startswith("param_") and _NAME.fullmatch(name)
    }


def own_format(sql: str) -> str | None:
    """The FORMAT that a statement names itself."""
    match = _FORMAT.search(sql)
    return match[1] if match else None


def _sql_and_data(sql: str, body: bytes) -> tuple[str, bytes]:
    """URL and body make up the statement; what follows an INSERT's head is its data."""
    if sql and _INSERT.match(sql.encode()):
        return sql, body
    if not sql and (head := _INSERT_HEAD.match(body)):
        return head[0].decode("utf-8", "replace"), body[head.end() :]
    text = body.decode("utf-8", "replace")
    return (f"{sql}\n{text}" if sql and text else sql or text), b""


def _default_format(query: Mapping[str, str], headers: Mapping[str, str]) -> str:
    asked = query.get("default_format") or headers.get("x-clickhouse-format") or ""
    return asked if _NAME.fullmatch(asked) else "TabSeparated"


def _database(query: Mapping[str, str], headers: Mapping[str, str]) -> str | None:
    """`default` is ours, whatever it is called in the store."""
    asked = query.get("database") or headers.get("x-clickhouse-database") or ""
    return asked if asked != "default" and _NAME.fullmatch(asked) else None


def _revision(query: Mapping[str, str]) -> int:
    text = query.get("client_protocol_version", "")
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def _parameters(query: Mapping[str, str]) -> dict[str, Escaped]:
    return {
        key[6:]: Escaped(value)
        for key, value in query.items()
        if key.startswith("param_") and _NAME.fullmatch(key)
    }


def _text(text: str) -> str:
    return re.sub(r"^(Code: \d+\. DB::Exception: )+", "", text)


def _error(base: Mapping[str, str], code: int, message: str) -> Answer:
    body = f"Code: {code}. DB::Exception: {message}\n".encode()
    headers = {
        **base,
        "X-ClickHouse-Exception-Code": str(code),
        "Content-Type": "text/plain; charset=UTF-8",
    }
    return Answer(_STATUS.get(code, 500), body, headers)
