"""The reading end: one process reads all writers' segments, in order, and removes what is done.

Nothing in a segment makes it raise: what is not a record is stepped over, kept in `quarantine/` and
reported as a problem. The half-written end of a living writer's segment is waited for; that of a
dead writer's, or of a segment with a successor, is torn and skipped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from llmtap.spool.filesystem import Filesystem, OsFilesystem
from llmtap.spool.format import (
    MAX_PAYLOAD,
    RECORD_HEADER,
    RECORD_MAGIC,
    SEGMENT_HEADER,
    SEGMENT_MAGIC,
    VERSION,
    crc_of,
    segment_header,
)

_BLOCK = 4 << 20
_HEADER = RECORD_HEADER.size
_FIRST = SEGMENT_HEADER.size


class Ref(NamedTuple):
    """Where a record lies: `offset` is that of its header, `length` includes the header."""

    writer_id: str
    segment: str
    offset: int
    length: int


class Record(NamedTuple):
    ref: Ref
    seq: int
    kind: int
    payload: bytes


class Position(NamedTuple):
    """A place in one writer's stream; everything before it has been read."""

    segment: str
    offset: int


@dataclass(slots=True)
class ReadResult:
    """Records from the asked position on; read again from `position`."""

    records: list[Record] = field(default_factory=list[Record])
    position: Position | None = None
    exhausted: bool = False
    """All is read and the writer is dead: nothing can follow."""
    problems: list[str] = field(default_factory=list[str])


class SpoolReader:
    """Reads `<root>`; keeps no position of its own."""

    def __init__(self, root: Path, *, filesystem: Filesystem | None = None) -> None:
        self.root = root
        self._fs = filesystem or OsFilesystem()

    def writers(self) -> list[str]:
        """Ids of all writers with a folder, oldest first."""
        return sorted(name for name in self._fs.list(self.root) if len(name) == 32)

    def alive(self, writer_id: str) -> bool:
        """Whether the writer's process still holds its lock. A folder we may not read: True."""
        try:
            return self._fs.is_locked(self.root / writer_id / "lock")
        except OSError:
            return True

    def segments(self, writer_id: str) -> list[str]:
        """Names of a writer's own segments, oldest first."""
        names = self._fs.list(self.root / writer_id)
        return sorted(n for n in names if n.endswith(".seg") and not n.startswith("carry-"))

    def backlog_bytes(self, writer_id: str, start: Position | None) -> int:
        """Bytes not read yet, about."""
        total = 0
        for name in self.segments(writer_id):
            if start is None or name >= start.segment:
                try:
                    total += self._fs.size(self.root / writer_id / name)
                except OSError:
                    continue
                if start is not None and name == start.segment:
                    total -= start.offset
        return max(0, total)

    def read(
        self,
        writer_id: str,
        start: Position | None,
        *,
        max_bytes: int,
        max_records: int,
        until: Position | None = None,
    ) -> ReadResult:
        """The next records after `start`, within the bounds (at least one record if there is any).

        With `until`, exactly the records between the two positions, whatever the bounds.
        """
        result = ReadResult(position=start)
        dead = not self.alive(writer_id)
        try:
            names = self.segments(writer_id)
        except OSError as e:
            result.problems.append(f"{writer_id}: cannot be read: {e.strerror}")
            return result
        todo = [n for n in names if start is None or n >= start.segment]
        for i, name in enumerate(todo):
            if until is not None and name > until.segment:
                return result
            offset = start.offset if start is not None and name == start.segment else 0
            scan = _Scan(self, writer_id, name, offset, result)
            scan.complete = dead or i + 1 < len(todo)
            end = until.offset if until is not None and name == until.segment else None
            if until is not None:
                scan.run(1 << 62, 1 << 62, end)
            else:
                scan.run(max_bytes, max_records, None)
                max_bytes -= scan.taken_bytes
                if max_bytes <= 0 or len(result.records) >= max_records:
                    return result
            if not scan.complete:
                return result
        result.exhausted = dead and until is None
        return result

    def fetch(self, ref: Ref) -> Record | None:
        """Reads one record again; None when it is gone or damaged."""
        try:
            fd = self._fs.open_read(self.root / ref.writer_id / ref.segment)
        except OSError:
            return None
        try:
            data = self._fs.read(fd, ref.length, ref.offset)
        except OSError:
            return None
        finally:
            self._fs.close(fd)
        if len(data) != ref.length:
            return None
        magic, length, crc, seq, kind = RECORD_HEADER.unpack_from(data)
        payload = data[_HEADER:]
        if magic != RECORD_MAGIC or length != len(payload) or crc != crc_of(kind, seq, payload):
            return None
        return Record(ref, seq, kind, payload)

    def carry(self, refs: Sequence[Ref]) -> list[Ref]:
        """Copies records of one writer into a new carry segment, durably; returns their new refs.

        Refs whose record is gone are left out. Raises OSError when the copy can not be written.
        """
        if not refs:
            return []
        writer_id = refs[0].writer_id
        folder = self.root / writer_id
        taken = [n for n in self._fs.list(folder) if n.startswith("carry-")]
        number = 1 + max((int(n[6:22], 16) for n in taken), default=0)
        name = f"carry-{number:016x}.seg"
        records = [record for ref in refs if (record := self.fetch(ref)) is not None]
        fd = self._fs.create(folder / name)
        moved: list[Ref] = []
        try:
            offset = self._fs.write(fd, (segment_header(writer_id, 0, 0),))
            for record in records:
                crc = crc_of(record.kind, record.seq, record.payload)
                size = len(record.payload)
                head = RECORD_HEADER.pack(RECORD_MAGIC, size, crc, record.seq, record.kind)
                written = self._fs.write(fd, (head, record.payload))
                if written != _HEADER + size:
                    raise OSError(28, "short write while carrying records")
                moved.append(Ref(writer_id, name, offset, written))
                offset += written
            self._fs.fdatasync(fd)
        finally:
            self._fs.close(fd)
        self._fs.sync_dir(folder)
        return moved

    def retire(self, writer_id: str, before: Position, keep: Collection[Ref]) -> int:
        """Removes segments wholly before `before` and carry segments, unless `keep` needs them.

        Returns bytes freed. A file that is gone already is fine; one that resists stays.
        """
        needed = {ref.segment for ref in keep if ref.writer_id == writer_id}
        folder = self.root / writer_id
        freed = 0
        for name in self._fs.list(folder):
            if not name.endswith(".seg") or name in needed:
                continue
            if name.startswith("carry-") or name < before.segment:
                freed += self._remove(folder / name)
        return freed

    def remove_writer(self, writer_id: str) -> None:
        """Removes the folder of a dead writer that is wholly read."""
        folder = self.root / writer_id
        for name in self._fs.list(folder):
            self._remove(folder / name)
        try:
            self._fs.remove_dir(folder)
        except OSError:
            return  # tried again at the next start

    def _remove(self, path: Path) -> int:
        try:
            size = self._fs.size(path)
            self._fs.unlink(path)
        except OSError:
            return 0
        return size

    def open_segment(self, writer_id: str, name: str) -> int:
        return self._fs.open_read(self.root / writer_id / name)

    def read_at(self, fd: int, size: int, offset: int) -> bytes:
        return self._fs.read(fd, size, offset)

    def close(self, fd: int) -> None:
        self._fs.close(fd)

    def quarantine(self, writer_id: str, name: str, offset: int, parts: Iterable[bytes]) -> None:
        """Keeps bytes that were not records, for a person to look at. Best effort."""
        folder = self.root / "quarantine"
        try:
            self._fs.make_dir(folder)
            fd = self._fs.create(folder / f"{writer_id}-{name}-{offset}.bin")
        except OSError:
            return  # kept before, or the disk refuses; the problem is reported all the same
        try:
            for part in parts:
                self._fs.write(fd, (part,))
        except OSError:
            return
        finally:
            self._fs.close(fd)


class _Scan:
    """Walks one segment from an offset and appends what it finds to a ReadResult."""

    def __init__(
        self, reader: SpoolReader, writer_id: str, name: str, offset: int, result: ReadResult
    ) -> None:
        self._reader = reader
        self._writer_id = writer_id
        self._name = name
        self._offset = offset
        self._result = result
        self.complete = False
        """No more bytes will come: the end that is there is the end."""
        self.taken_bytes = 0

    def run(self, max_bytes: int, max_records: int, end: int | None) -> None:
        result, reader = self._result, self._reader
        try:
            fd = reader.open_segment(self._writer_id, self._name)
        except OSError as e:
            self._problem(f"cannot be opened: {e.strerror}")
            return
        try:
            if self._offset < _FIRST and not self._check_header(fd):
                return
            while self.taken_bytes < max_bytes and len(result.records) < max_records:
                if not self._block(fd, max_bytes, max_records, end):
                    return
        except OSError as e:
            self._problem(f"cannot be read: {e.strerror}")
        finally:
            reader.close(fd)
            result.position = Position(self._name, self._offset)

    def _check_header(self, fd: int) -> bool:
        data = self._reader.read_at(fd, _FIRST, 0)
        if len(data) < _FIRST:
            return False  # just created, or torn at birth: nothing in it
        magic, version, _, size, *_ = SEGMENT_HEADER.unpack(data)
        if magic != SEGMENT_MAGIC or version != VERSION or size != _FIRST:
            self._problem("is no segment that this version reads; set aside")
            whole = self._reader.read_at(fd, 1 << 30, 0)
            self._reader.quarantine(self._writer_id, self._name, 0, [whole])
            self._offset = max(_FIRST, len(whole))
            return False
        self._offset = _FIRST
        return True

    def _block(self, fd: int, max_bytes: int, max_records: int, end: int | None) -> bool:
        """Reads and parses a block; False when the segment gives no more for now."""
        size = _BLOCK if end is None else min(_BLOCK, end - self._offset)
        data = self._reader.read_at(fd, size, self._offset) if size > 0 else b""
        if len(data) >= _HEADER:
            length = RECORD_HEADER.unpack_from(data)[1]
            if data.startswith(RECORD_MAGIC) and len(data) - _HEADER < length <= MAX_PAYLOAD:
                data = self._reader.read_at(fd, _HEADER + length, self._offset)
        used = self._records(data, max_bytes, max_records)
        self._offset += used
        if used:
            return True
        if not data or (self._incomplete(data) and not self.complete):
            return False
        return self._resync(fd)

    def _records(self, data: bytes, max_bytes: int, max_records: int) -> int:
        records, base = self._result.records, self._offset
        writer_id, name = self._writer_id, self._name
        unpack, pos, size = RECORD_HEADER.unpack_from, 0, len(data)
        while size - pos >= _HEADER and self.taken_bytes < max_bytes:
            magic, length, crc, seq, kind = unpack(data, pos)
            stop = pos + _HEADER + length
            if magic != RECORD_MAGIC or stop > size or len(records) >= max_records:
                break
            payload = data[pos + _HEADER : stop]
            if crc_of(kind, seq, payload) != crc:
                break
            ref = Ref(writer_id, name, base + pos, _HEADER + length)
            records.append(Record(ref, seq, kind, payload))
            self.taken_bytes += _HEADER + length
            pos = stop
        return pos

    def _incomplete(self, data: bytes) -> bool:
        """The bytes may be the beginning of a record still being written."""
        if len(data) < _HEADER:
            return data[:4] == RECORD_MAGIC[: len(data)]
        length = RECORD_HEADER.unpack_from(data)[1]
        fits = data.startswith(RECORD_MAGIC) and length <= MAX_PAYLOAD
        return fits and len(data) < _HEADER + length

    def _resync(self, fd: int) -> bool:
        """Steps over damage or a torn end to the next whole record; False when there is none."""
        data = self._reader.read_at(fd, 2 * (MAX_PAYLOAD + _HEADER), self._offset)
        at = data.find(RECORD_MAGIC, 1)
        while at >= 0:
            if len(data) - at >= _HEADER:
                _, length, crc, seq, kind = RECORD_HEADER.unpack_from(data, at)
                stop = at + _HEADER + length
                payload = data[at + _HEADER : stop]
                if stop <= len(data) and crc_of(kind, seq, payload) == crc:
                    self._skip(data[:at])
                    return True
            at = data.find(RECORD_MAGIC, at + 1)
        if self.complete:
            self._skip(data)
        return False

    def _skip(self, gap: bytes) -> None:
        if gap.strip(b"\0"):
            self._reader.quarantine(self._writer_id, self._name, self._offset, [gap])
        self._problem(f"{len(gap)} damaged bytes at {self._offset} stepped over")
        self._offset += len(gap)

    def _problem(self, text: str) -> None:
        self._result.problems.append(f"{self._writer_id}/{self._name} {text}")
