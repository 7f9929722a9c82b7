"""How long rows and texts are kept: table TTLs from the configuration.

Changed only when they differ, since a TTL change may rewrite parts. Texts go by column TTL, so
counts, costs and timings outlive the prompts.
"""

from __future__ import annotations

from collections.abc import Callable

TEXT_COLUMNS = (
    *("input_messages", "output_messages", "input_text", "output_text"),
    *("tool_definitions", "usage_raw"),
)


def retention_statements(
    definition: Callable[[str], str], calls_days: int, bodies_days: int, traces_days: int
) -> list[str]:
    """ALTERs that are still needed; `definition` gives a table's CREATE statement. 0: for ever."""
    out: list[str] = []
    for table, column, days in (
        ("calls", "ts", calls_days),
        ("otel_traces", "Timestamp", traces_days),
        ("otel_traces_trace_id_ts", "Start", traces_days),
    ):
        have = definition(table)
        want = f"TTL toDateTime({column}) + toIntervalDay({days})"
        has_row_ttl = "\nTTL " in have or ") TTL " in have
        if days and want not in have:
            out.append(f"ALTER TABLE {table} MODIFY {want}")
        elif not days and has_row_ttl:
            out.append(f"ALTER TABLE {table} REMOVE TTL")
    have = definition("calls")
    for name in TEXT_COLUMNS:
        line = next((x for x in have.splitlines() if x.strip().startswith(f"`{name}`")), "")
        want = f"TTL toDateTime(ts) + toIntervalDay({bodies_days})"
        if bodies_days and want not in line:
            out.append(f"ALTER TABLE calls MODIFY COLUMN {name} String {want}")
        elif not bodies_days and " TTL " in line:
            out.append(f"ALTER TABLE calls MODIFY COLUMN {name} REMOVE TTL")
    return out
