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
import re
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import orjson
from aiohttp import web
from clickhouse_connect.driver.exceptions import Error as ClickHouseError

from llmtap.collector.admin import questions
from llmtap.collector.admin.clickhouse_http import Request, answer, own_format
from llmtap.collector.admin.health import Health
from llmtap.collector.admin.tail import TailHub
from llmtap.collector.store import Store, StoreUnreachableError
from llmtap.collector.store.errors import code_of
from llmtap.collector.store.guard import NotReadOnlyError

_LINKS = (
    ("/api/calls?since=1h", "calls as JSON"),
    ("/api/stats?since=24h", "sums by model and status"),
    ("/api/costs?by=day,model", "calls, tokens and money by group"),
    ("/api/sql?query=SHOW+TABLES", "SQL, reading only"),
    ("/api/tail", "calls as they are stored"),
    ("/metrics", "for Prometheus"),
    ("/healthz", "is all well?"),
)
_COMMANDS = (
    "llmtap tail",
    "llmtap calls --since 1h",
    "llmtap show ID",
    "llmtap costs --by user --since 7d",
    'llmtap sql "SELECT * FROM calls_cost_daily"',
    "llmtap doctor",
)
_LOOPBACK = frozenset(["127.0.0.1", "localhost", "[::1]", "::1"])
MAX_BODY = 64 << 20
HEARTBEAT_S = 10.0
_FORMAT_TYPES = {"JSON": "application/json", "JSONCompact": "application/json"}


def create_app(
    store: Callable[[], Store],
    *,
    health: Callable[[], Health],
    metrics: Callable[[], bytes],
    tail: TailHub,
    allowed_hosts: tuple[str, ...] = (),
    about: Mapping[str, str] | None = None,
    reprice: Callable[[Mapping[str, str]], Any] | None = None,
    writable: bool = False,
) -> web.Application:
    """All routes. `store` may raise StoreUnreachableError as long as there is none: then 503.

    `writable` opens the ClickHouse interface to any SQL, so that tests can use it as a server (by a
    DSN with `proxy_path=/clickhouse&compress=gzip`, as lz4 is not undone); never set it otherwise.
    """
    admin = _Admin(store, health, metrics, tail, dict(about or {}), writable)
    admin.reprice_with = reprice
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
            web.get("/api/costs", admin.costs),
            web.post("/api/reprice", admin.reprice),
            web.get("/api/tail", admin.tail),
            web.get("/api/sql", admin.sql),
            web.post("/api/sql", admin.sql),
            web.get("/clickhouse/ping", admin.ping),
            web.get("/clickhouse/replicas_status", admin.ping),
            web.get("/clickhouse", admin.clickhouse),
            web.post("/clickhouse", admin.clickhouse),
            web.get("/clickhouse/", admin.clickhouse),
            web.post("/clickhouse/", admin.clickhouse),
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
        match = _HOST.fullmatch(host)
        if match is None or match[1].lower() not in hosts:
            return _safe(_json({"error": {"message": _HOST_HELP.format(host[:100])}}, 403))
        site = request.headers.get("Sec-Fetch-Site", "")
        origin = request.headers.get("Origin")
        if site in ("cross-site", "same-site") or (origin and origin.split("//")[-1] != host):
            text = "requests from other web sites are refused"
            return _safe(_json({"error": {"message": text}}, 403))
        try:
            response = await handler(request)
        except StoreUnreachableError as e:
            return _safe(_json({"error": {"message": f"the store is not open: {e}"}}, 503))
        except web.HTTPException as e:
            return _safe(_json({"error": {"message": f"{e.status} {e.reason}"}}, e.status))
        return response if response.prepared else _safe(response)

    return guard


def _safe(response: web.StreamResponse) -> web.StreamResponse:
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "no-store"
    return response


_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::\d{1,5})?", re.ASCII)
_HOST_HELP = "host {!r} is not served here; add it to [admin] allowed_hosts"


class _Admin:
    def __init__(
        self,
        store: Callable[[], Store],
        health: Callable[[], Health],
        metrics: Callable[[], bytes],
        tail: TailHub,
        about: dict[str, str],
        writable: bool,
    ) -> None:
        self._get_store = store
        self._health = health
        self._metrics = metrics
        self._tail = tail
        self._about = about
        self._writable = writable
        self.reprice_with: Callable[[Mapping[str, str]], Any] | None = None
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="admin")

    @property
    def _store(self) -> Store:
        return self._get_store()

    async def close(self, app: web.Application) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def index(self, request: web.Request) -> web.Response:
        """Where things are; a page without scripts."""
        here = f"http://{request.host}"
        rows = "".join(
            f"<tr><td>{html.escape(k)}</td><td><code>{html.escape(v)}</code></td></tr>"
            for k, v in {**self._about, "ClickHouse HTTP": f"{here}/clickhouse"}.items()
        )
        links = "".join(f'<li><a href="{path}">{path}</a> {text}</li>' for path, text in _LINKS)
        commands = "".join(f"<li><code>{html.escape(line)}</code></li>" for line in _COMMANDS)
        page = (
            "<!doctype html><html lang=en><meta charset=utf-8><title>llmtap</title><h1>llmtap</h1>"
            f"<table>{rows}</table><h2>Here</h2><ul>{links}</ul>"
            f"<h2>In a terminal</h2><ul>{commands}</ul>"
        )
        response = web.Response(text=page, content_type="text/html")
        response.headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
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

    async def costs(self, request: web.Request) -> web.Response:
        found = await self._ask(partial(questions.costs, self._store, dict(request.query)))
        return found if isinstance(found, web.Response) else _json(found)

    async def reprice(self, request: web.Request) -> web.Response:
        if self.reprice_with is None:
            raise web.HTTPNotFound
        found = await self._ask(partial(self.reprice_with, dict(request.query)))
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
            return self._sql_error(e)

    def _sql_error(self, error: Exception) -> web.Response:
        text = self._store.public_text(error)
        return _json({"error": {"code": code_of(error), "message": text}}, 400)

    async def sql(self, request: web.Request) -> web.Response:
        sql = request.query.get("query") or await request.text()
        fmt = request.query.get("format", "JSON")
        if not fmt.isalnum():
            return _json({"error": {"message": "format: a ClickHouse output format"}}, 400)
        own = own_format(sql)
        try:
            body = await self._run(partial(self._store.raw_query, sql, fmt=None if own else fmt))
        except (NotReadOnlyError, ClickHouseError) as e:
            return self._sql_error(e)
        fmt = own or fmt
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

    async def clickhouse(self, request: web.Request) -> web.Response:
        packed = request.headers.get("Content-Encoding", "identity").lower()
        if packed not in _UNPACKED:
            return web.Response(status=400, text=f"Content-Encoding {packed[:20]} is not known\n")
        query = dict(request.query)
        headers = {k.lower(): v for k, v in request.headers.items()}
        asked = Request(request.method, query, headers, await request.read())
        result = await self._run(partial(answer, self._store, asked, writable=self._writable))
        response = web.Response(status=result.status, body=result.body, headers=result.headers)
        wanted = query.get("enable_http_compression") == "1"
        if wanted and "gzip" in headers.get("accept-encoding", ""):
            response.enable_compression(web.ContentCoding.gzip)
        return response


_UNPACKED = frozenset(["identity", "gzip", "deflate", "br", "zstd"])
"""Request encodings that aiohttp undoes, within `client_max_size`."""


_JSON_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_NAIVE_UTC


def _default(value: Any) -> Any:
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, datetime.datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
        return aware.isoformat()
    return str(value)


def _dumps(value: Any) -> bytes:
    try:
        return orjson.dumps(value, default=_default, option=_JSON_OPTIONS)
    except TypeError:
        return json.dumps(value, default=_default).encode()


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=_dumps(value), content_type="application/json")
