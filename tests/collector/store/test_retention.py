"""Table and column TTLs on a store of its own (rows really expire), in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llmtap.collector.store import Store
from llmtap.collector.store.retention import retention_statements

_SCRIPT = """
import json, sys, time, uuid
from pathlib import Path
from llmtap.collector.store import open_store
from llmtap.collector.store.retention import retention_statements
from tests.collector.store.embedded import call_row

store = open_store("chdb", Path(sys.argv[1]))
day = 86_400_000_000
now = int(time.time() * 1e6)
store.apply_retention(60, 20, 30)

def definition(table):
    return next(iter(store.query(f"SHOW CREATE TABLE {table}")[0].values()))

again = retention_statements(definition, 60, 20, 30)
codec = [line for line in definition("calls").splitlines() if "`input_text`" in line]
for age in (0, 25, 40, 90):
    store.insert_calls([call_row(ts=now - age * day, user_id=str(age))], uuid.uuid4().hex)
for table in ("calls", "otel_traces"):
    store.execute(f"OPTIMIZE TABLE {table} FINAL")
texts = {row["user_id"]: [row["input_text"], row["output_messages"], row["input_tokens"]]
         for row in store.query("SELECT * FROM calls")}
spans = sorted(row["u"] for row in store.query(
    "SELECT SpanAttributes['user.id'] AS u FROM otel_traces"))
store.apply_retention(0, 0, 0)
print(json.dumps({"again": again, "codec": codec, "texts": texts, "spans": spans,
                  "left": [t for t in ("calls", "otel_traces") if " TTL " in definition(t)]}))
store.close()
"""


def test_rows_and_texts_expire_apart(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["again"] == []
    assert "CODEC(ZSTD(3))" in found["codec"][0]
    kept = ["hallo", '[{"role":"assistant","parts":[]}]', 120]
    assert found["texts"] == {"0": kept, "25": ["", "", 120], "40": ["", "", 120]}
    assert found["spans"] == ["0", "25"]
    assert found["left"] == []


@pytest.mark.parametrize("days", [(0, 0, 0), (1, 0, 0), (0, 7, 0), (0, 0, 9), (400, 30, 30)])
def test_only_what_differs_is_changed(store: Store, days: tuple[int, int, int]) -> None:
    """Planned against the tables as they are; nothing is carried out here."""

    def definition(table: str) -> str:
        return str(next(iter(store.query(f"SHOW CREATE TABLE {table}")[0].values())))

    planned = "\n".join(retention_statements(definition, *days))
    calls, bodies, traces = days
    assert (
        f"ALTER TABLE calls MODIFY TTL toDateTime(ts) + toIntervalDay({calls})" in planned
    ) == bool(calls)
    assert f"toIntervalDay({bodies})" in planned if bodies else True
    assert ("MODIFY COLUMN input_text" in planned) == bool(bodies)
    assert ("ALTER TABLE otel_traces MODIFY TTL" in planned) == bool(traces)
    assert bool(planned) == any(days)
