"""The collector's way of working, on one screen: receive → decode → enrich → store → commit.

Runs in one thread of its own. Whatever goes wrong, data stays in the spool until it is stored, or
lies in `dead/` with a reason and is counted.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence

from llmtap.collector.enrich.assemble import assemble
from llmtap.collector.enrich.row import Enricher
from llmtap.collector.receivers.spool import Batch, JoinedCall, SpoolReceiver
from llmtap.collector.state import CollectorState
from llmtap.collector.store import (
    CallRow,
    LossRow,
    PermanentInsertError,
    RetryableInsertError,
    Store,
)
from llmtap.config import Config
from llmtap.spool.records import PayloadError

log = logging.getLogger("llmtap.collector")

IDLE_S = 0.05
BACKOFF_S = 0.5
BACKOFF_MAX_S = 60.0


class Pipeline:
    """Moves calls from the spool into the store."""

    def __init__(
        self,
        config: Config,
        receiver: SpoolReceiver,
        store: Store,
        state: CollectorState,
        publish: Callable[[Sequence[CallRow]], None],
    ) -> None:
        self._config = config
        self._receiver = receiver
        self._store = store
        self._state = state
        self._publish = publish
        self._enricher = Enricher(config)
        self._stop = threading.Event()
        self._dead = config.data / "dead"

    def run(self) -> None:
        """Until `stop`; then once more, until the spool has nothing that is ready."""
        self._receiver.load()
        for problem in self._receiver.problems:
            self._problem(problem)
        self._state.ready = True
        while not self._stop.is_set():
            started = time.monotonic()
            if self.step():
                self._stop.wait(self._pause(started))
            else:
                self._stop.wait(IDLE_S)
        while self.step():
            pass

    def stop(self) -> None:
        self._stop.set()

    def step(self) -> bool:
        """One batch. False when there was nothing, or it could not be stored before the stop."""
        store = self._config.store
        batch = self._receiver.next_batch(store.batch_rows, store.batch_bytes)
        self._note(batch)
        if not batch:
            self._durably(self._receiver.settle)
            return False
        rows, losses = self._rows(batch)
        if not self._durably(lambda: self._receiver.plan(batch)):
            return False
        if not self._insert(rows, losses, batch.token):
            return False
        self._durably(self._receiver.commit)
        self._count(rows, losses)
        self._publish(rows)
        return True

    def _pause(self, started: float) -> float:
        """Small inserts make small parts: wait a little, unless there is much to do."""
        if self._state.backlog_bytes > self._config.store.batch_bytes:
            return 0.0
        return max(0.0, self._config.store.batch_ms / 1000 - (time.monotonic() - started))

    def _rows(self, batch: Batch) -> tuple[list[CallRow], list[LossRow]]:
        rows: list[CallRow] = []
        losses = [_loss_row(loss, batch.token) for loss in batch.losses]
        for joined in batch.calls:
            try:
                captured = assemble(joined.start, joined.end, joined.writer_id)
            except PayloadError as e:
                losses.append(self._dead_letter(joined.id, str(e), batch.token, joined))
                continue
            rows.append(self._enricher.row(captured, batch.token))
        return rows, losses

    def _insert(self, rows: list[CallRow], losses: list[LossRow], token: str) -> bool:
        """Tries for as long as it takes; False only when told to stop meanwhile."""
        wait = BACKOFF_S
        while True:
            started = time.monotonic()
            try:
                losses = losses + self._insert_calls(rows, token, token)
                self._store.insert_losses(losses, token)
            except RetryableInsertError as e:
                self._state.insert_retries += 1
                if str(e) != self._state.store_error:
                    log.error("the store does not take rows, will try again: %s", e)
                self._state.store_error = str(e)
                self._note(None)
                if self._stop.wait(wait * random.uniform(0.8, 1.2)):
                    return False
                wait = min(BACKOFF_MAX_S, wait * 2)
                continue
            if self._state.store_error:
                log.info("the store takes rows again")
            self._state.store_error = ""
            self._state.batches += 1
            self._state.insert_seconds += time.monotonic() - started
            return True

    def _insert_calls(self, rows: list[CallRow], token: str, batch: str) -> list[LossRow]:
        """Inserts; a batch that is refused for good is halved until the bad row stands alone."""
        try:
            self._store.insert_calls(rows, token)
        except PermanentInsertError as e:
            if len(rows) == 1:
                log.error("row %s is refused by the store, kept in dead/: %s", rows[0].id, e)
                return [self._dead_letter(rows[0].id, str(e), batch, rows[0]._asdict())]
            half = len(rows) // 2
            first = self._insert_calls(rows[:half], f"{token}:a", batch)
            return first + self._insert_calls(rows[half:], f"{token}:b", batch)
        return []

    def _dead_letter(
        self, call_id: str, reason: str, batch: str, what: JoinedCall | dict[str, object]
    ) -> LossRow:
        self._state.dead_letters += 1
        self._dead.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = "".join(c for c in call_id if c.isalnum() or c == "-")[:64] or "unknown"
        path = self._dead / f"{name}.json"
        content = what if isinstance(what, dict) else what._asdict()
        text = json.dumps({"reason": reason, "call": content}, default=repr)
        try:
            path.touch(mode=0o600)
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError as e:
            log.error("cannot write %s: %s", path, e.strerror)
        now = int(time.time() * 1e6)
        return LossRow(now, now, "poison", 1, f"{call_id}: {reason}"[:1000], "", batch)

    def _durably(self, action: Callable[[], None]) -> bool:
        """Runs an action that writes the checkpoint, again until the disk lets it."""
        wait = BACKOFF_S
        while True:
            try:
                action()
            except OSError as e:
                self._problem(f"cannot write the checkpoint, trying again: {e.strerror}")
                if self._stop.wait(wait):
                    return False
                wait = min(BACKOFF_MAX_S, wait * 2)
                continue
            return True

    def _note(self, batch: Batch | None) -> None:
        state = self._state
        state.backlog_bytes = self._receiver.backlog_bytes()
        state.open_calls = self._receiver.open_calls()
        for problem in batch.problems if batch is not None else []:
            self._problem(problem)

    def _problem(self, text: str) -> None:
        if self._state.problem(text):
            log.warning("spool: %s", text)

    def _count(self, rows: list[CallRow], losses: list[LossRow]) -> None:
        state = self._state
        for row in rows:
            state.calls_stored[row.status] += 1
            state.decode_errors += bool(row.decode_error)
            state.usage_problems += bool(row.usage_problem)
        for loss in losses:
            state.losses[loss.reason] += loss.records


def _loss_row(loss: dict[str, object], batch: str) -> LossRow:
    now = int(time.time() * 1e6)

    def number(key: str, default: int) -> int:
        value = loss.get(key)
        return value if isinstance(value, int) and value >= 0 else default

    return LossRow(
        ts=number("from_us", now),
        to_ts=number("to_us", now),
        reason=str(loss.get("reason", "")),
        records=number("count", 1),
        detail=str(loss.get("detail", "")),
        worker=str(loss.get("worker", "")),
        batch=batch,
    )
