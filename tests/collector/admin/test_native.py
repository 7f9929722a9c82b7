"""Native for newer clients, judged by the engine itself: each column's bytes, asked for alone."""

from __future__ import annotations

import pytest

from llmtap.collector.admin.native import NativeError, with_revision
from llmtap.collector.store import Store

BLOCK_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"
REVISION = 54483
COLUMNS = [
    "toUInt8(number)",
    "toInt64(number)",
    "toUInt256(number)",
    "toInt128(number)",
    "toFloat32(number)",
    "toFloat64(number)",
    "number % 2 = 0",
    "toString(number)",
    "repeat('x', number * 100)",
    "toFixedString(toString(number % 10), 5)",
    "toDate('2026-01-01') + number",
    "toDate32('2026-01-01')",
    "toDateTime('2026-01-01 00:00:00')",
    "toDateTime('2026-01-01 00:00:00', 'Asia/Tokyo')",
    "toDateTime64('2026-01-01 00:00:00', 6, 'UTC')",
    "toDecimal32(number, 2)",
    "toDecimal64(number, 9)",
    "toDecimal128(number, 9)",
    "toDecimal256(number, 9)",
    "generateUUIDv4() = generateUUIDv4()",
    "toUUID('01a1fb68-cd14-7000-8000-000000000000')",
    "toIPv4('127.0.0.1')",
    "toIPv6('::1')",
    "CAST(if(number % 2 = 0, 'a', 'b)'), 'Enum8(\\'a\\' = 1, \\'b)\\' = 2)')",
    "CAST('a,(', 'Enum16(\\'a,(\\' = 1000)')",
    "INTERVAL number DAY",
    "if(number % 2 = 0, NULL, number)",
    "if(number % 2 = 0, NULL, toString(number))",
    "NULL",
    "toLowCardinality(toString(number % 3))",
    "toLowCardinality(if(number % 2 = 0, NULL, toString(number)))",
    "toLowCardinality(toFixedString('ab', 2))",
    "range(number)",
    "emptyArrayString()",
    "arrayMap(x -> toString(x), range(number))",
    "arrayMap(x -> toLowCardinality(toString(x)), range(number))",
    "[range(number), range(number + 1)]",
    "map('a', number, 'b', 2)",
    "CAST(map('a', toString(number)), 'Map(LowCardinality(String), String)')",
    "CAST([map('a', toString(number))], 'Array(Map(LowCardinality(String), String))')",
    "CAST(map('a', ['x', 'y']), 'Map(LowCardinality(String), Array(LowCardinality(String)))')",
    "tuple(number, toString(number))",
    "CAST(tuple(1, 'x', [1.5]), 'Tuple(a UInt8, `b, (c` String, d Array(Float64))')",
    "CAST(tuple('x', 1), 'Tuple(LowCardinality(String), Nullable(UInt8))')",
    "[tuple(number, [toLowCardinality('x')])]",
    "tuple(1., 2.)::Point",
    "[tuple(1., 2.)]::Ring",
    "quantiles(0.5, 0.9)(number) OVER ()",
]


def payload(store: Store, expression: str, rows: int) -> bytes:
    """Name, type and values of one column: what follows the counts in a block of that column."""
    data = native(store, [expression], rows)
    assert data[:2] == bytes((1, rows))
    return data[2:]


def native(store: Store, expressions: list[str], rows: int) -> bytes:
    shown = ", ".join(f"{e} AS c{i}" for i, e in enumerate(expressions))
    return store.raw_query(f"SELECT {shown} FROM numbers({rows})", fmt="Native")


def header_length(column: bytes) -> int:
    """Length of the name and type (both short here, so their lengths are one byte)."""
    name = column[0]
    return 2 + name + column[1 + name]


@pytest.mark.parametrize("rows", [1, 2, 7, 100])
@pytest.mark.parametrize("expression", COLUMNS)
def test_a_column_gets_its_mark_and_keeps_its_bytes(
    store: Store, expression: str, rows: int
) -> None:
    """Between two strings, so that a wrong length can not go unseen."""
    before, after = payload(store, "'before'", rows), payload(store, "'after'", rows)
    column = payload(store, expression, rows)
    plain = bytes((3, rows)) + before + column + after
    cut = [header_length(part) for part in (before, column, after)]
    expected = BLOCK_INFO + bytes((3, rows))
    for part, at in zip((before, column, after), cut, strict=True):
        expected += part[:at] + b"\x00" + part[at:]
    assert with_revision(plain, REVISION) == expected


def test_all_columns_and_several_blocks_at_once(store: Store) -> None:
    plain = native(store, COLUMNS, 5) + native(store, COLUMNS[:3], 9)
    found = with_revision(plain, REVISION)
    assert found.count(BLOCK_INFO) == 2
    assert len(found) == len(plain) + 2 * len(BLOCK_INFO) + len(COLUMNS) + 3


def test_big_results_come_in_several_blocks(store: Store) -> None:
    plain = store.raw_query("SELECT number, toString(number) FROM numbers(200000)", fmt="Native")
    found = with_revision(plain, REVISION)
    assert found.count(BLOCK_INFO) > 1
    assert found.startswith(BLOCK_INFO)


def test_clients_that_name_no_revision_get_what_the_engine_wrote(store: Store) -> None:
    plain = native(store, COLUMNS, 3)
    assert with_revision(plain, 0) == plain


def test_nothing_stays_nothing() -> None:
    assert with_revision(b"", REVISION) == b""


@pytest.mark.parametrize("expression", ["CAST('{}', 'JSON')", "1::Dynamic", "sumState(1) OVER ()"])
def test_unknown_layouts_are_told(store: Store, expression: str) -> None:
    with pytest.raises(NativeError, match="toString"):
        with_revision(native(store, [expression], 2), REVISION)


def test_every_cut_is_noticed(store: Store) -> None:
    plain = native(store, ["number", "toString(number)", "toLowCardinality('x')", "[1]"], 3)
    for end in range(1, len(plain)):
        with pytest.raises(NativeError):
            with_revision(plain[:end], REVISION)
