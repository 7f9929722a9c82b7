"""Prices stored calls again, when prices changed or a table of one's own came.

Reads pages of calls in the order of time, and amends those whose price differs. A call that is
repriced while it runs twice ends with the same price. Spans keep the cost of their time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from llmtap.collector.admin.questions import BadQuestionError, moment
from llmtap.collector.enrich.prices import Price, Pricer
from llmtap.collector.store import Store
from llmtap.dialects.model import Usage

PAGE = 20_000
_COLUMNS = (
    "id, toUnixTimestamp64Micro(ts) AS ts_us, upstream, provider, model_served, model_requested, "
    "service_tier, duration_us, input_tokens, output_tokens, cache_read_tokens, "
    "cache_write_tokens, reasoning_tokens, cost_usd, price_source, price_version"
)


class Repricer:
    """`POST /api/reprice`: `since`, optional `until` and `dry_run`. Raises BadQuestionError."""

    def __init__(self, store: Callable[[], Store], pricer: Pricer) -> None:
        self._store = store
        self._pricer = pricer

    def __call__(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Calls looked at, calls changed, and what they cost in USD before and after."""
        now = datetime.now(UTC)
        if not query.get("since"):
            raise BadQuestionError("since: from when on, such as 30d")
        at = (int(moment(query["since"], now).timestamp() * 1e6), "")
        until = (
            int(moment(query["until"], now).timestamp() * 1e6) if query.get("until") else 1 << 62
        )
        looked = changed = 0
        before = after = Decimal(0)
        while rows := self._page(at, until):
            at = (rows[-1]["ts_us"], rows[-1]["id"])
            looked += len(rows)
            amended: list[tuple[str, Decimal | None, str, str]] = []
            for row in rows:
                price = self._price(row)
                before += row["cost_usd"] or 0
                after += price.cost_usd or 0
                if price != (row["cost_usd"], row["price_source"], row["price_version"]):
                    amended.append((row["id"], *price))
            changed += len(amended)
            if amended and not query.get("dry_run"):
                self._store().amend_costs(amended)
        return {
            "calls": looked,
            "changed": changed,
            "cost_usd_before": float(before),
            "cost_usd_after": float(after),
        }

    def _page(self, at: tuple[int, str], until: int) -> list[dict[str, Any]]:
        return self._store().query(
            f"SELECT {_COLUMNS} FROM calls WHERE toUnixTimestamp64Micro(ts) < {{until:Int64}} "
            "AND ts >= fromUnixTimestamp64Micro({ts:Int64}, 'UTC') "
            "AND (toUnixTimestamp64Micro(ts), id) > ({ts:Int64}, {id:String}) "
            f"ORDER BY ts, id LIMIT {PAGE}",
            {"ts": at[0], "id": at[1], "until": until},
        )

    def _price(self, row: Mapping[str, Any]) -> Price:
        usage = Usage(
            row["input_tokens"],
            row["output_tokens"],
            row["cache_read_tokens"],
            row["cache_write_tokens"],
            row["reasoning_tokens"],
        )
        models = (row["model_served"], row["model_requested"])
        return self._pricer.price(
            row["upstream"],
            row["provider"],
            models,
            row["service_tier"],
            row["ts_us"],
            usage,
            row["duration_us"],
        )
