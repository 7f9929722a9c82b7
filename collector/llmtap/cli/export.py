"""The SQL of `llmtap export`: filters become quoted literals of one reading statement."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from llmtap.cli.client import CommandError

_COLUMNS = {"status": "status", "upstream": "upstream", "user": "user_id", "session": "session_id"}


def export_sql(filters: Mapping[str, str]) -> str:
    """Raises CommandError on a time that is none."""
    from llmtap.collector.admin.questions import BadQuestionError, moment

    conditions: list[str] = []
    for name, sign in (("since", ">="), ("until", "<")):
        if value := filters.get(name):
            try:
                at = moment(value, datetime.now(UTC))
            except BadQuestionError as e:
                raise CommandError(str(e)) from e
            conditions.append(f"ts {sign} fromUnixTimestamp64Micro({int(at.timestamp() * 1e6)})")
    for name, column in _COLUMNS.items():
        if value := filters.get(name):
            conditions.append(f"{column} = {quote(value)}")
    if value := filters.get("model"):
        conditions.append(f"(model_requested = {quote(value)} OR model_served = {quote(value)})")
    if value := filters.get("search"):
        text = quote(value)
        conditions.append(
            f"(positionCaseInsensitiveUTF8(input_text, {text}) > 0"
            f" OR positionCaseInsensitiveUTF8(output_text, {text}) > 0)"
        )
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"SELECT * FROM calls{where} ORDER BY ts"


def quote(value: str) -> str:
    """A ClickHouse string literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
