"""The worker's spool writer and the thread that keeps it durable.

Every `sync_ms` the thread makes written records durable; about once a second it measures the disk,
rolls segments and writes the worker's status file. The event loop's thread only appends.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from llmtap.config import Config
from llmtap.proxy.counters import write_status
from llmtap.spool.writer import Level, Limits, SpoolWriter

log = logging.getLogger("llmtap.proxy")

TICK_S = 1.0


class Spooling:
    """Owns the writer; start and stop are called once each."""

    def __init__(self, config: Config, slot: int) -> None:
        spool = config.spool
        limits = Limits(
            max_bytes=spool.max_bytes,
            min_free_bytes=spool.min_free_bytes,
            segment_bytes=spool.segment_bytes,
            segment_seconds=spool.segment_seconds,
        )
        self.writer = SpoolWriter(config.data / "spool", limits)
        self._interval = spool.sync_ms / 1000
        self._status_path = config.data / "run" / f"worker-{slot}.json"
        self._slot = slot
        self._stop = threading.Event()
        self._status: Callable[[], dict[str, Any]] = dict
        self._thread = threading.Thread(target=self._run, name="spool sync", daemon=True)
        self._level = Level.OK

    def start(self, status: Callable[[], dict[str, Any]]) -> None:
        """`status()` gives the worker's own part of the status file."""
        self._status = status
        self._status_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._tick()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._tick()
        self.writer.close()

    def _run(self) -> None:
        next_tick = time.monotonic() + TICK_S
        while not self._stop.wait(self._interval):
            try:
                self.writer.sync()
                if time.monotonic() >= next_tick:
                    next_tick = time.monotonic() + TICK_S
                    self._tick()
            except Exception:
                log.exception("spool sync failed; going on")

    def _tick(self) -> None:
        self.writer.tick()
        level = self.writer.level
        if level != self._level:
            log.warning("spool level is now %s (was %s)", level.name, self._level.name)
            self._level = level
        status = {
            "slot": self._slot,
            "pid": os.getpid(),
            "at_us": time.time_ns() // 1000,
            "writer_id": self.writer.writer_id,
            "spool_level": level.name,
            "spool": self.writer.stats.as_dict(),
            **self._status(),
        }
        try:
            write_status(self._status_path, status)
        except OSError as e:
            log.warning("cannot write %s: %s", self._status_path, e.strerror)
