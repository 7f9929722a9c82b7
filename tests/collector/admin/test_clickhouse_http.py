"""The ClickHouse HTTP interface as its clients use it: clickhouse-connect, curl, raw requests."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any, cast

import clickhouse_connect
import httpx
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from llmtap.collector.admin import settings
from llmtap.collector.admin.clickhouse_http import own_format
from llmtap.collector.store import Store
from tests.collector.admin.serving import Served
from tests.collector.store.embedded import call_row, one

PATH = "/clickhouse/"
BLOCK_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"
NEW_CLIENT = {"default_format": "Native", "client_protocol_version": "54483"}


@pytest.fixture(scope="module")
def connect(served: Served) -> Iterator[Any]:
    """A real HTTP client, as a user would make it."""
    library = cast("Any", clickhouse_connect)
    found = library.get_client(
        host="127.0.0.1", port=served.port, proxy_path="/clickhouse", username="any", password="any"
    )
    yield found
    found.close()


@pytest.fixture(scope="module")
def row_id(store: Store) -> str:
    row = call_row()
    store.insert_calls([row], uuid.uuid4().hex)
    return row.id


def test_clickhouse_connect_reads_rows(connect: Any, row_id: str) -> None:
    sql = "SELECT model_requested, input_tokens, cost_usd, properties, ts, tool_calls FROM calls WHERE id = {id:String}"
    result = connect.query(sql, parameters={"id": row_id})
    assert result.column_names[:2] == ("model_requested", "input_tokens")
    model, tokens, cost, properties, _, tools = result.first_row
    assert (model, tokens, str(cost)) == ("gpt-4o-mini", 120, "0.000123456")
    assert (properties, tools) == ({"env": "test", "tier": "gold"}, ["weather", "search"])


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("String", "it's \\ a\ttab\nand ' \" ⚡"),
        ("String", ""),
        ("String", "\\N"),
        ("Int64", -(1 << 60)),
        ("Nullable(String)", None),
        ("Array(String)", ["a", "b'c", "d\\e"]),
        ("Float64", 0.5),
    ],
)
def test_parameters_arrive_as_they_were_sent(connect: Any, kind: str, value: object) -> None:
    result = connect.query(f"SELECT {{p:{kind}}} AS p", parameters={"p": value})
    assert result.first_row == (value,)


def test_clickhouse_connect_gets_raw_formats(connect: Any) -> None:
    assert connect.raw_query("SELECT number FROM numbers(3)", fmt="CSV") == b"0\n1\n2\n"
    assert connect.raw_query("SELECT 1 AS x FORMAT JSONEachRow") == b'{"x":1}\n'


def test_clickhouse_connect_gets_no_rows(connect: Any) -> None:
    result = connect.query("SELECT id, ts FROM calls WHERE id = 'nobody'")
    assert result.result_rows == []


def test_clickhouse_connect_streams_many(connect: Any) -> None:
    with connect.query_row_block_stream("SELECT number FROM numbers(300000)") as blocks:
        assert sum(len(block) for block in blocks) == 300_000


def test_clickhouse_connect_commands_and_errors(connect: Any) -> None:
    assert connect.command("SELECT count() >= 0 FROM calls") in (1, True)
    assert "calls" in connect.command("SHOW TABLES")
    assert connect.ping()
    with pytest.raises(DatabaseError, match="60"):
        connect.query("SELECT * FROM nowhere")
    with pytest.raises(DatabaseError, match="READONLY"):
        connect.command("DROP TABLE calls")
    with pytest.raises(DatabaseError):
        connect.insert("calls", [["x"]], column_names=["id"])


def test_curl_can_ask(served: Served) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    done = subprocess.run(
        [curl, "-sS", f"{served.url}{PATH}?query=SELECT+1+AS+x+FORMAT+JSONEachRow", "-u", "a:b"],
        capture_output=True,
        check=True,
        timeout=20,
    )
    assert json.loads(done.stdout) == {"x": 1}


@pytest.mark.parametrize(
    ("method", "params", "body", "expected"),
    [
        ("GET", {}, b"", b"Ok.\n"),
        ("GET", {"query": "SELECT 1"}, b"", b"1\n"),
        ("POST", {}, b"SELECT 2", b"2\n"),
        ("POST", {"query": "SELECT 3"}, b"", b"3\n"),
        ("POST", {"query": "SELECT"}, b"4", b"4\n"),
        ("GET", {"query": "SELECT 5;"}, b"", b"5\n"),
        ("GET", {"query": "SELECT 1 AS x", "default_format": "JSONEachRow"}, b"", b'{"x":1}\n'),
        ("GET", {"query": "SELECT 1 AS x FORMAT CSV", "default_format": "JSON"}, b"", b"1\n"),
        ("GET", {"query": "SELECT 1 AS x FORMAT CSV;"}, b"", b"1\n"),
        (
            "GET",
            {"query": "SELECT {a:Int8} + {b:Int8}", "param_a": "1", "param_b": "2"},
            b"",
            b"3\n",
        ),
        ("GET", {"query": "SELECT {s:String}", "param_s": "a\\tb"}, b"", b"a\\tb\n"),
        ("GET", {"query": "SELECT {s:Nullable(String)} IS NULL", "param_s": "\\N"}, b"", b"1\n"),
        ("GET", {"query": "SELECT {l:Array(String)}", "param_l": "['x','y']"}, b"", b"['x','y']\n"),
        ("GET", {"query": "SELECT currentDatabase()", "database": "system"}, b"", b"system\n"),
        ("GET", {"query": "SELECT currentDatabase()", "database": "default"}, b"", b"default\n"),
        ("GET", {"query": "SELECT timezone()"}, b"", b"UTC\n"),
    ],
    ids=str,
)
def test_requests(
    client: httpx.Client, method: str, params: dict[str, str], body: bytes, expected: bytes
) -> None:
    response = client.request(method, PATH, params=params, content=body)
    assert (response.status_code, response.content) == (200, expected)


def test_headers_are_a_servers(client: httpx.Client) -> None:
    params = {"query": "SELECT 1", "default_format": "JSON", "query_id": "q-1"}
    headers = client.get(PATH, params=params).headers
    assert headers["x-clickhouse-query-id"] == "q-1"
    assert headers["x-clickhouse-format"] == "JSON"
    assert headers["x-clickhouse-timezone"] == "UTC"
    assert headers["x-clickhouse-server-display-name"]
    assert set(json.loads(headers["x-clickhouse-summary"])) >= {"read_rows", "elapsed_ns"}
    assert headers["content-type"].startswith("application/json")


def test_a_query_id_can_not_smuggle_headers(client: httpx.Client) -> None:
    response = client.get(PATH, params={"query": "SELECT 1", "query_id": "a\r\nSet-Cookie: x=1"})
    assert response.status_code == 200
    assert "set-cookie" not in response.headers


def test_the_format_may_come_as_a_header(client: httpx.Client) -> None:
    headers = {"X-ClickHouse-Format": "JSONEachRow", "X-ClickHouse-Database": "system"}
    response = client.get(PATH, params={"query": "SELECT currentDatabase() AS d"}, headers=headers)
    assert response.json() == {"d": "system"}


def test_go_clients_ask_like_this(client: httpx.Client) -> None:
    """clickhouse-go over HTTP: Native by POST, a protocol version, the user in headers."""
    headers = {"X-ClickHouse-User": "default", "X-ClickHouse-Key": "secret"}
    sql = b"SELECT displayName(), version(), revision(), timezone()"
    response = client.post(PATH, params=NEW_CLIENT, headers=headers, content=sql)
    assert response.status_code == 200
    assert response.content.startswith(BLOCK_INFO + b"\x04\x01\x0ddisplayName()\x06String\x00")


def test_clients_that_name_no_version_get_plain_native(client: httpx.Client) -> None:
    response = client.post(PATH, params={"default_format": "Native"}, content=b"SELECT 1 AS x")
    assert response.content == b"\x01\x01\x01x\x05UInt8\x01"


def test_no_rows_still_have_columns_in_native(client: httpx.Client) -> None:
    """The embedded engine writes nothing then; Grafana wants names and types."""
    sql = b"SELECT id, chunks FROM calls WHERE id = 'nobody'"
    response = client.post(PATH, params=NEW_CLIENT, content=sql)
    assert response.status_code == 200
    assert response.content == BLOCK_INFO + b"\x02\x00\x02id\x06String\x00\x06chunks\x06UInt32\x00"


def test_gzip_both_ways(client: httpx.Client) -> None:
    packed = gzip.compress(b"SELECT repeat('x', 100000)")
    response = client.post(
        PATH,
        params={"enable_http_compression": "1"},
        content=packed,
        headers={"Content-Encoding": "gzip", "Accept-Encoding": "gzip"},
    )
    assert response.headers["content-encoding"] == "gzip"
    assert response.text == "x" * 100_000 + "\n"
    assert "content-encoding" not in client.get(PATH, params={"query": "SELECT 1"}).headers


def test_a_bomb_is_refused(client: httpx.Client) -> None:
    packed = gzip.compress(b"SELECT 1 " + b" " * (200 << 20))
    response = client.post(PATH, content=packed, headers={"Content-Encoding": "gzip"})
    assert response.status_code == 413


@pytest.mark.parametrize(
    ("sql", "status", "code"),
    [
        ("SELECT * FROM nowhere", 404, 60),
        ("SELECT * FROM nowhere.calls", 404, 81),
        ("SELECT nothing FROM calls", 404, 47),
        ("SELECT nofunction(1)", 404, 46),
        ("SELECT (1", 400, 62),
        ("SELECT 1 FORMAT Nope", 404, 73),
        ("DROP TABLE calls", 500, 164),
        ("SELECT file('/etc/passwd')", 500, 164),
        ("SELECT 1 SETTINGS max_execution_time = 0", 500, 164),
        ("INSERT INTO calls (id) VALUES ('x')", 500, 164),
        ("INSERT INTO calls (id) FORMAT CSV\n'x'", 500, 164),
    ],
)
def test_errors_are_a_servers(client: httpx.Client, sql: str, status: int, code: int) -> None:
    for response in (
        client.get(PATH, params={"query": sql}),
        client.post(PATH, content=sql.encode()),
        client.post(PATH, params=NEW_CLIENT, content=sql.encode()),
    ):
        assert response.headers["x-clickhouse-exception-code"] == str(code)
        assert response.status_code == status
        assert response.text.startswith(f"Code: {code}. DB::Exception: ")
        assert response.text.count("DB::Exception") == 1


def test_errors_tell_no_paths(client: httpx.Client, store: Store) -> None:
    path = one(store, "SELECT path FROM system.disks LIMIT 1")["path"]
    for sql in (
        "SELECT throwIf(1, (SELECT path FROM system.disks LIMIT 1))",
        "SELECT * FROM nowhere",
    ):
        assert path.rstrip("/") not in client.get(PATH, params={"query": sql}).text


def test_an_empty_post_is_an_error(client: httpx.Client) -> None:
    response = client.post(PATH)
    assert (response.status_code, response.headers["x-clickhouse-exception-code"]) == (400, "62")


def test_native_framing_that_we_do_not_speak_is_refused(client: httpx.Client) -> None:
    response = client.get(PATH, params={"query": "SELECT 1", "compress": "1"})
    assert response.headers["x-clickhouse-exception-code"] == "48"


def test_ping(client: httpx.Client) -> None:
    assert client.get("/clickhouse/ping").text == "Ok.\n"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"output_format_json_quote_64bit_integers": "1"}, b'"18446744073709551615"'),
        ({"session_timezone": "Asia/Tokyo"}, b"18446744073709551615"),
        ({"readonly": "0"}, b"18446744073709551615"),
        ({"max_execution_time": "60", "max_result_rows": "0"}, b"18446744073709551615"),
        ({"no_such_setting": "1"}, b"18446744073709551615"),
        (
            {"session_id": "s", "wait_end_of_query": "1", "buffer_size": "10"},
            b"18446744073709551615",
        ),
    ],
    ids=str,
)
def test_settings_shape_the_answer_or_are_left_out(
    client: httpx.Client, asked: dict[str, str], expected: bytes
) -> None:
    sql = "SELECT toUInt64(-1) AS x FORMAT JSONCompactEachRow"
    response = client.get(PATH, params={"query": sql, **asked})
    assert (response.status_code, response.content) == (200, b"[" + expected + b"]\n")


def test_a_limit_can_be_tightened(client: httpx.Client) -> None:
    params = {"query": "SELECT * FROM numbers(10)", "max_result_rows": "5"}
    assert client.get(PATH, params=params).headers["x-clickhouse-exception-code"] == "396"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "readonly",
            "allow_ddl",
            "max_partitions_to_read",
            "format_schema",
            "format_schema_source",
        ),
        *(
            "output_format_schema",
            "format_template_row",
            "format_template_resultset",
            "log_comment",
        ),
        *("output_format_native_encode_types_in_binary_format", "allow_introspection_functions"),
        *("user_files_path", "http_make_head_request", "enable_reads_from_query_cache"),
    ],
)
def test_settings_that_reach_further_are_never_passed_on(name: str) -> None:
    assert settings.chosen({name: "1"}) == {}


@pytest.mark.parametrize(
    ("asked", "used"),
    [
        ({"max_execution_time": "5"}, {"max_execution_time": 5}),
        ({"max_execution_time": "0"}, {}),
        ({"max_execution_time": "-1"}, {}),
        ({"max_execution_time": "9" * 30}, {}),
        ({"max_memory_usage": "²"}, {}),
        ({"session_timezone": "UTC', readonly = '0"}, {}),
        ({"session_timezone": "Europe/Berlin"}, {"session_timezone": "Europe/Berlin"}),
    ],
    ids=str,
)
def test_values_are_checked(asked: dict[str, str], used: dict[str, object]) -> None:
    assert settings.chosen(asked) == used


@pytest.mark.parametrize(
    ("sql", "fmt"),
    [
        ("SELECT 1", None),
        ("SELECT 1 FORMAT JSON", "JSON"),
        ("SELECT 1 format Native ; ", "Native"),
        ("SELECT 'FORMAT JSON'", None),
        ("SELECT format('{}', 1)", None),
        ("SELECT 1 AS format", None),
    ],
)
def test_own_format(sql: str, fmt: str | None) -> None:
    assert own_format(sql) == fmt
