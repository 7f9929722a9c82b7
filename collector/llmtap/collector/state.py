"""What the collector knows about itself: counters and health, read by the admin API.

Written by the pipeline's thread, read by others; single attributes, so no lock is needed.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

PROBLEM_S = 600.0
"""A problem not seen again for this long is no reason to call llmtap degraded."""
MAX_PROBLEMS = 50


@dataclass(slots=True)
class CollectorState:
    """Since the collector started."""

    started: float = field(default_factory=time.time)
    calls_stored: Counter[str] = field(default_factory=Counter[str])
    """By status."""
    batches: int = 0
    insert_seconds: float = 0.0
    insert_retries: int = 0
    decode_errors: int = 0
    usage_problems: int = 0
    losses: Counter[str] = field(default_factory=Counter[str])
    """By reason, as told by writers and found by the collector."""
    dead_letters: int = 0
    backlog_bytes: int = 0
    open_calls: int = 0
    store_error: str = ""
    """Why the last insert failed; empty once one succeeded."""
    ready: bool = False
    _problems: dict[str, float] = field(default_factory=dict[str, float])
    """Things found wrong in the spool, and when last (monotonic)."""

    def problem(self, text: str) -> bool:
        """Notes what was found wrong. False when it was already known a short while ago."""
        now = time.monotonic()
        known = self._problems.pop(text, None)
        self._problems[text] = now
        if len(self._problems) > MAX_PROBLEMS:
            del self._problems[next(iter(self._problems))]
        return known is None or now - known > PROBLEM_S

    def problems(self) -> list[str]:
        """What was found wrong lately, the latest last."""
        oldest = time.monotonic() - PROBLEM_S
        return [text for text, at in list(self._problems.items()) if at > oldest]
