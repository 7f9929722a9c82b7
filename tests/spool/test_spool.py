"""Writer and reader against a list model, under crashes, power cuts, full disks and damage."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from llmtap.spool.checkpoint import CheckpointFile, CollectorBusyError, CollectorLock
from llmtap.spool.format import KIND_LOSS, RECORD_HEADER, SEGMENT_HEADER
from llmtap.spool.reader import Position, SpoolReader
from llmtap.spool.writer import PROBE_S, Level, Limits, SpoolError, SpoolWriter
from tests.spool.memory_fs import MemoryFilesystem

ROOT = Path("/spool")
SMALL = Limits(segment_bytes=600, max_bytes=1 << 30, min_free_bytes=0)


class SpoolMachine(RuleBasedStateMachine):
    """Conservation: an accepted record that no power cut may have taken is read exactly once, in
    order, as it was. Liveness: after trouble ends, new records are accepted and read."""

    @initialize()
    def start(self) -> None:
        self.fs = MemoryFilesystem()
        self.clock = 1000.0
        self.accepted: list[bytes] = []
        self.durable: set[bytes] = set()
        self.cut_off: set[bytes] = set()
        self.read: list[bytes] = []
        self.positions: dict[str, Position | None] = {}
        self._open()

    def _open(self) -> None:
        self.first = len(self.accepted)  # a sync covers this writer's records only
        self.writer = SpoolWriter(
            ROOT,
            SMALL,
            filesystem=self.fs,
            wall_clock=lambda: self.clock,
            monotonic=lambda: self.clock,
        )

    @rule(size=st.integers(0, 300), kind=st.integers(1, 2))
    def append(self, size: int, kind: int) -> None:
        payload = b"%d:" % len(self.accepted) + b"x" * size
        if self.writer.append(kind, payload):
            self.accepted.append(payload)

    @rule()
    def sync(self) -> None:
        errors = self.writer.stats.sync_errors
        self.writer.sync()
        if self.writer.stats.sync_errors == errors:
            self.durable.update(self.accepted[self.first :])

    @rule()
    def tick(self) -> None:
        self.clock += 61
        self.writer.tick()

    @rule(room=st.integers(0, 500))
    def disk_fills(self, room: int) -> None:
        self.fs.room = room

    @rule()
    def disk_has_room_again(self) -> None:
        self.fs.room = None
        self.clock += PROBE_S + 1

    @rule()
    def killed(self) -> None:
        self.fs.kill()
        self._open_with_room()

    @rule(seed=st.integers(0, 10_000))
    def power_cut(self, seed: int) -> None:
        self.fs.power_cut(random.Random(seed))
        self.cut_off.update(set(self.accepted) - self.durable)
        self._open_with_room()

    def _open_with_room(self) -> None:
        self.fs.room = None
        self.clock += 1
        self._open()

    @rule(records=st.integers(1, 5))
    def read_some(self, records: int) -> None:
        reader = SpoolReader(ROOT, filesystem=self.fs)
        for writer_id in reader.writers():
            start = self.positions.get(writer_id)
            result = reader.read(writer_id, start, max_bytes=1 << 20, max_records=records)
            self.positions[writer_id] = result.position
            self.read += [r.payload for r in result.records if r.kind != KIND_LOSS]
            if result.position is not None:
                reader.retire(writer_id, result.position, [])
            if result.exhausted:
                reader.remove_writer(writer_id)
                del self.positions[writer_id]
            # A record that was read is the collector's now.
            self.durable.update(self.read)

    @invariant()
    def nothing_twice_nothing_invented(self) -> None:
        assert len(set(self.read)) == len(self.read)
        assert set(self.read) <= set(self.accepted)

    def teardown(self) -> None:
        if not hasattr(self, "fs"):
            return
        self.fs.room = None
        self.clock += PROBE_S + 1
        self.writer.tick()
        assert self.writer.append(1, b"after the trouble"), "liveness"
        self.accepted.append(b"after the trouble")
        self.durable.add(b"after the trouble")
        for _ in range(500):
            before = len(self.read)
            self.read_some(100)
            if len(self.read) == before:
                break
        self.nothing_twice_nothing_invented()
        missing = set(self.accepted) - set(self.read) - self.cut_off
        assert not missing, f"lost: {missing}"


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def _one_segment(fs: MemoryFilesystem, count: int = 6) -> tuple[str, Path, list[bytes]]:
    writer = SpoolWriter(ROOT, Limits(min_free_bytes=0), filesystem=fs)
    payloads = [b"record %d " % i + b"p" * (i * 5) for i in range(count)]
    for payload in payloads:
        assert writer.append(1, payload)
    (path,) = [p for p in fs.files if p.suffix == ".seg"]
    return writer.writer_id, path, payloads


def _read_all(fs: MemoryFilesystem, writer_id: str) -> list[bytes]:
    result = SpoolReader(ROOT, filesystem=fs).read(
        writer_id, None, max_bytes=1 << 30, max_records=1 << 30
    )
    assert result.exhausted
    return [r.payload for r in result.records]


def test_cut_at_every_byte_keeps_the_records_before_it() -> None:
    fs = MemoryFilesystem()
    writer_id, path, payloads = _one_segment(fs)
    whole = bytes(fs.files[path].data)
    fs.kill()
    ends: list[int] = []
    at = SEGMENT_HEADER.size
    for payload in payloads:
        at += RECORD_HEADER.size + len(payload)
        ends.append(at)
    assert at == len(whole)
    for cut in range(len(whole)):
        fs.files[path].data = bytearray(whole[:cut])
        expected = [p for p, end in zip(payloads, ends, strict=True) if end <= cut]
        assert _read_all(fs, writer_id) == expected, cut


def test_every_flipped_bit_is_noticed_and_costs_one_record() -> None:
    fs = MemoryFilesystem()
    writer_id, path, payloads = _one_segment(fs, 4)
    whole = bytes(fs.files[path].data)
    fs.kill()
    padding: set[int] = set()
    at = SEGMENT_HEADER.size
    for payload in payloads:
        padding |= {at + 21, at + 22, at + 23}
        at += RECORD_HEADER.size + len(payload)
    for i in range(SEGMENT_HEADER.size, len(whole)):
        for bit in range(8):
            data = bytearray(whole)
            data[i] ^= 1 << bit
            fs.files[path].data = data
            got = _read_all(fs, writer_id)
            if i in padding:
                assert got == payloads
                continue
            assert len(got) == len(payloads) - 1, (i, bit)
            assert all(p in payloads for p in got)


def test_zero_tail_after_power_cut_is_skipped() -> None:
    fs = MemoryFilesystem()
    writer_id, path, payloads = _one_segment(fs)
    fs.kill()
    fs.files[path].data += bytes(5000)
    assert _read_all(fs, writer_id) == payloads


def test_carry_moves_open_records_and_retire_frees_the_rest() -> None:
    fs = MemoryFilesystem()
    writer = SpoolWriter(ROOT, SMALL, filesystem=fs)
    for i in range(30):
        assert writer.append(1, b"%02d" % i + b"x" * 100)
    reader = SpoolReader(ROOT, filesystem=fs)
    result = reader.read(writer.writer_id, None, max_bytes=1 << 20, max_records=1000)
    assert result.position is not None and len(result.records) == 30
    keep = [result.records[i].ref for i in (0, 7, 8)]
    moved = reader.carry(keep)
    freed = reader.retire(writer.writer_id, result.position, moved)
    assert freed > 1000
    assert [r.payload[:2] for ref in moved if (r := reader.fetch(ref))] == [b"00", b"07", b"08"]
    assert reader.fetch(keep[0]) is None
    again = reader.carry(moved[1:])
    reader.retire(writer.writer_id, result.position, again)
    assert reader.fetch(moved[0]) is None and reader.fetch(again[0]) is not None


def test_until_reads_exactly_the_planned_range() -> None:
    fs = MemoryFilesystem()
    writer = SpoolWriter(ROOT, SMALL, filesystem=fs)
    for i in range(40):
        writer.append(1, b"%d" % i)
    reader = SpoolReader(ROOT, filesystem=fs)
    first = reader.read(writer.writer_id, None, max_bytes=1 << 20, max_records=25)
    for i in range(40, 60):
        writer.append(1, b"%d" % i)
    again = reader.read(writer.writer_id, None, max_bytes=0, max_records=0, until=first.position)
    assert [r.payload for r in again.records] == [r.payload for r in first.records]
    assert again.position == first.position


def test_full_levels_and_loss_record() -> None:
    fs = MemoryFilesystem()
    clock = 0.0
    limits = Limits(max_bytes=10_000, min_free_bytes=100, segment_bytes=1 << 20)
    writer = SpoolWriter(
        ROOT, limits, filesystem=fs, wall_clock=lambda: clock, monotonic=lambda: clock
    )
    seen: list[Level] = []
    for _ in range(12):
        writer.append(1, b"x" * 1000)
        writer.tick()
        seen.append(writer.level)
    assert sorted(set(seen)) == [Level.OK, Level.WARN, Level.METADATA_ONLY, Level.FULL]
    dropped = writer.stats.dropped["full"]
    assert dropped >= 1
    clock += 11
    writer.tick()
    records = SpoolReader(ROOT, filesystem=fs).read(
        writer.writer_id, None, max_bytes=1 << 20, max_records=1000
    )
    losses = [r for r in records.records if r.kind == KIND_LOSS]
    assert b'"reason": "full"' in losses[0].payload


def test_free_disk_floor_stops_the_spool() -> None:
    fs = MemoryFilesystem()
    writer = SpoolWriter(ROOT, Limits(min_free_bytes=1000), filesystem=fs)
    fs.free = 999
    writer.tick()
    assert writer.level == Level.FULL and not writer.append(1, b"x")
    fs.free = 1 << 30
    writer.tick()
    assert writer.append(1, b"x")


def test_failed_sync_leaves_the_segment() -> None:
    fs = MemoryFilesystem()
    writer = SpoolWriter(ROOT, Limits(min_free_bytes=0), filesystem=fs)
    writer.append(1, b"a")
    fs.fail_sync = True
    writer.sync()
    fs.fail_sync = False
    writer.append(1, b"b")
    writer.sync()
    assert writer.stats.sync_errors >= 1
    assert len([p for p in fs.files if p.suffix == ".seg"]) == 2


def test_files_are_private_and_reader_sees_a_living_writer(tmp_path: Path) -> None:
    root = tmp_path / "spool"
    writer = SpoolWriter(root, Limits(min_free_bytes=0))
    writer.append(1, b"hello")
    for path in [root, *root.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path
    reader = SpoolReader(root)
    assert reader.alive(writer.writer_id)
    result = reader.read(writer.writer_id, None, max_bytes=1 << 20, max_records=10)
    assert [r.payload for r in result.records] == [b"hello"] and not result.exhausted
    writer.close()
    assert not reader.alive(writer.writer_id)


def test_spool_that_can_not_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SpoolError, match="LLMTAP_DATA"):
        SpoolWriter(tmp_path / "file" / "spool")


def test_deleted_folder_is_made_again(tmp_path: Path) -> None:
    import shutil

    writer = SpoolWriter(tmp_path / "spool", Limits(min_free_bytes=0))
    writer.append(1, b"gone")
    shutil.rmtree(tmp_path / "spool")
    writer.tick()
    assert writer.append(1, b"kept")
    result = SpoolReader(tmp_path / "spool").read(
        writer.writer_id, None, max_bytes=1 << 20, max_records=10
    )
    assert [r.payload for r in result.records] == [b"kept"]
    writer.close()


_CHILD = """
import resource, sys
from pathlib import Path
from llmtap.spool.writer import SpoolWriter, Limits
if len(sys.argv) > 2:
    import signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
w = SpoolWriter(Path(sys.argv[1]), Limits(min_free_bytes=0, segment_bytes=200_000))
i = 0
while i < 200_000:
    if w.append(1, b"%d:" % i + b"x" * (i % 700)):
        sys.stdout.write(f"{i}\\n"); sys.stdout.flush()
    elif len(sys.argv) > 2:
        break
    i += 1
"""


def test_killed_writer_loses_no_acknowledged_record(tmp_path: Path) -> None:
    for round_ in range(6):
        root = tmp_path / str(round_)
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(root)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(0.02 + round_ * 0.03)
        os.kill(child.pid, signal.SIGKILL)
        acknowledged = [0, *(int(x) for x in child.stdout.read().split("\n")[:-1] if x)]
        child.stdout.close()
        child.wait()
        reader = SpoolReader(root)
        (writer_id,) = reader.writers()
        position, got = None, []
        while True:
            result = reader.read(writer_id, position, max_bytes=1 << 20, max_records=500)
            got += [int(r.payload.split(b":")[0]) for r in result.records]
            position = result.position
            if result.exhausted:
                break
        assert got == list(range(len(got)))
        assert len(got) >= len(acknowledged)


def test_short_write_at_a_file_size_limit_leaves_no_torn_record(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", _CHILD, str(tmp_path), "10000"], check=True, capture_output=True
    )
    reader = SpoolReader(tmp_path)
    (writer_id,) = reader.writers()
    result = reader.read(writer_id, None, max_bytes=1 << 20, max_records=1000)
    assert result.exhausted and result.problems == [] and len(result.records) > 10


def test_checkpoint_is_atomic_and_damage_is_set_aside(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path / "checkpoint.json")
    assert file.load() is None
    file.save({"a": 1})
    file.save({"a": 2})
    assert CheckpointFile(file.path).load() == {"a": 2}
    assert file.path.stat().st_mode & 0o077 == 0
    file.path.write_text('{"a": 2')
    again = CheckpointFile(file.path)
    assert again.load() is None and "damaged" in again.problem
    assert (tmp_path / "checkpoint.damaged").exists()


def test_one_collector_at_a_time(tmp_path: Path) -> None:
    lock = CollectorLock(tmp_path)
    with pytest.raises(CollectorBusyError, match=str(os.getpid())):
        CollectorLock(tmp_path)
    lock.release()
    CollectorLock(tmp_path).release()
