"""How commands reach data: through the running collector's admin API, else the store itself."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, cast

from llmtap.config import Config


class CommandError(RuntimeError):
    """The command cannot do what was asked; the text says what to do. Exit code 1."""


def admin_url(config: Config) -> str:
    """Where the collector of this data folder answers: LLMTAP_ADMIN_URL, its ready file, config."""
    if given := os.environ.get("LLMTAP_ADMIN_URL"):
        return given.rstrip("/")
    if ready := read_ready(config.data):
        return str(ready.get("admin") or "")
    return f"http://{config.admin.host}:{config.admin.port}"


def read_ready(data: Path) -> dict[str, Any] | None:
    """What `llmtap up` wrote when it was ready; None when none runs on this folder."""
    try:
        ready = json.loads((data / "run" / "ready.json").read_text())
        os.kill(int(ready["pid"]), 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return cast("dict[str, Any]", ready)


class Api:
    """Calls the admin API. Raises CommandError."""

    def __init__(self, base: str) -> None:
        self.base = base

    def _open(
        self, path: str, query: Mapping[str, str], body: bytes | None, timeout: float = 120
    ) -> HTTPResponse:
        url = f"{self.base}{path}"
        if query:
            url += "?" + urllib.parse.urlencode(query)
        request = urllib.request.Request(url, data=body)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            return cast("HTTPResponse", opener.open(request, timeout=timeout))
        except urllib.error.HTTPError as e:
            raise CommandError(_message(e.read())) from e
        except (urllib.error.URLError, OSError) as e:
            raise NotRunningError(
                f"no llmtap answers at {self.base}. Start one with `llmtap up`, "
                "or name its data folder with --data / LLMTAP_DATA"
            ) from e

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        with self._open(path, query or {}, None) as response:
            return json.load(response)

    def post(self, path: str, query: Mapping[str, str]) -> Any:
        """For what may take long."""
        with self._open(path, query, b"", timeout=3600) as response:
            return json.load(response)

    def sql(self, sql: str, fmt: str) -> bytes:
        with self._open("/api/sql", {"format": fmt}, sql.encode()) as response:
            return response.read()

    def lines(self, path: str) -> Iterator[dict[str, Any]]:
        with self._open(path, {}, None) as response:
            for line in response:
                if line.strip():
                    yield json.loads(line)


class NotRunningError(CommandError):
    """No collector answers."""


def run_sql(config: Config, sql: str, fmt: str) -> bytes:
    """Through the running collector, else opening the store. Raises CommandError."""
    try:
        return Api(admin_url(config)).sql(sql, fmt)
    except NotRunningError:
        return _run_in_store(config, sql, fmt)


def _run_in_store(config: Config, sql: str, fmt: str) -> bytes:
    from clickhouse_connect.driver.exceptions import Error as ClickHouseError

    from llmtap.collector.store import StoreError, open_store
    from llmtap.collector.store.guard import NotReadOnlyError

    if config.store.dsn == "chdb" and not (config.data / "store").exists():
        raise CommandError(
            f"there is no store in {config.data} yet. Start llmtap with `llmtap up`, "
            "or name its data folder with --data / LLMTAP_DATA"
        )
    try:
        store = open_store(config.store.dsn, config.data)
        try:
            return store.raw_query(sql, fmt=fmt)
        finally:
            store.close()
    except (StoreError, NotReadOnlyError, ClickHouseError) as e:
        raise CommandError(str(e)) from e


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode("utf-8", "replace")[:2000]
