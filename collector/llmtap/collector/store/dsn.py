"""From a DSN to an open store: embedded chDB or a ClickHouse server."""

from __future__ import annotations

import fcntl
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.exceptions import Error as ClickHouseError

from llmtap.collector.store.client import Client, Store
from llmtap.collector.store.errors import (
    StoreConfigError,
    StoreError,
    StoreLockedError,
    StoreUnreachableError,
    code_of,
)

DSN_FORMS = (
    "chdb | chdb:///FOLDER | clickhouse://USER:PASSWORD@HOST:8123/DATABASE | "
    "clickhouses://… (TLS) | http(s)://USER:PASSWORD@HOST:PORT/DATABASE"
)
_NAME = re.compile(r"[A-Za-z_]\w{0,63}", re.ASCII)


def _get_client(**options: Any) -> Client:
    # Typed as taking anything, which a strict checker calls unknown.
    library = cast("Any", clickhouse_connect)
    return cast("Client", library.get_client(**options))


def open_store(dsn: str, data_dir: Path) -> Store:
    """Opens (and creates) the store, schema included. Raises StoreError with what to do."""
    if dsn == "chdb" or dsn.startswith("chdb:"):
        store = _open_embedded(dsn, data_dir)
    else:
        store = _open_server(dsn)
    try:
        store.migrate()
    except ClickHouseError as e:
        store.close()
        raise _schema_error(store, e) from e
    except BaseException:
        store.close()
        raise
    return store


def _schema_error(store: Store, error: ClickHouseError) -> StoreError:
    """An outage is worth waiting for; a refusal is not."""
    text = f"the schema could not be set up: {store.public_text(error)}"
    match code_of(error):
        case 164 | 497:
            return StoreConfigError(f"{text} (the user needs CREATE, ALTER, INSERT and SELECT)")
        case 0 | 159 | 202 | 203 | 209 | 210 | 225 | 241 | 242 | 243 | 252 | 279 | 319 | 999:
            return StoreUnreachableError(text)
        case _:
            return StoreConfigError(text)


def _open_embedded(dsn: str, data_dir: Path) -> Store:
    path = dsn.removeprefix("chdb").removeprefix("://")
    folder = Path(path) if path else data_dir / "store"
    if path and not folder.is_absolute():
        raise StoreConfigError(f"store.dsn: a chdb folder must be absolute, as in {DSN_FORMS}")
    # The library writes every insert to a temporary file: prompts belong in our folder, not /tmp.
    scratch = data_dir / "tmp"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700, parents=True)
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    tempfile.tempdir = str(scratch)

    def connect(database: str | None) -> Client:
        return _get_client(dsn=f"chdb://{folder}", **({"database": database} if database else {}))

    try:
        store = Store(connect, embedded=True, private=(str(folder), str(data_dir)))
    except (ClickHouseError, RuntimeError) as e:
        if _is_locked(folder):
            raise StoreLockedError(
                f"the store at {folder} is open in another process. Stop that llmtap, ask it "
                "instead (`llmtap sql`), or give this one its own folder with --data"
            ) from e
        raise StoreConfigError(f"the store at {folder} can not be opened: {e}") from e
    folder.chmod(0o700)
    return store


def _is_locked(folder: Path) -> bool:
    """Whether a process has the folder open: the engine holds a lock on `status`, and writes that
    it could not get it to stderr only."""
    try:
        with (folder / "status").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _open_server(dsn: str) -> Store:
    parts = urlsplit(dsn)
    schemes = {"clickhouse": False, "clickhouses": True, "http": False, "https": True}
    try:
        port = parts.port
    except ValueError as e:
        raise StoreConfigError(f"store.dsn: the port is not a number; forms: {DSN_FORMS}") from e
    if parts.scheme not in schemes or not parts.hostname:
        raise StoreConfigError(f"store.dsn is not understood; forms: {DSN_FORMS}")
    secure = schemes[parts.scheme]
    default = parts.path.strip("/") or "llmtap"
    if not _NAME.fullmatch(default):
        raise StoreConfigError("store.dsn: the database name must be letters, digits and _")
    options: dict[str, Any] = {
        "autogenerate_session_id": False,
        "host": parts.hostname,
        "port": port or (8443 if secure else 8123),
        "username": unquote(parts.username or "default"),
        "password": unquote(parts.password or ""),
        "secure": secure,
        "send_receive_timeout": 300,
        "connect_timeout": 10,
        **dict(parse_qsl(parts.query)),
    }
    where = f"{parts.hostname}:{options['port']}"

    def connect(database: str | None) -> Client:
        return _get_client(**options, database=database or default)

    try:
        first = _get_client(**options)
        first.command(f"CREATE DATABASE IF NOT EXISTS {default}")
        first.close()
        return Store(connect, embedded=False)
    except ClickHouseError as e:
        if code_of(e) in (192, 193, 194, 497, 516):
            raise StoreConfigError(
                f"the ClickHouse server at {where} refuses user {options['username']!r}: "
                "check user, password and grants in store.dsn / LLMTAP_STORE"
            ) from e
        raise StoreUnreachableError(
            f"no ClickHouse server answers at {where} ({type(e).__name__}). Is it running, and is "
            "this its HTTP port (8123, TLS 8443)?"
        ) from e
    except TypeError as e:
        raise StoreConfigError(f"store.dsn: unknown option: {e}") from e
