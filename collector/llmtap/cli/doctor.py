"""`llmtap doctor`: looks at what usually goes wrong, and says what to do."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator

from llmtap.cli.client import Api, CommandError, admin_url, read_ready
from llmtap.config import Config

Finding = tuple[bool, str]


def findings(config: Config) -> Iterator[Finding]:
    """(good?, text) in the order a person would look."""
    yield True, "configuration is valid"
    ready = read_ready(config.data)
    if ready is None:
        yield from _not_running(config)
    else:
        yield True, f"llmtap runs (pid {ready['pid']}) on {config.data}"
        yield from _running(config)
    yield from _disk(config)
    for name, upstream in sorted(config.upstreams.items()):
        if name == config.default_upstream and not upstream.base_url:
            yield False, f"default upstream {name} has no base_url"


def _not_running(config: Config) -> Iterator[Finding]:
    yield False, f"no llmtap runs on {config.data}: start it with `llmtap up`"
    for what, host, port in (
        ("proxy", config.proxy.host, config.proxy.port),
        ("admin", config.admin.host, config.admin.port),
    ):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((host, port))
            except OSError as e:
                yield False, f"{what} port {host}:{port} can not be used: {e.strerror}"
            else:
                yield True, f"{what} port {host}:{port} is free"


def _running(config: Config) -> Iterator[Finding]:
    api = Api(admin_url(config))
    try:
        health = api.get("/healthz")
        stats = api.get("/api/stats", {"since": "1h"})
    except CommandError as e:
        yield False, f"the collector does not answer: {e}"
        return
    yield health["status"] == "ok", f"health is {health['status']}"
    for reason in health["reasons"]:
        yield False, reason
    yield True, f"{stats['calls']} calls stored in the last hour, {stats['failed']} not ok"


def _disk(config: Config) -> Iterator[Finding]:
    folder = config.data if config.data.exists() else config.data.parent
    try:
        free = shutil.disk_usage(folder).free
    except OSError as e:
        yield False, f"{folder}: {e.strerror}"
        return
    floor = config.spool.min_free_bytes
    text = f"{free / 1e9:.1f} GB free at {folder} (spooling stops below {floor / 1e9:.1f} GB)"
    yield free > 2 * floor, text
