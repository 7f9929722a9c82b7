"""Runs the real `llmtap up` as a user would, in its own folder, on free ports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmtap.cli.client import Api


@dataclass
class Daemon:
    process: subprocess.Popen[bytes]
    proxy: str
    admin: str
    data: Path
    log: Path

    @property
    def api(self) -> Api:
        return Api(self.admin)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.api.sql(sql, "JSONEachRow").splitlines()]

    def wait(self, sql: str, expected: Any, seconds: float = 15) -> None:
        """Until a one-value query gives `expected`."""
        deadline = time.monotonic() + seconds
        got: Any = None
        while time.monotonic() < deadline:
            got = self.api.sql(sql, "TSV").decode().strip()
            if got == str(expected):
                return
            time.sleep(0.1)
        raise AssertionError(
            f"{sql}: {got!r}, expected {expected!r}\n{self.log.read_text()[-3000:]}"
        )

    def children(self, name: str) -> list[int]:
        """Pids of direct children whose command names `llmtap.<name>`."""
        found: list[int] = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                command = (entry / "cmdline").read_bytes()
            except (OSError, IndexError):
                continue
            if parent == self.process.pid and f"llmtap.{name}".encode() in command:
                found.append(int(entry.name))
        return sorted(found)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def daemon(
    tmp: Path, config: str = "", *args: str, environ: dict[str, str] | None = None
) -> Iterator[Daemon]:
    """A running daemon; stopped (and waited for) at the end."""
    tmp.mkdir(parents=True, exist_ok=True)
    path, ready, log = tmp / "llmtap.toml", tmp / "ready.json", tmp / "log"
    path.write_text(config)
    ready.unlink(missing_ok=True)
    env = {k: v for k, v in os.environ.items() if not k.startswith("LLMTAP_")} | (environ or {})
    with log.open("ab") as out:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "llmtap.cli.main", "up", "--config", str(path)),
                *("--data", str(tmp / "data"), "--proxy-port", "0", "--admin-port", "0"),
                *("--ready-file", str(ready), *args),
            ],
            stdout=out,
            stderr=out,
            env=env,
        )
    try:
        deadline = time.monotonic() + 60
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"llmtap did not start:\n{log.read_text()}")
            time.sleep(0.05)
        told = json.loads(ready.read_text())
        yield Daemon(process, told["proxy"], told["admin"], tmp / "data", log)
    finally:
        if process.poll() is None:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            for pid in children.split():  # a failed test may have left one stopped
                os.kill(int(pid), signal.SIGCONT)
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
