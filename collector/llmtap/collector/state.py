"""What the collector knows about itself: counters and health, read by the admin API.

Written by the pipeline's thread, read by others; single attributes, so no lock is needed.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field


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
    problems: deque[str] = field(default_factory=lambda: deque[str](maxlen=20))
    """The last things found wrong in the spool."""
    ready: bool = False
