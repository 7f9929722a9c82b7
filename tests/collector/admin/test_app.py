"""The admin application over a real embedded store."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from llmtap.collector.admin.health import Health, health
from llmtap.collector.admin.tail import QUEUE, SUMMARY
from llmtap.collector.state import CollectorState
from llmtap.collector.store import CallRow, Store
from tests.collector.admin.serving import Served, http
from tests.collector.store.embedded import TS, call_row

SECOND = 1_000_000


@pytest.fixture(scope="module")
def project(store: Store) -> tuple[str, list[CallRow]]:
    """Five calls under a project of their own; the newest first."""
    name = uuid.uuid4().hex
    now = int(time.time() * SECOND)
    rows = [
        call_row(project=name, ts=now - 10 * SECOND, user_id="ann", duration_us=100, cost_usd=None),
        call_row(project=name, ts=now - 20 * SECOND, status="error", error_type="rate_limit"),
        call_row(
            project=name, ts=now - 30 * SECOND, model_requested="llama3", model_served="llama3"
        ),
        call_row(project=name, ts=now - 40 * SECOND, session_id="s-9", input_text="Straße 100% _x"),
        call_row(project=name, ts=now - 7200 * SECOND, upstream="vllm", duration_us=9_000_000),
    ]
    store.insert_calls(rows, name)
    return name, rows


def ids(client: httpx.Client, project: str, **filters: str) -> list[str]:
    response = client.get("/api/calls", params={"project": project, **filters})
    assert response.status_code == 200, response.text
    return [call["id"] for call in response.json()["calls"]]


def test_calls_are_the_newest_first_in_summary(
    client: httpx.Client, project: tuple[str, list[CallRow]]
) -> None:
    name, rows = project
    assert ids(client, name) == [row.id for row in rows]
    first = client.get("/api/calls", params={"project": name}).json()["calls"][0]
    assert tuple(first) == SUMMARY
    assert first["model_requested"] == "gpt-4o-mini"
    assert first["cost_usd"] is None


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"since": "1h"}, [0, 1, 2, 3]),
        ({"since": "15m", "limit": "2"}, [0, 1]),
        ({"since": "7d"}, [0, 1, 2, 3, 4]),
        ({"until": "1h"}, [4]),
        ({"since": "2020-01-01", "until": "2020-01-02T00:00:00Z"}, []),
        ({"status": "error"}, [1]),
        ({"model": "llama3"}, [2]),
        ({"model": "gpt-4o-mini-2024-07-18", "since": "1h"}, [0, 1, 3]),
        ({"upstream": "vllm"}, [4]),
        ({"user": "ann"}, [0]),
        ({"session": "s-9"}, [3]),
        ({"search": "STRASSE"}, []),
        ({"search": "straße"}, [3]),
        ({"search": "100% _"}, [3]),
        ({"search": "' OR 1 = 1 --"}, []),
        ({"user": "x' OR '1' = '1"}, []),
        ({"order": "slowest", "limit": "1"}, [4]),
        ({"order": "costliest"}, [1, 2, 3, 4, 0]),
    ],
    ids=str,
)
def test_filters(
    client: httpx.Client,
    project: tuple[str, list[CallRow]],
    filters: dict[str, str],
    found: list[int],
) -> None:
    name, rows = project
    expected = [rows[i].id for i in found]
    got = ids(client, name, **filters)
    if filters.get("order") == "costliest":  # equal costs come in any order; no price comes last
        assert got[-1] == expected[-1]
        got, expected = sorted(got), sorted(expected)
    assert got == expected


def test_a_trace_is_found_by_its_id(
    client: httpx.Client, project: tuple[str, list[CallRow]]
) -> None:
    name, rows = project
    assert ids(client, name, trace_id=rows[2].trace_id) == [rows[2].id]


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ({"since": "soon"}, "15m"),
        ({"until": "2026-99-01"}, "15m"),
        ({"since": "999999w"}, "15m"),
        ({"limit": "0"}, "1 to 1000"),
        ({"limit": "1001"}, "1 to 1000"),
        ({"limit": "ten"}, "1 to 1000"),
        ({"order": "ts; DROP TABLE calls"}, "slowest"),
    ],
    ids=str,
)
def test_a_bad_filter_is_told(client: httpx.Client, filters: dict[str, str], says: str) -> None:
    for path in ("/api/calls", "/api/stats") if "since" in filters else ("/api/calls",):
        response = client.get(path, params=filters)
        assert response.status_code == 400
        assert says in response.json()["error"]["message"]


def test_one_call_is_whole(client: httpx.Client, project: tuple[str, list[CallRow]]) -> None:
    row = project[1][3]
    found = client.get(f"/api/calls/{row.id.upper()}").json()
    assert set(found) == set(CallRow._fields)
    assert found["input_text"] == row.input_text
    assert found["properties"] == row.properties
    assert found["ts"].endswith("+00:00")
    assert found["cost_usd"] == pytest.approx(float(row.cost_usd or 0))


def test_the_beginning_of_an_id_is_enough(
    client: httpx.Client, project: tuple[str, list[CallRow]]
) -> None:
    row = project[1][0]
    assert client.get(f"/api/calls/{row.id[:13]}").json()["id"] == row.id


def test_a_call_stored_twice_is_shown_once(client: httpx.Client, store: Store) -> None:
    row = call_row()
    for _ in range(2):
        store.insert_calls([row], uuid.uuid4().hex)
    assert client.get(f"/api/calls/{row.id}").json()["id"] == row.id


@pytest.mark.parametrize("call_id", ["00000000-0000-0000-0000-000000000000", "00000000"])
def test_an_unknown_id_is_404(client: httpx.Client, call_id: str) -> None:
    response = client.get(f"/api/calls/{call_id}")
    assert response.status_code == 404
    assert call_id in response.json()["error"]["message"]


def test_an_ambiguous_id_asks_for_more(client: httpx.Client, store: Store) -> None:
    start = uuid.uuid4().hex[:8]
    rows = [call_row(id=f"{start}-0000-7000-8000-00000000000{n}") for n in range(2)]
    store.insert_calls(rows, start)
    response = client.get(f"/api/calls/{start}")
    assert response.status_code == 400
    assert "more of the id" in response.json()["error"]["message"]


def test_stats(client: httpx.Client, project: tuple[str, list[CallRow]]) -> None:
    response = client.get("/api/stats", params={"project": project[0], "since": "1h"})
    found = response.json()
    assert (found["calls"], found["failed"], found["calls_without_price"]) == (4, 1, 1)
    assert found["input_tokens"] == 480
    assert found["cost_usd"] == pytest.approx(3 * 0.000123456)
    assert found["duration_us_p95"] >= found["duration_us_p50"] > 0
    assert {m["model"]: m["calls"] for m in found["by_model"]} == {"gpt-4o-mini": 3, "llama3": 1}
    assert {s["status"]: s["calls"] for s in found["by_status"]} == {"ok": 3, "error": 1}


def test_costs(client: httpx.Client, project: tuple[str, list[CallRow]]) -> None:
    name, rows = project
    told = client.get("/api/costs", params={"project": name, "by": "upstream"}).json()
    groups = {group["upstream"]: group for group in told["groups"]}
    assert set(groups) == {"openai", "vllm"}
    priced = [r.cost_usd for r in rows if r.upstream == "openai" and r.cost_usd is not None]
    assert groups["openai"]["cost_usd"] == pytest.approx(float(sum(priced)))
    assert groups["openai"]["calls_without_price"] == 1
    assert groups["openai"]["calls"] == len(rows) - 1
    assert told["total"]["calls"] == len(rows)
    assert sum(g["input_tokens"] for g in told["groups"]) == told["total"]["input_tokens"]


def test_costs_by_several_and_by_property(
    client: httpx.Client, project: tuple[str, list[CallRow]]
) -> None:
    by = "day,model,property:tier"
    told = client.get("/api/costs", params={"project": project[0], "by": by}).json()
    assert told["by"] == ["day", "model", "property:tier"]
    assert {g["property:tier"] for g in told["groups"]} == {"gold"}
    assert len({g["model"] for g in told["groups"]}) == 2
    nothing = client.get("/api/costs", params={"project": "nobody's"}).json()
    assert nothing["groups"] == [] and nothing["total"]["cost_usd"] is None


@pytest.mark.parametrize("by", ["nonsense", "model; DROP TABLE calls", "property"])
def test_costs_by_nonsense(client: httpx.Client, by: str) -> None:
    response = client.get("/api/costs", params={"by": by})
    assert response.status_code == 400 and "is none of" in response.json()["error"]["message"]


def test_stats_of_nothing(client: httpx.Client) -> None:
    found = client.get("/api/stats", params={"project": "nobody"}).json()
    assert (found["calls"], found["by_model"]) == (0, [])


# SQL


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("params", "body"),
    [
        ({"query": "SELECT 1 AS x"}, b'"x": 1'),
        ({"query": "SELECT 1 AS x;", "format": "JSONEachRow"}, b'{"x":1}\n'),
        ({"query": "SELECT 1 AS x", "format": "CSVWithNames"}, b'"x"\n1\n'),
        ({"query": "SELECT 1 AS x FORMAT TSV", "format": "JSON"}, b"1\n"),
        ({"query": "SELECT 1 AS x", "format": "Parquet"}, b"PAR1"),
        ({"query": "SELECT '⚡' AS x -- comment", "format": "TSV"}, "⚡\n".encode()),
    ],
    ids=str,
)
def test_sql(client: httpx.Client, method: str, params: dict[str, str], body: bytes) -> None:
    response = client.request(method, "/api/sql", params=params)
    assert response.status_code == 200, response.text
    assert body in response.content


def test_sql_in_the_body(client: httpx.Client) -> None:
    response = client.post("/api/sql", params={"format": "TSV"}, content=b"SELECT 7")
    assert response.content == b"7\n"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("SELECT * FROM nowhere", 60),
        ("SELEC 1", 164),
        ("SELECT (1", 62),
        ("DROP TABLE calls", 164),
        ("SELECT file('/etc/passwd')", 164),
        ("SELECT 1 SETTINGS readonly = 0", 164),
        ("", 164),
    ],
)
def test_sql_errors_are_json(client: httpx.Client, query: str, code: int) -> None:
    response = client.get("/api/sql", params={"query": query})
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == code
    assert error["message"]


@pytest.mark.parametrize(
    "fmt", ["", "Nope", "TSV\n;", "JSON SETTINGS readonly=0", "dataframe", "ArrowTable"]
)
def test_a_bad_format_is_400(client: httpx.Client, fmt: str) -> None:
    response = client.get("/api/sql", params={"query": "SELECT 1", "format": fmt})
    assert response.status_code == 400
    assert response.json()["error"]["message"]


# health and metrics


@pytest.fixture
def well(served: Served) -> Iterator[Served]:
    yield served
    served.health = Health("ok", True)


def test_health_says_why(client: httpx.Client, well: Served) -> None:
    assert client.get("/healthz").json() == {"status": "ok", "ready": True, "reasons": []}
    well.health = Health("degraded", False, ["the store does not take rows"])
    degraded = client.get("/healthz")
    assert (degraded.status_code, degraded.json()["status"]) == (200, "degraded")
    assert degraded.json()["reasons"] == ["the store does not take rows"]
    assert client.get("/readyz").status_code == 503
    well.health = Health("ok", True)
    assert client.get("/readyz").status_code == 200


def worker_status(served: Served, **changes: Any) -> None:
    status = {
        "slot": 0,
        "at_us": int(time.time() * SECOND),
        "calls": 12,
        "connections": 3,
        "open_connections": 1,
        "spool_level": "OK",
        "spool": {"bytes": 4096, "dropped": {"full": 2}},
        "refused": {"bad_host": 1},
    }
    (served.run / "worker-0.json").write_text(json.dumps({**status, **changes}))


def test_health_is_made_of_state_and_workers(served: Served) -> None:
    state = CollectorState(ready=True)
    worker_status(served)
    (served.run / "worker-1.json").write_text("{half")
    assert health(state, served.run) == Health("ok", True)
    worker_status(served, spool_level="FULL", at_us=0)
    state.store_error = "Code: 241"
    reasons = health(state, served.run).reasons
    assert [part for part in ("Code: 241", "level FULL", "no status") if part in "\n".join(reasons)]
    assert len(reasons) == 3


def test_metrics_are_prometheus_metrics(client: httpx.Client, served: Served) -> None:
    worker_status(served)
    served.state.calls_stored["ok"] = 5
    served.state.losses["full"] = 2
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = response.text.splitlines()
    assert 'llmtap_calls_stored_total{status="ok"} 5.0' in lines
    assert 'llmtap_losses_total{reason="full"} 2.0' in lines
    assert 'llmtap_spool_dropped_records_total{reason="full",worker="0"} 2.0' in lines
    assert "llmtap_store_up 1.0" in lines


def test_promtool_likes_them(client: httpx.Client, served: Served) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: metrics were not checked by Prometheus itself")
    worker_status(served)
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=client.get("/metrics").content,
        capture_output=True,
        check=False,
        timeout=20,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# tail


def test_tail_shows_rows_as_they_are_stored(client: httpx.Client, served: Served) -> None:
    assert served.tail is not None
    row = call_row(model_requested="tailed")
    with client.stream("GET", "/api/tail") as response:
        assert response.headers["content-type"].startswith("application/x-ndjson")
        lines = response.iter_lines()
        assert next(lines) == ""  # a heartbeat at once: the reader is known to be on
        served.tail.publish([row])
        found = json.loads(next(lines))
    assert tuple(found) == SUMMARY
    assert (found["id"], found["model_requested"]) == (row.id, "tailed")


def test_a_slow_reader_loses_the_oldest_and_blocks_nobody(served: Served) -> None:
    assert served.tail is not None
    hub = served.tail
    queue = hub.subscribe()
    rows = [call_row(chunks=n) for n in range(10)]
    for _ in range(QUEUE // 10 + 5):
        hub.publish(rows)
    last = call_row()
    hub.publish([last])
    with http(served) as client:  # the loop answers only once it has put all rows
        assert client.get("/healthz").status_code == 200
    got: list[str] = []
    while not queue.empty():
        got.append(queue.get_nowait()["id"])
    hub.unsubscribe(queue)
    assert got[-1] == last.id
    assert len(got) == QUEUE and hub.dropped >= 51


# who may ask


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/healthz",
        "/api/calls",
        "/api/sql?query=SELECT+1",
        "/clickhouse/?query=SELECT+1",
        "/api/tail",
    ],
)
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8788"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "127.0.0.1@evil.example"},
        {"Host": "evil.example/127.0.0.1"},
        {"Host": "localhost:8788:evil"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_strangers_are_refused(client: httpx.Client, path: str, headers: dict[str, str]) -> None:
    response = client.get(path, headers=headers)
    assert response.status_code == 403
    assert response.json()["error"]["message"]
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:1", "[::1]:8788", "LLMTAP.example", "127.0.0.1"]
)
def test_known_hosts_are_served(client: httpx.Client, host: str) -> None:
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


def test_our_own_pages_may_ask(client: httpx.Client, served: Served) -> None:
    headers = {"Origin": served.url, "Sec-Fetch-Site": "same-origin"}
    assert client.get("/api/calls", headers=headers).status_code == 200


def test_two_hosts_are_one_too_many(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), 10) as peer:
        peer.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert peer.recv(1000).split()[1] in (b"400", b"403")


def test_nothing_is_guessed_or_kept_by_browsers(client: httpx.Client) -> None:
    for path in ("/", "/api/calls", "/metrics", "/nowhere"):
        response = client.get(path)
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"


def test_the_front_page_says_where_things_are(client: httpx.Client) -> None:
    response = client.get("/")
    assert "http://127.0.0.1:8787" in response.text
    assert "/api/calls" in response.text
    assert "<b>" not in response.text
    assert (
        response.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    )


def test_unknown_paths_and_methods_answer_in_json(client: httpx.Client) -> None:
    assert client.get("/nowhere").status_code == 404
    assert client.get("/nowhere").json()["error"]["message"]
    assert client.delete("/api/calls").status_code == 405
    assert client.post("/healthz").status_code == 405


def test_huge_requests_are_refused(client: httpx.Client) -> None:
    response = client.post("/api/sql", content=b"SELECT 1 " + b" " * (65 << 20))
    assert response.status_code == 413


def test_readers_do_not_wait_for_each_other(client: httpx.Client, served: Served) -> None:
    """More slow questions than there are connections: health still answers."""
    slow = "SELECT sleepEachRow(0.3) FROM numbers(1)"

    def ask() -> None:
        httpx.get(f"{served.url}/api/sql", params={"query": slow}, timeout=30, trust_env=False)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    answers = [client.get("/healthz").status_code for _ in range(5)]
    for thread in threads:
        thread.join()
    assert answers == [200] * 5


def test_the_default_time_is_of_this_century() -> None:
    assert TS // SECOND > 1_700_000_000
