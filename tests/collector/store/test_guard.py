"""What a reader must not do, tried against the guard and, where the guard stands alone, the engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from clickhouse_connect.driver.exceptions import Error as ClickHouseError

from llmtap.collector.store import Store
from llmtap.collector.store.guard import NotReadOnlyError, check_read_only
from tests.collector.store.embedded import one

READING = [
    "SELECT 1",
    "select count() from calls;",
    "  \n-- first\nSELECT /* inline */ 1 # last",
    "WITH x AS (SELECT 1 AS a) SELECT a FROM x",
    "(SELECT 1) UNION ALL (SELECT 2)",
    "SHOW TABLES",
    "SHOW CREATE TABLE calls",
    "DESCRIBE TABLE calls",
    "DESC calls",
    "DESCRIBE (SELECT 1)",
    "EXPLAIN SELECT * FROM calls",
    "EXISTS TABLE calls",
    "SELECT 'file(''/etc/passwd'')', 'INTO OUTFILE', '-- ; DROP TABLE calls'",
    "SELECT 'it''s \\' ; fine'",
    'SELECT "model_requested", `model_served` FROM calls',
    "SELECT input_text FROM calls WHERE positionCaseInsensitiveUTF8(input_text, 'größe') > 0",
    "SELECT * FROM numbers(3)",
    "SELECT path, domain('http://a/b'), cutURLParameter('http://a/?b=1', 'b') FROM calls",
    "SELECT arrayMap(x -> x + 1, [1, 2]), map('url', 1)['url']",
    "SELECT sum(cost_usd) FROM calls WHERE ts > now() - INTERVAL 1 DAY GROUP BY user_id WITH TOTALS",
    "SELECT count() FROM calls FORMAT JSON",
]


@pytest.mark.parametrize("sql", READING)
def test_reading_is_let_through(store: Store, sql: str) -> None:
    check_read_only(sql)
    store.raw_query(sql)


WRITING = [
    "INSERT INTO calls (id) VALUES ('x')",
    "INSERT INTO calls SELECT * FROM calls",
    "DROP TABLE calls",
    "TRUNCATE TABLE calls",
    "ALTER TABLE calls DELETE WHERE 1",
    "ALTER TABLE calls MODIFY TTL toDateTime(ts)",
    "DELETE FROM calls WHERE 1",
    "UPDATE calls SET status = 'ok' WHERE 1",
    "OPTIMIZE TABLE calls",
    "RENAME TABLE calls TO x",
    "DETACH TABLE calls",
    "CREATE TABLE x (a Int8) ENGINE = Memory",
    "CREATE TEMPORARY TABLE x (a Int8)",
    "CREATE FUNCTION f AS x -> x",
    "SET readonly = 0",
    "SET max_execution_time = 0",
    "USE system",
    "SYSTEM STOP MERGES",
    "SYSTEM SHUTDOWN",
    "KILL QUERY WHERE 1",
    "BACKUP TABLE calls TO File('x')",
    "GRANT ALL ON *.* TO default",
    "EXECUTE AS default SELECT 1",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE calls",
    "",
    ";",
    "-- only a comment",
    '"select" 1',
]
LEAVING = [
    "SELECT file('SECRET')",
    "SELECT\nfile ( 'SECRET' )",
    "SELECT file/**/('SECRET')",
    "SELECT file--\n('SECRET')",
    "SELECT `file`('SECRET')",
    "SELECT \"file\"('SECRET')",
    "SELECT `fi\\x6ce`('SECRET')",
    "SELECT \u201cfile\u201d('SECRET')",
    "SELECT file\u200b('SECRET')",
    "SELECT file\ufeff('SECRET')",
    "SELECT file\xa0('SECRET')",
    "SELECT arrayMap(file, ['SECRET'])",
    "SELECT arrayMap(x -> file(x), ['SECRET'])",
    "SELECT * APPLY file FROM (SELECT 'SECRET')",
    "SELECT * APPLY(file) FROM (SELECT 'SECRET')",
    "SELECT COLUMNS('a') APPLY x -> file(x) FROM (SELECT 'SECRET' AS a)",
    "SELECT 1 WHERE dummy IN file('SECRET')",
    "SELECT * FROM file('SECRET', 'LineAsString')",
    "DESCRIBE TABLE file('SECRET', 'LineAsString')",
    "DESCRIBE file('SECRET')",
    "SELECT * FROM eval('SELECT file(''SECRET'')')",
    "SELECT 1 INTO OUTFILE 'OUT'",
    "SELECT 1 into/**/outfile 'OUT' TRUNCATE FORMAT CSV",
    "(SELECT 1) INTO OUTFILE 'OUT'",
    "SHOW TABLES INTO OUTFILE 'OUT'",
    "SELECT 1 /* /* */ ' */ INTO OUTFILE 'OUT' --'",
    "SELECT \u2018 \u2019 INTO OUTFILE 'OUT' --\u2019",
    "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a Int8')",
    "SELECT * FROM URL('http://127.0.0.1:1/', 'CSV', 'a Int8')",
    "DESCRIBE url('http://127.0.0.1:1/', 'CSV')",
    "SELECT * FROM s3('http://127.0.0.1:1/b/x', 'CSV', 'a Int8')",
    "SELECT * FROM remote('127.0.0.1:1', 'system', 'one')",
    "SELECT * FROM remoteSecure('127.0.0.1:1', 'system', 'one')",
    "SELECT * FROM executable('ls', 'TSV', 'a String')",
    "SELECT * FROM python('os')",
    "SELECT * FROM mysql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
    "SELECT * FROM sqlite('OUT', 'a')",
    "SELECT * FROM filesystem('/')",
    "SELECT * FROM iceberg('http://127.0.0.1:1/')",
    "EXPLAIN SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a Int8')",
    "SELECT aiGenerate('x')",
    "SELECT showCertificate()",
]


@pytest.mark.parametrize("sql", WRITING + LEAVING)
def test_everything_else_is_refused(store: Store, sql: str, tmp_path: Path) -> None:
    secret, out = tmp_path / "secret.txt", tmp_path / "out.txt"
    secret.write_text("top secret")
    sql = sql.replace("SECRET", str(secret)).replace("OUT'", f"{out}'")
    before = one(store, "SELECT count() AS n FROM calls")
    with pytest.raises(NotReadOnlyError):
        store.raw_query(sql)
    assert not out.exists()
    assert one(store, "SELECT count() AS n FROM calls") == before


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 SETTINGS readonly = 0",
        "SELECT 1 SETTINGS max_execution_time = 0",
        "SELECT 1 SETTINGS max_memory_usage = 0",
    ],
)
def test_the_engine_keeps_its_lock_and_limits(store: Store, sql: str) -> None:
    with pytest.raises(ClickHouseError, match="READONLY"):
        store.raw_query(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO calls (id) VALUES ('x')",
        "DROP TABLE calls",
        "ALTER TABLE calls DELETE WHERE 1",
        "CREATE TABLE x (a Int8) ENGINE = Memory",
        "SET readonly = 0",
        "SELECT * FROM file('/etc/hostname', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a Int8')",
    ],
)
def test_the_engine_refuses_too_without_the_guard(store: Store, sql: str) -> None:
    """`query` is for our own SQL and has no guard: the lock alone must hold."""
    with pytest.raises(ClickHouseError, match="READONLY"):
        store.query(sql)


def test_a_function_can_not_come_in_as_a_parameter(store: Store, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("top secret")
    sql = f"SELECT arrayMap({{f:Identifier}}, ['{secret}'])"
    with pytest.raises(NotReadOnlyError):
        store.raw_query(sql, parameters={"f": "file"})


SAFE_TABLE_FUNCTIONS = frozenset(
    (
        *("SQLStandardValues", "format", "generateRandom", "generateSeries", "generate_series"),
        *("merge", "mergeTreeAnalyzeIndexes", "mergeTreeAnalyzeIndexesUUID", "mergeTreeIndex"),
        *("mergeTreeCodecBlockCounts", "mergeTreeProjection", "mergeTreeTextIndex", "null"),
        *("numbers", "numbers_mt", "primes", "values", "view", "viewIfPermitted", "zeros"),
        *("zeros_mt", "prometheusQuery", "prometheusQueryRange", "timeSeriesData"),
        *("timeSeriesMetricFamilies", "timeSeriesMetrics", "timeSeriesSamples"),
        *("timeSeriesSelector", "timeSeriesTags"),
    )
)


def test_every_table_function_of_the_engine_is_known(store: Store) -> None:
    """A newer engine may bring new ways out; this says which to look at."""
    let_through: set[str] = set()
    for row in store.query("SELECT name FROM system.table_functions"):
        try:
            check_read_only(f"SELECT * FROM {row['name']}('x')")
        except NotReadOnlyError:
            continue
        let_through.add(row["name"])
    assert let_through <= SAFE_TABLE_FUNCTIONS


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELECT number FROM numbers(2000000)", 396),
        ("SELECT groupArray(number) FROM numbers(1000000000)", 241),
    ],
)
def test_results_and_memory_are_limited(store: Store, sql: str, code: int) -> None:
    with pytest.raises(ClickHouseError, match=f"Code: {code}"):
        store.raw_query(sql)


def test_time_is_limited_and_the_next_answer_is_its_own(store: Store) -> None:
    endless = "SELECT count() FROM numbers(10000000000000) WHERE NOT ignore(number)"
    with pytest.raises(ClickHouseError, match="Code: 159"):
        store.raw_query(endless, settings={"max_execution_time": 1})
    assert store.raw_query("SELECT 42") == b"42\n"


def test_a_reader_leaves_nothing_behind(store: Store) -> None:
    assert store.raw_query("SELECT currentDatabase()", database="system") == b"system\n"
    shaped = store.raw_query(
        "SELECT now64(3)", fmt="CSV", settings={"session_timezone": "Asia/Tokyo"}
    )
    assert len(shaped) > 20
    assert store.raw_query("SELECT currentDatabase(), timezone()") == b"default\tUTC\n"
