"""Is llmtap well? Made from the collector's state and the workers' status files."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import orjson

from llmtap.collector.state import CollectorState

STALE_S = 10.0
"""A worker that has not written its status for this long is reported."""


@dataclass(frozen=True, slots=True)
class Health:
    """`ok` or `degraded` with reasons a person can act on; `ready` once calls are being stored."""

    status: str
    ready: bool
    reasons: list[str] = field(default_factory=list[str])


def worker_statuses(run: Path) -> list[dict[str, Any]]:
    """The status files that proxy workers write (see `llmtap.proxy.counters`)."""
    found: list[dict[str, Any]] = []
    for path in sorted(run.glob("worker-*.json")):
        try:
            value: Any = orjson.loads(path.read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(value, dict):
            found.append(cast("dict[str, Any]", value))
    return found


def health(state: CollectorState, run: Path) -> Health:
    """The present health."""
    reasons: list[str] = []
    if state.store_error:
        reasons.append(f"the store does not take rows: {state.store_error}")
    for status in worker_statuses(run):
        level = status.get("spool_level", "OK")
        if level != "OK":
            reasons.append(f"worker {status.get('slot')}: spool level {level}")
        if time.time() - float(status.get("at_us", 0)) / 1e6 > STALE_S:
            reasons.append(f"worker {status.get('slot')}: no status for {STALE_S:g} s")
    if state.dead_letters:
        reasons.append(f"{state.dead_letters} records could not be stored; see dead/")
    reasons += state.problems()[-3:]
    return Health("degraded" if reasons else "ok", state.ready, reasons)
