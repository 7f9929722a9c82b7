"""An in-memory file system that can lose what was not synced, fill up, and write short.

Names and bytes become durable as POSIX says: bytes by fdatasync, names by sync_dir.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass
class _File:
    data: bytearray
    synced: int = 0
    named: bool = False


class MemoryFilesystem:
    def __init__(self) -> None:
        self.files: dict[Path, _File] = {}
        self.dirs: set[Path] = set()
        self.fds: dict[int, _File] = {}  # an unlinked file lives on while it is open
        self.locks: dict[int, Path] = {}
        self.next_fd = 10
        self.room: int | None = None
        self.fail_sync = False
        self.free = 1 << 40

    def _error(self, code: int) -> OSError:
        return OSError(code, errno.errorcode[code])

    def make_dir(self, path: Path) -> None:
        self.dirs.add(path)

    def create(self, path: Path) -> int:
        if path in self.files:
            raise self._error(errno.EEXIST)
        self.files[path] = _File(bytearray())
        return self._fd(path)

    def _fd(self, path: Path) -> int:
        self.next_fd += 1
        self.fds[self.next_fd] = self.files[path]
        return self.next_fd

    def write(self, fd: int, parts: Sequence[bytes]) -> int:
        file = self.fds[fd]
        data = b"".join(parts)
        if self.room is not None:
            if self.room <= 0:
                raise self._error(errno.ENOSPC)
            data = data[: self.room]
            self.room -= len(data)
        file.data += data
        return len(data)

    def truncate(self, fd: int, size: int) -> None:
        file = self.fds[fd]
        del file.data[size:]
        file.synced = min(file.synced, size)

    def fdatasync(self, fd: int) -> None:
        if self.fail_sync:
            raise self._error(errno.EIO)
        file = self.fds[fd]
        file.synced = len(file.data)

    def close(self, fd: int) -> None:
        self.fds.pop(fd, None)
        self.locks.pop(fd, None)

    def sync_dir(self, path: Path) -> None:
        for name, file in self.files.items():
            if name.parent == path:
                file.named = True

    def open_read(self, path: Path) -> int:
        if path not in self.files:
            raise self._error(errno.ENOENT)
        return self._fd(path)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        return bytes(self.fds[fd].data[offset : offset + size])

    def list(self, path: Path) -> list[str]:
        names = {p.name for p in self.files if p.parent == path}
        return sorted(names | {d.name for d in self.dirs if d.parent == path})

    def size(self, path: Path) -> int:
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, str(path))
        return len(self.files[path].data)

    def rename(self, old: Path, new: Path) -> None:
        if old in self.dirs:
            self.dirs.remove(old)
            self.dirs.add(new)
        for path in list(self.files):
            if path == old:
                self.files[new] = self.files.pop(path)
            elif path.parent == old:
                self.files[new / path.name] = self.files.pop(path)
        for fd, path in self.locks.items():
            if path.parent == old:
                self.locks[fd] = new / path.name

    def unlink(self, path: Path) -> None:
        self.files.pop(path, None)

    def remove_dir(self, path: Path) -> None:
        self.dirs.discard(path)

    def free_bytes(self, path: Path) -> int:
        return self.free

    def lock(self, path: Path) -> int:
        if path in self.locks.values():
            raise BlockingIOError
        self.files.setdefault(path, _File(bytearray()))
        fd = self._fd(path)
        self.locks[fd] = path
        return fd

    def is_locked(self, path: Path) -> bool:
        return path in self.locks.values()

    # faults
    def kill(self) -> None:
        """All processes die; the kernel keeps what was written."""
        self.fds.clear()
        self.locks.clear()

    def power_cut(self, rng: random.Random) -> None:
        """Unsynced bytes: any prefix survives, the rest is gone or zeros. Unsynced names may go."""
        self.kill()
        for path, file in list(self.files.items()):
            if not file.named and path.suffix == ".seg" and rng.random() < 0.5:
                del self.files[path]
                continue
            keep = rng.randint(file.synced, len(file.data))
            lost = len(file.data) - keep
            del file.data[keep:]
            if rng.random() < 0.3:
                file.data += bytes(lost)
            file.synced = len(file.data)
