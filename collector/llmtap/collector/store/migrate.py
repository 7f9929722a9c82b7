"""Brings a store's schema up to date from the numbered files in `migrations/`.

Every statement can be run again (IF NOT EXISTS), so a crash in the middle is mended by the next
start. A store made by a newer llmtap is refused rather than guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import resources

from llmtap.collector.store.errors import StoreConfigError

_NAME = re.compile(r"(\d{4})_\w+\.sql")


def migrations() -> list[tuple[int, str, list[str]]]:
    """(number, name, statements) of every migration, in order."""
    found: list[tuple[int, str, list[str]]] = []
    for file in resources.files("llmtap.collector.store").joinpath("migrations").iterdir():
        if match := _NAME.fullmatch(file.name):
            found.append((int(match[1]), file.name, _statements(file.read_text("utf-8"))))
    return sorted(found)


def _statements(sql: str) -> list[str]:
    """A migration's statements; each ends with `;` at the end of a line."""
    lines = [line for line in sql.splitlines() if not line.startswith("--")]
    parts = re.split(r";[ \t]*(?:\n|$)", "\n".join(lines))
    return [part.strip() for part in parts if part.strip()]


def migrate(command: Callable[[str], object], applied: Callable[[], list[int]]) -> None:
    """Runs what is missing. `command` executes one statement; `applied` lists done numbers."""
    command(
        "CREATE TABLE IF NOT EXISTS llmtap_migrations (number UInt32, name String, "
        "at DateTime DEFAULT now()) ENGINE = MergeTree ORDER BY number"
    )
    done = set(applied())
    known = migrations()
    newest = known[-1][0]
    if done and max(done) > newest:
        raise StoreConfigError(
            f"the store was made by a newer llmtap (schema {max(done)}, this one knows {newest}); "
            "upgrade llmtap, or use another data folder or database"
        )
    for number, name, statements in known:
        if number in done:
            continue
        for statement in statements:
            command(statement)
        command(f"INSERT INTO llmtap_migrations (number, name) VALUES ({number}, '{name}')")
