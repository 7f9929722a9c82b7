"""Repricing stored calls on the real engine."""

from __future__ import annotations

import time
import uuid
from decimal import Decimal
from pathlib import Path

import pytest

from llmtap.collector import reprice
from llmtap.collector.admin.questions import BadQuestionError
from llmtap.collector.enrich.prices import Pricer
from llmtap.collector.reprice import Repricer
from llmtap.collector.store import Store
from llmtap.config import load
from tests.collector.store.embedded import call_row, shared_store


@pytest.fixture
def store() -> Store:
    return shared_store()


def pricer(tmp_path: Path, text: str) -> Pricer:
    path = tmp_path / "llmtap.toml"
    path.write_text(text)
    return Pricer(load(path, {}, {}).prices)


def test_calls_get_todays_prices(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reprice, "PAGE", 3)
    model = f"mine-{uuid.uuid4().hex}"
    now = int(time.time() * 1e6)
    own = {"model_requested": model, "model_served": "", "provider": "vllm", "upstream": "gpu1"}
    unpriced = {"cost_usd": None, "price_source": "", "price_version": ""}
    rows = [call_row(ts=now - i, **own, **unpriced) for i in range(8)]
    old = call_row(ts=now - 7_200_000_000, **own, **unpriced)
    store.insert_calls([*rows, old], uuid.uuid4().hex)
    table = f'[prices."{model}"]\ninput_mtok = 10\noutput_mtok = 100\n'
    run = Repricer(lambda: store, pricer(tmp_path, table))

    def costs() -> list[Decimal | None]:
        sql = "SELECT cost_usd FROM calls WHERE model_requested = {m:String} ORDER BY ts DESC"
        return [row["cost_usd"] for row in store.query(sql, {"m": model})]

    dry = run({"since": "1h", "dry_run": "1"})
    assert costs() == [None] * 9 and dry["changed"] >= 8
    told = run({"since": "1h"})
    expected = Decimal("0.0063")  # 120 tokens in, 51 out
    assert costs() == [expected] * 8 + [None]
    assert told["calls"] >= 8 and told["changed"] == dry["changed"]
    assert run({"since": "1h"})["changed"] == 0
    (row,) = store.query("SELECT * FROM calls WHERE id = {i:String}", {"i": rows[0].id})
    assert row["price_source"] == "config" and len(row["price_version"]) == 12
    assert row["output_text"] == rows[0].output_text and row["properties"] == rows[0].properties
    left = store.query("SELECT name FROM system.tables WHERE name LIKE 'llmtap_amend%'")
    assert left == []


def test_a_missing_or_odd_time(store: Store, tmp_path: Path) -> None:
    run = Repricer(lambda: store, pricer(tmp_path, ""))
    for query in ({}, {"since": "soon"}, {"since": "1h", "until": "x"}):
        with pytest.raises(BadQuestionError):
            run(query)
