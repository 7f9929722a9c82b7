"""How far the collector has come: one small JSON file, replaced in one durable step.

Also the lock that makes the collector the only one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, cast

from llmtap.spool.filesystem import Filesystem, OsFilesystem


class CheckpointFile:
    """`load` and `save` one JSON object at `path`."""

    def __init__(self, path: Path, *, filesystem: Filesystem | None = None) -> None:
        self.path = path
        self._fs = filesystem or OsFilesystem()
        self.problem = ""
        """Set by `load` when the file could not be used."""

    def load(self) -> dict[str, Any] | None:
        """What was saved last; None when nothing was. A damaged file is set aside, not fatal."""
        try:
            fd = self._fs.open_read(self.path)
        except FileNotFoundError:
            return None
        try:
            data = self._fs.read(fd, 1 << 30, 0)
        finally:
            self._fs.close(fd)
        try:
            loaded = json.loads(data)
        except ValueError as e:
            self._set_aside(str(e))
            return None
        if not isinstance(loaded, dict):
            self._set_aside("not an object")
            return None
        return cast("dict[str, Any]", loaded)

    def _set_aside(self, why: str) -> None:
        aside = self.path.with_suffix(".damaged")
        self._fs.rename(self.path, aside)
        self.problem = f"{self.path.name} was damaged ({why}); kept as {aside.name}, reading anew"

    def save(self, state: dict[str, Any]) -> None:
        """Durable once it returns. Raises OSError; then the former state stands."""
        part = self.path.with_suffix(".part")
        self._fs.unlink(part)
        fd = self._fs.create(part)
        try:
            data = json.dumps(state).encode()
            while data:
                data = data[self._fs.write(fd, (data,)) :]
            self._fs.fdatasync(fd)
        finally:
            self._fs.close(fd)
        self._fs.rename(part, self.path)
        self._fs.sync_dir(self.path.parent)


class CollectorBusyError(RuntimeError):
    """Another collector reads this spool."""


class CollectorLock:
    """Held for the life of the collector process. Raises CollectorBusyError."""

    def __init__(self, root: Path, *, filesystem: Filesystem | None = None) -> None:
        self._fs = filesystem or OsFilesystem()
        self._fs.make_dir(root)
        path = root / "collector.lock"
        try:
            self._fd = self._fs.lock(path)
        except BlockingIOError:
            pid = path.read_text(errors="replace").strip() or "unknown"
            raise CollectorBusyError(
                f"another llmtap collector (pid {pid}) works on {root}; "
                "stop it, or give this one its own folder with --data / LLMTAP_DATA"
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        self._fs.close(self._fd)
