"""The user's price table."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from llmtap.collector.enrich.prices import PriceTable
from llmtap.config import ConfigError, load
from llmtap.dialects.model import Usage

TABLE = """
[prices."llama-3*"]
input_mtok = 0.2
output_mtok = 0.4
cache_read_mtok = 0.05
[prices."gpu1/*"]
gpu_second = 0.000694444444
[prices."openai/gpt-special"]
input_mtok = 1
output_mtok = 2
request = 0.01
"""


@pytest.fixture
def table(tmp_path: Path) -> PriceTable:
    path = tmp_path / "llmtap.toml"
    path.write_text(TABLE)
    return PriceTable(load(path, {}, {}).prices)


@pytest.mark.parametrize(
    ("places", "model", "usage", "cost"),
    [
        (("vllm", "vllm"), "llama-3-8b", Usage(1_000_000, 500_000), "0.4"),
        (("vllm", "vllm"), "llama-3-8b", Usage(1_000_000, 0, cache_read_tokens=400_000), "0.14"),
        (("vllm", "vllm"), "llama-3-8b", Usage(0, 0), "0"),
        (("vllm", "vllm"), "llama-3-8b", Usage(), None),
        (("gpu1", "vllm"), "any-model", Usage(), "0.001388889"),
        (("x", "openai"), "gpt-special", Usage(1_000, 1_000), "0.013"),
        (("gpu1", "vllm"), "llama-3-8b", Usage(1_000_000, 0), "0.2"),
    ],
)
def test_costs(
    table: PriceTable, places: tuple[str, str], model: str, usage: Usage, cost: str | None
) -> None:
    price = table.price(places, (model, ""), usage, duration_us=2_000_000)
    assert price is not None and price.source == "config" and len(price.version) == 12
    assert price.cost_usd == (None if cost is None else Decimal(cost))


def test_what_is_not_in_the_table(table: PriceTable) -> None:
    assert table.price(("x", "openai"), ("gpt-4o",), Usage(1, 1), 1) is None
    assert PriceTable({}).price(("x",), ("llama-3-8b",), Usage(1, 1), 1) is None


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("", "names no price"),
        ("input_mtok = 1", "go together"),
        ("cache_read_mtok = 1\nrequest = 1", "need input_mtok"),
        ("input_mtok = -1\noutput_mtok = 1", "greater than or equal to 0"),
        ("inputmtok = 1", "did you mean 'input_mtok'"),
        ('request = "cheap"', "decimal"),
    ],
)
def test_a_bad_price_is_refused(entry: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "llmtap.toml"
    path.write_text(f'[prices."m"]\n{entry}\n')
    with pytest.raises(ConfigError) as caught:
        load(path, {}, {})
    assert says in str(caught.value)
