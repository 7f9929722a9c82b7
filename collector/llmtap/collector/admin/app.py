"""The admin application (aiohttp): thin handlers; blocking work runs in a small thread pool.

Only for people and programs on trusted ground: requests must name a known host (against DNS
rebinding) and may not come from other web sites.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import decimal
import html
import json
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import orjson
from aiohttp import web
from clickhouse_connect.driver.exceptions import Error as ClickHouseError

from llmtap.collector.admin import questions
from llmtap.collector.admin.clickhouse_http import Executor, answer
from llmtap.collector.admin.health import Health
from llmtap.collector.admin.tail import TailHub
from llmtap.collector.store import Store
from llmtap.collector.store.errors import code_of
from llmtap.collector.store.guard import NotReadOnlyError

_LOOPBACK = frozenset(["127.0.0.1", "localhost", "[::1]", "::1"])
MAX_BODY = 64 << 20
HEARTBEAT_S = 10.0
_FORMAT_TYPES = {"JSON": "application/json", "JSONCompact": "application/json"}


def create_app(
    store: Store,
    *,
    health: Callable[[], Health],
    metrics: Callable[[], bytes],
    tail: TailHub,
    allowed_hosts: tuple[str, ...] = (),
    about: Mapping[str, str] | None = None,
    execute: Executor | None = None,
) -> web.Application:
    """All routes. `execute` runs the ClickHouse interface's SQL (default: reading only)."""
    admin = _Admin(store, health, metrics, tail, dict(about or {}), execute)
    guard = _guard(_LOOPBACK | set(allowed_hosts))
    app = web.Application(middlewares=[guard], client_max_size=MAX_BODY)
    app.add_routes(
        [
            web.get("/", admin.index),
            web.get("/healthz", admin.healthz),
            web.get("/readyz", admin.readyz),
            web.get("/metrics", admin.metrics),
            web.get("/api/calls", admin.calls),
            web.get("/api/calls/{id}", admin.call),
            web.get("/api/stats", admin.stats),
            web.get("/api/tail", admin.tail),
            web.route("*", "/api/sql", admin.sql),
            web.get("/clickhouse/ping", admin.ping),
            web.get("/clickhouse/replicas_status", admin.ping),
            web.route("*", "/clickhouse", admin.clickhouse),
            web.route("*", "/clickhouse/", admin.clickhouse),
        ]
    )
    app.on_cleanup.append(admin.close)
    return app


_T = TypeVar("_T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _guard(hosts: frozenset[str] | set[str]) -> Any:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if name.lower() not in hosts:
            return _json({"error": {"message": _HOST_HELP.format(name[:100])}}, 403)
        site = request.headers.get("Sec-Fetch-Site", "")
        origin = request.headers.get("Origin")
        if site in ("cross-site", "same-site") or (origin and origin.split("//")[-1] != host):
            return _json({"error": {"message": "requests from other web sites are refused"}}, 403)
        response = await handler(request)
        if not response.prepared:
            response.headers["X-Content-Type-Options"] = "nosniff"
            response.headers["Cache-Control"] = "no-store"
        return response

    return guard


_HOST_HELP = "host {!r} is not served here; add it to [admin] allowed_hosts"


class _Admin:
    def __init__(
        self,
        store: Store,
        health: Callable[[], Health],
        metrics: Callable[[], bytes],
        tail: TailHub,
        about: dict[str, str],
        execute: Executor | None,
    ) -> None:
        self._store = store
        self._health = health
        self._metrics = metrics
        self._tail = tail
        self._about = about
        self._execute = execute or self._read
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="admin")

    async def close(self, app: web.Application) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def index(self, request: web.Request) -> web.Response:
        rows = "".join(
            f"<tr><td>{html.escape(k)}</td><td><code>{html.escape(v)}</code></td></tr>"
            for k, v in self._about.items()
        )
        links = "".join(
            f'<li><a href="{p}">{p}</a></li>'
            for p in ("/api/calls", "/api/stats", "/healthz", "/metrics")
        )
        head = "<!doctype html><title>llmtap</title><h1>llmtap</h1>"
        page = f"{head}<table>{rows}</table><ul>{links}</ul>"
        response = web.Response(text=page, content_type="text/html")
        response.headers["Content-Security-Policy"] = "default-src 'none'"
        return response

    async def healthz(self, request: web.Request) -> web.Response:
        health = self._health()
        return _json({"status": health.status, "ready": health.ready, "reasons": health.reasons})

    async def readyz(self, request: web.Request) -> web.Response:
        health = self._health()
        return _json({"ready": health.ready}, 200 if health.ready else 503)

    async def metrics(self, request: web.Request) -> web.Response:
        body = await self._run(self._metrics)
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return web.Response(body=body, headers={"Content-Type": kind})

    async def calls(self, request: web.Request) -> web.Response:
        found = await self._ask(partial(questions.calls, self._store, dict(request.query)))
        return found if isinstance(found, web.Response) else _json({"calls": found})

    async def stats(self, request: web.Request) -> web.Response:
        found = await self._ask(partial(questions.stats, self._store, dict(request.query)))
        return found if isinstance(found, web.Response) else _json(found)

    async def call(self, request: web.Request) -> web.Response:
        call_id = request.match_info["id"].lower()
        if len(call_id) < 8:
            return _json({"error": {"message": "give at least 8 characters of the id"}}, 400)
        found = await self._ask(partial(questions.call, self._store, call_id))
        if found is None:
            return _json({"error": {"message": f"no call has the id {call_id[:40]!r}"}}, 404)
        return found if isinstance(found, web.Response) else _json(found)

    async def _ask(self, work: Callable[[], Any]) -> Any:
        try:
            return await self._run(work)
        except questions.BadQuestionError as e:
            return _json({"error": {"message": str(e)}}, 400)
        except ClickHouseError as e:
            return _sql_error(e)

    async def sql(self, request: web.Request) -> web.Response:
        sql = request.query.get("query") or await request.text()
        fmt = request.query.get("format", "JSON")
        if not fmt.isalnum():
            return _json({"error": {"message": "format: a ClickHouse output format"}}, 400)
        try:
            body = await self._run(partial(self._store.raw_query, sql, fmt=fmt))
        except (NotReadOnlyError, ClickHouseError) as e:
            return _sql_error(e)
        kind = _FORMAT_TYPES.get(fmt, "text/plain; charset=utf-8")
        return web.Response(body=body, headers={"Content-Type": kind})

    async def tail(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        queue = self._tail.subscribe()
        try:
            await response.write(b"\n")
            while True:
                line = b"\n"
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(HEARTBEAT_S):
                        line = _dumps(await queue.get()) + b"\n"
                await response.write(line)
        except ConnectionError:
            return response
        finally:
            self._tail.unsubscribe(queue)

    async def ping(self, request: web.Request) -> web.Response:
        return web.Response(text="Ok.\n")

    def _read(
        self, sql: str, *, fmt: str | None, parameters: Mapping[str, str], data: bytes
    ) -> bytes:
        return self._store.raw_query(sql, fmt=fmt, parameters=parameters)

    async def clickhouse(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {k.lower(): v for k, v in request.headers.items()}
        work = partial(answer, self._execute, request.method, dict(request.query), headers, body)
        result = await self._run(work)
        return web.Response(status=result.status, body=result.body, headers=result.headers)


def _default(value: Any) -> Any:
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, datetime.datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
        return aware.isoformat()
    return str(value)


def _dumps(value: Any) -> bytes:
    try:
        return orjson.dumps(value, default=_default, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        return json.dumps(value, default=_default).encode()


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=_dumps(value), content_type="application/json")


def _sql_error(error: Exception) -> web.Response:
    text = str(error).strip()[:4000]
    return _json({"error": {"code": code_of(error), "message": text}}, 400)
