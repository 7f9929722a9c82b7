"""Live rows for `/api/tail`: from the pipeline's thread to any number of slow readers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from llmtap.collector.store.rows import CallRow

SUMMARY = (
    *("id", "ts", "upstream", "provider", "dialect", "operation", "path", "model_requested"),
    *("model_served", "status", "http_status", "error_type", "stream", "duration_us", "ttft_us"),
    *("input_tokens", "output_tokens", "usage_source", "cost_usd", "finish_reason", "session_id"),
    *("user_id", "trace_id"),
)
QUEUE = 1000


class TailHub:
    """Readers that fall behind lose the oldest rows, never slow the pipeline."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.dropped = 0
        """Rows that readers were too slow for, all readers together."""
        self._queues: set[asyncio.Queue[dict[str, Any]]] = set()

    def publish(self, rows: Sequence[CallRow]) -> None:
        """Called from the pipeline's thread after rows were stored."""
        if not self._queues:
            return
        items = [{name: getattr(row, name) for name in SUMMARY} for row in rows[-QUEUE:]]
        self._loop.call_soon_threadsafe(self._put, items)

    def _put(self, items: list[dict[str, Any]]) -> None:
        for queue in self._queues:
            for item in items:
                if queue.full():
                    queue.get_nowait()
                    self.dropped += 1
                queue.put_nowait(item)

    def subscribe(self) -> asyncio.Queue[dict[str, Any]]:
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(QUEUE)
        self._queues.add(queue)
        return queue

    def unsubscribe(self, queue: asyncio.Queue[dict[str, Any]]) -> None:
        self._queues.discard(queue)
