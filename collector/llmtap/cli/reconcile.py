"""Stored usage and cost beside a provider's own export, by day (UTC) and model.

Formats: OpenAI `organization/usage/completions` (also embeddings) and `organization/costs`,
Anthropic `organizations/usage_report/messages` and `cost_report` (their API references), and CSV.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from llmtap.cli.client import CommandError
from llmtap.cli.export import quote

FIGURES = ("calls", "input_tokens", "output_tokens", "cost_usd")
_CSV_NAMES = {
    "day": ("day", "date", "start_date", "usage_date", "usage_date_utc"),
    "model": ("model", "model_version", "model_name"),
    "calls": ("calls", "requests", "num_model_requests", "n_requests"),
    "input_tokens": ("input_tokens", "prompt_tokens", "n_context_tokens_total"),
    "output_tokens": ("output_tokens", "completion_tokens", "n_generated_tokens_total"),
    "cost_usd": ("cost_usd", "cost", "amount_usd"),
}
_CENT = 0.01


class Export(NamedTuple):
    """What a provider says: figures by (day, model); a model of "" stands for all."""

    sums: dict[tuple[str, str], dict[str, float]]

    @property
    def figures(self) -> list[str]:
        return [f for f in FIGURES if any(f in sums for sums in self.sums.values())]


class Line(NamedTuple):
    """One figure compared. `percent`: stored against exported; None when there is no ratio."""

    day: str
    model: str
    what: str
    exported: float | None
    stored: float | None
    percent: float | None
    parts: bool
    note: str


def read_export(path: Path) -> Export:
    """Raises CommandError."""
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    rows = _json_rows(text, path) if text.lstrip()[:1] in ("{", "[") else _csv_rows(text, path)
    sums: dict[tuple[str, str], dict[str, float]] = {}
    for day, model, figures in rows:
        into = sums.setdefault((day, model), {})
        for name, value in figures.items():
            into[name] = into.get(name, 0) + value
    if not sums:
        raise CommandError(f"{path}: there is nothing to compare in it")
    return Export(sums)


Row = tuple[str, str, dict[str, float]]


def _json_rows(text: str, path: Path) -> Iterator[Row]:
    try:
        told: Any = json.loads(text)
        pages = told if isinstance(told, list) else [told]
        buckets = [bucket for page in pages for bucket in (page.get("data") or [])]
        for bucket in buckets:
            day = _day(bucket.get("start_time", bucket.get("starting_at")))
            for result in bucket.get("results") or []:
                yield day, str(result.get("model") or ""), _figures(result)
    except (ValueError, AttributeError, TypeError, KeyError) as e:
        raise CommandError(
            f"{path} is no usage or cost export that is known here ({e}); "
            "see `llmtap reconcile --help`"
        ) from e


def _figures(result: dict[str, Any]) -> dict[str, float]:
    amount = result.get("amount")
    if isinstance(amount, dict):  # OpenAI costs: dollars
        return {"cost_usd": float(amount["value"])}
    if amount is not None:  # Anthropic cost_report: cents
        return {"cost_usd": float(amount) * _CENT}
    if "uncached_input_tokens" in result:  # Anthropic: cached input is told apart
        created = result.get("cache_creation") or {}
        into = result["uncached_input_tokens"] + (result.get("cache_read_input_tokens") or 0)
        into += sum(value or 0 for value in created.values())
        return {"input_tokens": float(into), "output_tokens": float(result["output_tokens"])}
    figures = {"input_tokens": float(result["input_tokens"])}
    if result.get("output_tokens") is not None:
        figures["output_tokens"] = float(result["output_tokens"])
    if result.get("num_model_requests") is not None:
        figures["calls"] = float(result["num_model_requests"])
    return figures


def _csv_rows(text: str, path: Path) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(text))
    given = {name.strip().lower(): name for name in reader.fieldnames or [] if name}
    found = {
        what: given[name] for what, names in _CSV_NAMES.items() for name in names if name in given
    }
    if "day" not in found or not set(FIGURES) & set(found):
        raise CommandError(
            f"{path}: a CSV needs a column day and one of {', '.join(FIGURES)}; "
            f"it has {', '.join(given) or 'none'}"
        )
    for number, row in enumerate(reader, 2):
        try:
            figures = {
                what: float((row[found[what]] or "0").replace(",", "").lstrip("$"))
                for what in FIGURES
                if what in found
            }
            model = (row[found["model"]] or "").strip() if "model" in found else ""
            yield _day(row[found["day"]]), model, figures
        except (ValueError, TypeError) as e:
            raise CommandError(f"{path}, line {number}: {e}") from e


def _day(value: Any) -> str:
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC).date().isoformat()
    moment = datetime.fromisoformat(str(value).strip())
    return (moment.astimezone(UTC) if moment.tzinfo else moment).date().isoformat()


def stored_sql(exported: Export, provider: str) -> str:
    """Our sums for the exported days. Calls without usage never got anywhere: left out."""
    days = sorted({day for day, _ in exported.sums})
    only = f" AND provider = {quote(provider)}" if provider else ""
    return (
        "SELECT toString(toDate(ts)) AS day, model_requested, model_served, count() AS calls, "
        "sum(c.input_tokens) AS input_tokens, sum(c.output_tokens) AS output_tokens, "
        "toFloat64(sum(toDecimal128(c.cost_usd, 9))) AS cost_usd "
        f"FROM calls AS c WHERE toDate(ts) >= {quote(days[0])} AND toDate(ts) <= {quote(days[-1])}"
        f" AND isNotNull(c.input_tokens){only} GROUP BY day, model_requested, model_served "
        "SETTINGS output_format_json_quote_64bit_integers = 0"
    )


def compare(
    exported: Export, stored: Sequence[dict[str, Any]], tolerance: float = 1.0
) -> list[Line]:
    """Every exported figure beside ours; then what only we have. `tolerance` in per cent."""
    lines: list[Line] = []
    used: set[int] = set()
    for (day, model), figures in sorted(exported.sums.items()):
        ours = [i for i, row in enumerate(stored) if row["day"] == day and _is(model, row)]
        used.update(ours)
        for what, told in figures.items():
            mine = sum(float(stored[i][what] or 0) for i in ours) if ours else None
            lines.append(_line(day, model, what, told, mine, tolerance))
    days = {day for day, _ in exported.sums}
    for i, row in enumerate(stored):
        if i in used or row["day"] not in days:
            continue
        model = row["model_served"] or row["model_requested"]
        for what in exported.figures:
            if mine := float(row[what] or 0):
                note = "not in the export"
                lines.append(Line(row["day"], model, what, None, mine, None, True, note))
    return lines


def _is(model: str, row: dict[str, Any]) -> bool:
    return not model or model in (row["model_served"], row["model_requested"])


def _line(
    day: str, model: str, what: str, told: float, mine: float | None, tolerance: float
) -> Line:
    if mine is None:
        return Line(day, model, what, told, None, None, told != 0, "nothing stored" * (told != 0))
    percent = (mine - told) / told * 100 if told else None
    off = mine != told if percent is None else abs(percent) > tolerance
    return Line(day, model, what, told, mine, percent, off, "")
