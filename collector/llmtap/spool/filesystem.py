"""The few file operations the spool needs, behind a border so that tests can break them.

Errors are `OSError`, as the operating system gives them. Durability is what POSIX promises: bytes
after `fdatasync`, names after `sync_dir`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class Filesystem(Protocol):
    """What writer, reader and checkpoint do to disks."""

    def make_dir(self, path: Path) -> None: ...
    def create(self, path: Path) -> int: ...
    def write(self, fd: int, parts: Sequence[bytes]) -> int: ...
    def truncate(self, fd: int, size: int) -> None: ...
    def fdatasync(self, fd: int) -> None: ...
    def close(self, fd: int) -> None: ...
    def sync_dir(self, path: Path) -> None: ...
    def open_read(self, path: Path) -> int: ...
    def read(self, fd: int, size: int, offset: int) -> bytes: ...
    def list(self, path: Path) -> list[str]: ...
    def size(self, path: Path) -> int: ...
    def rename(self, old: Path, new: Path) -> None: ...
    def unlink(self, path: Path) -> None: ...
    def remove_dir(self, path: Path) -> None: ...
    def free_bytes(self, path: Path) -> int: ...
    def lock(self, path: Path) -> int:
        """Creates the file if needed and locks it; raises BlockingIOError when it is held."""
        ...

    def is_locked(self, path: Path) -> bool: ...


class OsFilesystem:
    """The real one."""

    def make_dir(self, path: Path) -> None:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def create(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)

    def write(self, fd: int, parts: Sequence[bytes]) -> int:
        return os.writev(fd, parts)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def fdatasync(self, fd: int) -> None:
        os.fdatasync(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def sync_dir(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def open_read(self, path: Path) -> int:
        return os.open(path, os.O_RDONLY)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        return os.pread(fd, size, offset)

    def list(self, path: Path) -> list[str]:
        try:
            return os.listdir(path)  # noqa: PTH208 - names are wanted, not Paths
        except FileNotFoundError:
            return []

    def size(self, path: Path) -> int:
        return path.stat().st_size

    def rename(self, old: Path, new: Path) -> None:
        old.rename(new)

    def unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def remove_dir(self, path: Path) -> None:
        path.rmdir()

    def free_bytes(self, path: Path) -> int:
        stat = os.statvfs(path)
        return stat.f_bavail * stat.f_frsize

    def lock(self, path: Path) -> int:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise
        return fd

    def is_locked(self, path: Path) -> bool:
        try:
            fd = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False
