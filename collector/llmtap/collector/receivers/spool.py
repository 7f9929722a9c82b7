"""Joins the spool's START and END records into calls, and remembers how far it has come.

A batch is defined by positions: from the checkpoint's to the plan's, per writer, and by the calls
declared lost. The plan is durable before the batch is inserted, so after a crash the very same
batch is made again, and the store's deduplication makes the second insert a no-op. Files go only
after the checkpoint that no longer needs them. One thread owns this object.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

from llmtap.spool.checkpoint import CheckpointFile
from llmtap.spool.format import KIND_END, KIND_LOSS, KIND_START
from llmtap.spool.reader import Position, Record, Ref, SpoolReader

_START_ID = slice(11, 47)
"""Where the call's id stands in a payload: behind u32 and `{"id":"`."""
_END_ID = slice(19, 55)
HOLD_BYTES = 64 << 20
"""START payloads kept in memory for their END; beyond it they are read again from disk."""


class JoinedCall(NamedTuple):
    """One call; `end` is None when it is lost."""

    id: str
    start: bytes
    end: bytes | None
    writer_id: str


@dataclass(slots=True)
class Batch:
    """What one insert brings."""

    token: str
    calls: list[JoinedCall] = field(default_factory=list[JoinedCall])
    losses: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    bytes: int = 0
    problems: list[str] = field(default_factory=list[str])

    def __bool__(self) -> bool:
        return bool(self.calls or self.losses)


@dataclass(slots=True)
class _Writer:
    """The joiner's state for one writer."""

    position: Position | None = None
    open: dict[str, Ref] = field(default_factory=dict[str, Ref])
    done: bool = False
    """Dead and wholly read: its folder goes with the next checkpoint."""


class SpoolReceiver:
    """Reads batches; `commit` after each has been stored."""

    def __init__(self, root: Path, *, reader: SpoolReader | None = None) -> None:
        self.root = root
        self.reader = reader or SpoolReader(root)
        self._file = CheckpointFile(root / "checkpoint.json")
        self._writers: dict[str, _Writer] = {}
        self._held: dict[str, bytes] = {}
        self._held_bytes = 0
        self._number = 0
        self._plan: dict[str, Any] | None = None
        self._epoch = secrets.token_hex(8)
        """Names this history: tokens must not repeat when a checkpoint was lost."""
        self._saved: dict[str, Any] = {}
        self.problems: list[str] = []

    def load(self) -> None:
        """Takes up where the last collector stopped. Raises OSError when the disk refuses."""
        state = self._file.load()
        if self._file.problem:
            self.problems.append(self._file.problem)
        if not state:
            return
        self._epoch = str(state["epoch"])
        self._number = int(state.get("batch", 0))
        self._plan = state.get("plan")
        present = set(self.reader.writers())
        for writer_id, saved in cast("dict[str, Any]", state.get("writers", {})).items():
            if writer_id not in present:
                continue  # done and removed
            writer = self._writers[writer_id] = _Writer()
            if saved.get("at"):
                writer.position = Position(*saved["at"])
            for call_id, place in saved.get("open", {}).items():
                writer.open[call_id] = Ref(writer_id, *place)
        self._saved = self._state()

    # reading
    def next_batch(self, max_calls: int, max_bytes: int) -> Batch:
        """The planned batch of a former life first, else a new one (may be empty)."""
        if self._plan is not None:
            return self._replay(self._plan)
        self._number += 1
        batch = Batch(token=f"{self._epoch}-{self._number}")
        for writer_id in self.reader.writers():
            self._read_writer(writer_id, batch, max_calls, max_bytes)
            if len(batch.calls) >= max_calls or batch.bytes >= max_bytes:
                break
        if not batch:
            self._number -= 1
        return batch

    def _read_writer(self, writer_id: str, batch: Batch, max_calls: int, max_bytes: int) -> None:
        writer = self._writers.setdefault(writer_id, _Writer())
        while not writer.done and len(batch.calls) < max_calls and batch.bytes < max_bytes:
            room = max_calls - len(batch.calls)
            result = self.reader.read(
                writer_id, writer.position, max_bytes=max_bytes - batch.bytes, max_records=2 * room
            )
            for record in result.records:
                self._take(writer, record, batch)
            batch.problems += result.problems
            moved = result.position != writer.position
            writer.position = result.position
            if result.exhausted:
                self._lose_open(writer_id, writer, batch)
                writer.done = True
            if not moved or not result.records:
                return

    def _take(self, writer: _Writer, record: Record, batch: Batch) -> None:
        payload = record.payload
        if record.kind == KIND_START:
            call_id = payload[_START_ID].decode("ascii", "replace")
            writer.open[call_id] = record.ref
            if self._held_bytes < HOLD_BYTES:
                self._held[call_id] = payload
                self._held_bytes += len(payload)
        elif record.kind == KIND_END:
            call_id = payload[_END_ID].decode("ascii", "replace")
            ref = writer.open.pop(call_id, None)
            start = self._start(call_id, ref)
            if start is None:
                detail = f"call {call_id} ended, but its beginning is gone"
                batch.losses.append(_loss("damaged", detail, record.ref.writer_id))
                return
            batch.calls.append(JoinedCall(call_id, start, payload, record.ref.writer_id))
            batch.bytes += len(start) + len(payload)
        elif record.kind == KIND_LOSS:
            try:
                told = cast("dict[str, Any]", json.loads(payload))
            except ValueError:
                told = {"reason": "damaged", "detail": "a loss record that can not be read"}
            batch.losses.append({**_loss("", "", record.ref.writer_id), **told})

    def _start(self, call_id: str, ref: Ref | None) -> bytes | None:
        held = self._held.pop(call_id, None)
        if held is not None:
            self._held_bytes -= len(held)
            return held
        record = self.reader.fetch(ref) if ref is not None else None
        return record.payload if record is not None else None

    def _lose_open(self, writer_id: str, writer: _Writer, batch: Batch) -> None:
        for call_id, ref in writer.open.items():
            start = self._start(call_id, ref)
            if start is None:
                batch.losses.append(_loss("damaged", f"call {call_id}", writer_id))
            else:
                batch.calls.append(JoinedCall(call_id, start, None, writer_id))
        writer.open = {}

    # crash safety
    def plan(self, batch: Batch) -> None:
        """Makes the batch's definition durable; call before inserting. Raises OSError."""
        if self._plan is not None:
            return
        writers = {
            writer_id: {"at": writer.position, "done": writer.done}
            for writer_id, writer in self._writers.items()
        }
        plan = {"token": batch.token, "writers": writers}
        base = self._saved or {"version": 1, "epoch": self._epoch, "writers": {}}
        self._file.save({**base, "batch": self._number, "plan": plan})
        self._plan = plan

    def _replay(self, plan: dict[str, Any]) -> Batch:
        """The batch that a plan defines, from the positions before it."""
        batch = Batch(token=str(plan["token"]))
        for writer_id, target in cast("dict[str, Any]", plan["writers"]).items():
            writer = self._writers.setdefault(writer_id, _Writer())
            if target["at"]:
                until = Position(*target["at"])
                result = self.reader.read(
                    writer_id, writer.position, max_bytes=0, max_records=0, until=until
                )
                for record in result.records:
                    self._take(writer, record, batch)
                batch.problems += result.problems
                writer.position = until
            if target["done"]:
                self._lose_open(writer_id, writer, batch)
                writer.done = True
        return batch

    def commit(self) -> None:
        """The batch is stored: move on, and remove files that nobody needs. Raises OSError."""
        for writer_id, writer in self._writers.items():
            self._carry(writer_id, writer)
        state = self._state()
        self._file.save({**state, "plan": None})
        self._saved = state
        self._plan = None
        for writer_id, writer in list(self._writers.items()):
            if writer.done:
                self.reader.remove_writer(writer_id)
                del self._writers[writer_id]
            elif writer.position is not None:
                self.reader.retire(writer_id, writer.position, writer.open.values())

    def settle(self) -> None:
        """Nothing to store: forget writers that are done. Raises OSError."""
        if self._plan is None and any(writer.done for writer in self._writers.values()):
            self.commit()

    def _carry(self, writer_id: str, writer: _Writer) -> None:
        """Moves open STARTs out of segments that are otherwise done, so that those can go."""
        if writer.position is None:
            return
        old = {
            call_id: ref
            for call_id, ref in writer.open.items()
            if not ref.segment.startswith("carry-") and ref.segment < writer.position.segment
        }
        if not old:
            return
        moved = self.reader.carry(list(old.values()))
        if len(moved) == len(old):
            writer.open.update(zip(old, moved, strict=True))

    def _state(self) -> dict[str, Any]:
        writers: dict[str, Any] = {}
        for writer_id, writer in self._writers.items():
            opened = {call_id: ref[1:] for call_id, ref in writer.open.items()}
            writers[writer_id] = {"at": writer.position, "open": opened}
        return {
            "version": 1,
            "epoch": self._epoch,
            "batch": self._number,
            "writers": writers,
        }

    # for people
    def open_calls(self) -> int:
        return sum(len(writer.open) for writer in self._writers.values())

    def backlog_bytes(self) -> int:
        total = 0
        for writer_id in self.reader.writers():
            known = self._writers.get(writer_id)
            total += self.reader.backlog_bytes(writer_id, known.position if known else None)
        return total


def _loss(reason: str, detail: str, writer_id: str) -> dict[str, Any]:
    return {"reason": reason, "count": 1, "detail": detail, "worker": writer_id}
