"""A ClickHouse HTTP interface over the store, reading only, so that clients need no server.

Takes what ClickHouse's port 8123 takes (query in URL or body, `param_x`, `default_format`,
`database`; the web server has undone gzip) and answers as it does: bytes of the asked FORMAT,
`X-ClickHouse-…` headers, errors as text with their code. Source: ClickHouse documentation,
"HTTP interface".
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from clickhouse_connect.driver.exceptions import Error as ClickHouseError

from llmtap.collector.store.errors import code_of
from llmtap.collector.store.guard import NotReadOnlyError

MAX_SQL_BYTES = 1 << 20
_FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*(?:SETTINGS\s[^;]*)?;?\s*$", re.IGNORECASE)
_NAME = re.compile(r"\w{1,64}")
_STATUS = {
    60: 404,
    81: 404,
    46: 404,
    36: 400,
    47: 404,
    62: 400,
    159: 408,
    164: 500,
    241: 500,
    192: 403,
    193: 403,
    194: 403,
    497: 403,
    516: 403,
}


class Executor(Protocol):
    """What runs the SQL. Raises NotReadOnlyError or clickhouse-connect errors."""

    def __call__(
        self, sql: str, *, fmt: str | None, parameters: Mapping[str, str], data: bytes
    ) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict[str, str])


def answer(
    execute: Executor,
    method: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    body: bytes,
) -> Answer:
    """One request. `query`: URL parameters; `headers`: lower-case names."""
    query_id = query.get("query_id") or str(uuid.uuid4())
    base = {
        "X-ClickHouse-Query-Id": query_id[:64],
        "X-ClickHouse-Server-Display-Name": "llmtap",
        "X-ClickHouse-Timezone": "UTC",
        "X-ClickHouse-Summary": '{"read_rows":"0","read_bytes":"0"}',
    }
    data = body
    sql = query.get("query", "")
    if not sql:
        sql, data = data.decode("utf-8", "replace"), b""
    elif data and not _takes_data(sql):
        sql, data = sql + "\n" + data.decode("utf-8", "replace"), b""
    if not sql.strip():
        return Answer(200, b"Ok.\n", base) if method == "GET" else _error(base, 400, 62, "no query")
    if len(sql) > MAX_SQL_BYTES:
        return _error(base, 400, 62, f"a query may have {MAX_SQL_BYTES} bytes")
    fmt = _format(sql, query, headers)
    parameters = {
        key[6:]: _ESCAPE.sub(_unescaped, value)
        for key, value in query.items()
        if key.startswith("param_") and _NAME.fullmatch(key)
    }
    try:
        result = execute(sql, fmt=fmt, parameters=parameters, data=data)
    except NotReadOnlyError as e:
        return _error(base, 500, 164, f"{e}. (READONLY)")
    except ClickHouseError as e:
        code = code_of(e)
        return _error(base, _STATUS.get(code, 500), code or 1002, _text(e))
    shown = fmt or (m[1] if (m := _FORMAT.search(sql)) else "TabSeparated")
    kind = "application/json" if shown.startswith("JSON") else "text/plain; charset=UTF-8"
    if shown in ("Native", "RowBinary", "RowBinaryWithNamesAndTypes", "Parquet", "ArrowStream"):
        kind = "application/octet-stream"
    return Answer(200, result, {**base, "X-ClickHouse-Format": shown, "Content-Type": kind})


_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"b": "\b", "f": "\f", "r": "\r", "n": "\n", "t": "\t", "0": "\0"}


def _unescaped(match: re.Match[str]) -> str:
    """Parameter values come in TabSeparated's escaping."""
    return _ESCAPED.get(match[1], match[1])


def _takes_data(sql: str) -> bool:
    return sql.lstrip()[:6].upper() == "INSERT"


def _format(sql: str, query: Mapping[str, str], headers: Mapping[str, str]) -> str | None:
    """The FORMAT to add; None when the statement names one itself or returns nothing."""
    if _takes_data(sql) or _FORMAT.search(sql):
        return None
    asked = query.get("default_format") or headers.get("x-clickhouse-format") or "TabSeparated"
    return asked if _NAME.fullmatch(asked) else "TabSeparated"


def _text(error: Exception) -> str:
    text = re.sub(r"^(Code: \d+\. )?DB::Exception: ", "", str(error).strip())
    return text[:4000]


def _error(base: Mapping[str, str], status: int, code: int, message: str) -> Answer:
    body = f"Code: {code}. DB::Exception: {message}\n".encode()
    return Answer(status, body, {**base, "X-ClickHouse-Exception-Code": str(code)})
