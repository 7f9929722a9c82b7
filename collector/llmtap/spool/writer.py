"""The writing end: appends records to segments; one writer per proxy worker process.

`append_parts` runs on an event loop: one write per record, no fsync, no exception. A record that
can not be written is dropped, counted by reason, and told later as a LOSS record. `sync` and `tick`
belong to another thread. What `append_parts` answered True for survives the death of the process at
once, and a power cut after the next `sync`.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from llmtap.spool.filesystem import Filesystem, OsFilesystem
from llmtap.spool.format import KIND_LOSS, MAX_PAYLOAD, record_header, segment_header

PROBE_S = 5.0
"""After a refused write, nothing is tried for this long."""
LOSS_EVERY_S = 10.0


class SpoolError(RuntimeError):
    """The spool folder can not be used at all; the text says why."""


class Level(IntEnum):
    """How full the spool is; what the caller and the writer do about it."""

    OK = 0
    WARN = 1
    METADATA_ONLY = 2
    """The caller leaves bodies out, so that counts and costs stay right for longer."""
    FULL = 3
    """The writer drops the newest records whole."""


@dataclass(frozen=True)
class Limits:
    """Bounds of the whole spool (all writers) and of one segment."""

    max_bytes: int = 2 << 30
    min_free_bytes: int = 1 << 30
    segment_bytes: int = 64 << 20
    segment_seconds: float = 60.0
    warn: float = 0.70
    metadata_only: float = 0.90


@dataclass
class WriterStats:
    """Since the writer began. `dropped` by reason: full, no_space, io_error, too_large."""

    records: int = 0
    bytes: int = 0
    segments: int = 0
    sync_errors: int = 0
    dropped: Counter[str] = field(default_factory=Counter[str])

    def as_dict(self) -> dict[str, int | dict[str, int]]:
        return {
            "records": self.records,
            "bytes": self.bytes,
            "segments": self.segments,
            "sync_errors": self.sync_errors,
            "dropped": dict(self.dropped),
        }


@dataclass
class _Loss:
    count: int = 0
    from_us: int = 0
    to_us: int = 0


class SpoolWriter:
    """Appends to `<root>/<writer_id>/`. Raises SpoolError from the constructor only."""

    def __init__(
        self,
        root: Path,
        limits: Limits | None = None,
        *,
        filesystem: Filesystem | None = None,
        wall_clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.root = root
        self.limits = limits or Limits()
        self.stats = WriterStats()
        self.level = Level.OK
        self._fs = filesystem or OsFilesystem()
        self._wall = wall_clock
        self._monotonic = monotonic
        self.writer_id = f"{int(wall_clock() * 1000):012x}{os.getpid():08x}{secrets.token_hex(6)}"
        self.folder = root / self.writer_id
        self._mutex = threading.Lock()  # append and the sync thread's loss records
        self._fd = -1
        self._path = self.folder
        self._offset = 0
        self._opened = 0.0
        self._seq = 1
        self._dirty = False
        self._roll_wanted = False
        self._retired: list[int] = []
        self._blocked_until = 0.0
        self._losses: dict[str, _Loss] = {}
        self._loss_next = 0.0
        self._lock_fd = self._make_folder()

    def _make_folder(self) -> int:
        """The folder gets its name once it is locked: no reader ever takes it for a dead one."""
        fs, hidden = self._fs, self.root / f".{self.writer_id}"
        try:
            fs.make_dir(self.root)
            fs.make_dir(hidden)
            lock_fd = fs.lock(hidden / "lock")
            fs.rename(hidden, self.folder)
            fs.sync_dir(self.root)
        except OSError as e:
            raise SpoolError(
                f"cannot write the spool at {self.root}: {e.strerror}. "
                "Check that the folder is writable, or choose another with --data / LLMTAP_DATA"
            ) from e
        return lock_fd

    # the event loop's side
    def append_parts(self, kind: int, parts: Sequence[bytes]) -> bool:
        """Appends one record whose payload is `parts` joined. False: dropped and counted."""
        with self._mutex:
            if self.level >= Level.FULL and kind != KIND_LOSS:
                return self._drop("full")
            if self._blocked_until and self._monotonic() < self._blocked_until:
                return self._drop("no_space")
            refused = self._append(kind, parts)
            return self._drop(refused) if refused else True

    def append(self, kind: int, payload: bytes) -> bool:
        """`append_parts` of one part."""
        return self.append_parts(kind, (payload,))

    def _append(self, kind: int, parts: Sequence[bytes]) -> str:
        """Why the record could not be written; empty when it was."""
        header = record_header(kind, self._seq, parts)
        size = len(header) + sum(map(len, parts))
        if size - len(header) > MAX_PAYLOAD:
            return "too_large"
        if self._fd < 0 and not self._open_segment():
            return "io_error"
        try:
            written = self._fs.write(self._fd, (header, *parts))
            if written != size:
                rest = b"".join((header, *parts))[written:]
                while rest:
                    rest = rest[self._fs.write(self._fd, (rest,)) :]
        except OSError as e:
            self._write_failed()
            self._blocked_until = self._monotonic() + PROBE_S
            full = e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            return "no_space" if full else "io_error"
        self._blocked_until = 0.0
        self._offset += size
        self._seq += 1
        self._dirty = True
        self.stats.records += 1
        self.stats.bytes += size
        if self._offset >= self.limits.segment_bytes or self._roll_wanted:
            self._leave_segment()
        return ""

    def _drop(self, reason: str) -> bool:
        self.stats.dropped[reason] += 1
        now_us = int(self._wall() * 1e6)
        loss = self._losses.setdefault(reason, _Loss(from_us=now_us))
        loss.count += 1
        loss.to_us = now_us
        return False

    def _write_failed(self) -> None:
        """Part of a record may stand at the end: cut it off, or never write behind it."""
        try:
            self._fs.truncate(self._fd, self._offset)
        except OSError:
            self._leave_segment()

    def _open_segment(self) -> bool:
        fs, path = self._fs, self.folder / f"{self._seq:016x}.seg"
        header = segment_header(self.writer_id, self._seq, int(self._wall() * 1e6))
        try:
            fs.make_dir(self.folder)
            fd = fs.create(path)
        except OSError:
            self._blocked_until = self._monotonic() + PROBE_S
            return False
        try:
            if fs.write(fd, (header,)) != len(header):
                raise OSError(errno.ENOSPC, "short write")
            fs.sync_dir(self.folder)
        except OSError:
            fs.close(fd)
            try:
                fs.unlink(path)
            except OSError:
                # An empty or torn segment: readers step over it, but its name is taken now.
                self._seq += 1
            self._blocked_until = self._monotonic() + PROBE_S
            return False
        self._fd, self._path, self._offset = fd, path, len(header)
        self._opened = self._monotonic()
        self._roll_wanted = False
        self.stats.segments += 1
        return True

    def _leave_segment(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._retired.append(fd)  # synced and closed by `sync`, which may hold it right now

    # the sync thread's side
    def sync(self) -> None:
        """Makes all appended records durable. A failed sync is never retried on the same file."""
        while self._retired:
            fd = self._retired.pop(0)
            self._sync_fd(fd)
            self._fs.close(fd)
        if self._dirty and self._fd >= 0:
            self._dirty = False
            fd = self._fd
            if not self._sync_fd(fd):
                with self._mutex:
                    if self._fd == fd:
                        self._leave_segment()

    def _sync_fd(self, fd: int) -> bool:
        try:
            self._fs.fdatasync(fd)
        except OSError:
            self.stats.sync_errors += 1
            return False
        return True

    def tick(self) -> None:
        """About once a second: measures, ages segments, tells losses."""
        self.level = self._measure()
        now = self._monotonic()
        if self._fd >= 0 and self._offset > 64:
            if now - self._opened > self.limits.segment_seconds:
                self._roll_wanted = True
            try:
                self._fs.size(self._path)
            except OSError:
                with self._mutex:
                    self._leave_segment()  # deleted under us: begin anew
        if self._losses and now >= self._loss_next:
            self._loss_next = now + LOSS_EVERY_S
            self._tell_losses()

    def _tell_losses(self) -> None:
        with self._mutex:
            for reason, loss in list(self._losses.items()):
                told = {"reason": reason, "count": loss.count}
                told |= {"from_us": loss.from_us, "to_us": loss.to_us}
                if self._append(KIND_LOSS, (json.dumps(told).encode(),)):
                    return  # the disk still refuses; kept for later
                del self._losses[reason]

    def _measure(self) -> Level:
        limits = self.limits
        try:
            used = spool_bytes(self.root, self._fs)
            free = self._fs.free_bytes(self.root)
        except OSError:
            return self.level
        if free < limits.min_free_bytes:
            return Level.FULL
        share = used / limits.max_bytes
        if share >= 1:
            return Level.FULL
        # The floor counts too: near it, bodies go first.
        if share >= limits.metadata_only or free < limits.min_free_bytes * 1.1:
            return Level.METADATA_ONLY
        return Level.WARN if share >= limits.warn else Level.OK

    def close(self) -> None:
        """Tells losses, syncs, and lets go of the lock."""
        if self._losses:
            self._tell_losses()
        with self._mutex:
            self._leave_segment()
        self.sync()
        self._fs.close(self._lock_fd)


def spool_bytes(root: Path, filesystem: Filesystem) -> int:
    """Bytes of all segments of all writers below `root`. Raises OSError."""
    total = 0
    for writer in filesystem.list(root):
        folder = root / writer
        if len(writer) != 32:
            continue
        for name in filesystem.list(folder):
            if name.endswith(".seg"):
                try:
                    total += filesystem.size(folder / name)
                except FileNotFoundError:
                    continue
    return total
