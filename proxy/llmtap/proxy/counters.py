"""What a worker counts, and the file it tells it in.

Each worker rewrites `<data>/run/worker-<slot>.json` about once a second; the collector sums the
files into `/metrics` and health. Plain integers, only ever raised by the event loop's thread.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson


@dataclass(slots=True)
class Counters:
    """Since the worker started."""

    calls: int = 0
    connections: int = 0
    refused: Counter[str] = field(default_factory=Counter[str])
    """Requests answered by llmtap itself before they became a call, by reason."""

    def refuse(self, reason: str) -> None:
        self.refused[reason] += 1

    def as_dict(self) -> dict[str, Any]:
        return {"calls": self.calls, "connections": self.connections, "refused": dict(self.refused)}


def write_status(path: Path, status: dict[str, Any]) -> None:
    """Replaces the status file in one step. Raises OSError."""
    part = path.with_suffix(".part")
    part.write_bytes(orjson.dumps(status))
    part.chmod(0o600)
    part.replace(path)
