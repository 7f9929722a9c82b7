"""The SQL behind `/api/calls` and `/api/stats`: filters as bound parameters, never as text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from llmtap.collector.admin.tail import SUMMARY
from llmtap.collector.store import Store

_SPAN = re.compile(r"(\d{1,6})([smhdw])")
_MONEY = re.compile(r"\d{1,8}(?:\.\d{1,9})?", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_ORDERS = {
    "recent": "ts DESC",
    "slowest": "duration_us DESC",
    "costliest": "cost_usd DESC NULLS LAST",
}
_EQUALS = {
    "status": "status",
    "upstream": "upstream",
    "provider": "provider",
    "dialect": "dialect",
    "user": "user_id",
    "session": "session_id",
    "trace_id": "trace_id",
    "operation": "operation",
    "project": "project",
}
MAX_LIMIT = 1000


class BadQuestionError(ValueError):
    """A filter's value makes no sense; the text says what would."""


def moment(text: str, now: datetime) -> datetime:
    """`15m`, `1h`, `7d` ago, or an ISO 8601 time (UTC if it names no zone)."""
    try:
        if match := _SPAN.fullmatch(text):
            return now - timedelta(**{_UNITS[match[2]]: int(match[1])})
        when = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise BadQuestionError(
            f"{text[:40]!r} is no time; use 15m, 1h, 7d or 2026-01-31T12:00"
        ) from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _where(filters: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    now = datetime.now(UTC)
    conditions: list[str] = []
    bound: dict[str, Any] = {}
    for name, sign in (("since", ">="), ("until", "<")):
        if value := filters.get(name):
            at = moment(value, now)
            conditions.append(f"ts {sign} fromUnixTimestamp64Micro({{{name}:Int64}}, 'UTC')")
            bound[name] = int(at.timestamp() * 1e6)
    for name, column in _EQUALS.items():
        if value := filters.get(name):
            conditions.append(f"{column} = {{{name}:String}}")
            bound[name] = value
    if value := filters.get("model"):
        conditions.append("(model_requested = {model:String} OR model_served = {model:String})")
        bound["model"] = value
    if value := filters.get("min_cost"):
        if not _MONEY.fullmatch(value):
            raise BadQuestionError("min_cost: US dollars, such as 0.05")
        conditions.append("cost_usd >= toDecimal64({min_cost:String}, 9)")
        bound["min_cost"] = value
    if value := filters.get("search"):
        conditions.append(
            "(positionCaseInsensitiveUTF8(input_text, {search:String}) > 0"
            " OR positionCaseInsensitiveUTF8(output_text, {search:String}) > 0)"
        )
        bound["search"] = value
    return (" WHERE " + " AND ".join(conditions) if conditions else ""), bound


def calls(store: Store, filters: Mapping[str, str]) -> list[dict[str, Any]]:
    """Summary columns of matching calls. Raises BadQuestionError."""
    order = filters.get("order", "recent")
    if order not in _ORDERS:
        raise BadQuestionError(f"order: one of {', '.join(_ORDERS)}")
    limit = filters.get("limit", "50")
    if not limit.isdigit() or not 1 <= int(limit) <= MAX_LIMIT:
        raise BadQuestionError(f"limit: 1 to {MAX_LIMIT}")
    where, bound = _where(filters)
    columns = ", ".join(SUMMARY)
    sql = f"SELECT {columns} FROM calls{where} ORDER BY {_ORDERS[order]} LIMIT {int(limit)}"
    return store.query(sql, bound)


def call(store: Store, call_id: str) -> dict[str, Any] | None:
    """All columns of one call; `call_id` may be a unique beginning of at least 8 characters."""
    exact = "id = {id:String}" if len(call_id) == 36 else "startsWith(id, {id:String})"
    rows = store.query(
        f"SELECT * FROM calls WHERE {exact} ORDER BY ts DESC LIMIT 1 BY id LIMIT 2", {"id": call_id}
    )
    if len(rows) > 1:
        raise BadQuestionError(f"several calls begin with {call_id!r}; give more of the id")
    return rows[0] if rows else None


def stats(store: Store, filters: Mapping[str, str]) -> dict[str, Any]:
    """Sums over matching calls: overall, by model, by status."""
    where, bound = _where(filters)
    sums = (
        "count() AS calls, countIf(status != 'ok') AS failed, "
        "sum(c.input_tokens) AS input_tokens, sum(c.output_tokens) AS output_tokens, "
        "sum(toDecimal128(c.cost_usd, 9)) AS cost_usd, "
        "countIf(isNull(c.cost_usd)) AS calls_without_price, "
        "quantile(0.5)(duration_us) AS duration_us_p50, "
        "quantile(0.95)(duration_us) AS duration_us_p95, "
        "quantile(0.5)(ttft_us) AS ttft_us_p50"
    )
    total = store.query(f"SELECT {sums} FROM calls AS c{where}", bound)[0]
    by_model = store.query(
        f"SELECT model_requested AS model, upstream, {sums} FROM calls AS c{where} "
        "GROUP BY model, upstream ORDER BY calls DESC LIMIT 50",
        bound,
    )
    by_status = store.query(
        f"SELECT status, count() AS calls FROM calls AS c{where} GROUP BY status",
        bound,
    )
    return {**total, "by_model": by_model, "by_status": by_status}


_GROUPS = {
    "model": "if(model_served = '', model_requested, model_served)",
    "upstream": "upstream",
    "provider": "provider",
    "operation": "operation",
    "user": "user_id",
    "session": "session_id",
    "project": "project",
    "prompt": "prompt_name",
    "prompt_version": "prompt_version",
    "template": "template_hash",
    "language": "language",
    "status": "status",
    "source": "usage_source",
    "hour": "toStartOfHour(ts)",
    "day": "toDate(ts)",
    "week": "toMonday(ts)",
    "month": "toStartOfMonth(ts)",
}
_TIMES = ("hour", "day", "week", "month")
_PROPERTY = "property:"


def costs(store: Store, filters: Mapping[str, str]) -> dict[str, Any]:
    """Calls, tokens and money by groups (`by`: names with commas between). Raises BadQuestionError.

    `calls_without_price` were used but have no known price: `cost_usd` lacks them.
    """
    by = [name.strip() for name in filters.get("by", "model").split(",") if name.strip()]
    limit = filters.get("limit", "100")
    if not limit.isdigit() or not 1 <= int(limit) <= MAX_LIMIT:
        raise BadQuestionError(f"limit: 1 to {MAX_LIMIT}")
    where, bound = _where(filters)
    groups: list[str] = []
    for i, name in enumerate(by):
        if name.startswith(_PROPERTY):
            groups.append(f"properties[{{group{i}:String}}]")
            bound[f"group{i}"] = name.removeprefix(_PROPERTY)
        elif name in _GROUPS:
            groups.append(_GROUPS[name])
        else:
            known = ", ".join(_GROUPS)
            raise BadQuestionError(f"by: {name[:40]!r} is none of {known}, {_PROPERTY}NAME")
    sums = (
        "count() AS calls, countIf(status != 'ok') AS failed, "
        "sum(c.input_tokens) AS input_tokens, sum(c.cache_read_tokens) AS cache_read_tokens, "
        "sum(c.output_tokens) AS output_tokens, "
        "countIf(usage_source IN ('counted', 'estimated')) AS calls_not_reported, "
        "sum(toDecimal128(c.cost_usd, 9)) AS cost_usd, "
        "countIf(isNull(c.cost_usd) AND isNotNull(c.input_tokens)) AS calls_without_price"
    )
    columns = ", ".join(f"{sql} AS g{i}" for i, sql in enumerate(groups))
    names = ", ".join(f"g{i}" for i in range(len(groups)))
    first = ", ".join(f"g{i}" for i, name in enumerate(by) if name in _TIMES)
    order = f"{first + ', ' if first else ''}cost_usd DESC NULLS LAST, calls DESC"
    rows = store.query(
        f"SELECT {columns}, {sums} FROM calls AS c{where} GROUP BY {names} ORDER BY {order} "
        f"LIMIT {int(limit)}",
        bound,
    )
    total = store.query(f"SELECT {sums} FROM calls AS c{where}", bound)[0]
    renamed = [
        {name: row.pop(f"g{i}") for i, name in enumerate(by)} | row for row in map(dict, rows)
    ]
    return {"by": by, "groups": renamed, "total": total}
