"""Which ClickHouse settings a reader may choose over HTTP; the others are left out, not refused.

Clients send settings that would change nothing here, or that a reader must not have. A setting is
allowed when it shapes the result or tightens a limit; none that names a file, a schema or a
template, or that lifts a limit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from llmtap.collector.store.client import READ_LIMITS

_LIMITS = {
    "max_threads": 16,
    **{name: value for name, value in READ_LIMITS.items() if isinstance(value, int)},
}
_NUMBERS = frozenset(
    ["limit", "offset", "max_block_size", "extremes", "join_use_nulls", "group_by_use_nulls"]
)
_SHAPES = re.compile(
    r"output_format_(?:json|csv|tsv|pretty|values|markdown|decimal|parquet|arrow)_\w+"
    r"|date_time_output_format|format_csv_delimiter|session_timezone|result_overflow_mode"
)
_VALUE = re.compile(r"[\w/+.,:;|~ -]{0,64}", re.ASCII)


def chosen(asked: Mapping[str, str]) -> dict[str, int | str]:
    """The allowed ones of what a request asks for; limits can only be lowered."""
    found: dict[str, int | str] = {}
    for name, value in asked.items():
        number = int(value) if value.isdecimal() and len(value) < 16 else None
        if name in _LIMITS:
            if number is not None and 0 < number < _LIMITS[name]:
                found[name] = number
        elif name in _NUMBERS:
            if number is not None:
                found[name] = number
        elif _SHAPES.fullmatch(name) and _VALUE.fullmatch(value):
            found[name] = value
    return found
