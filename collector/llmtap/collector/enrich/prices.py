"""What a call cost, in USD: the user's prices, else genai-prices' (offline, dated, tiered).

None means unknown, never zero. Models that one hosts oneself have no hosted price, so providers
that genai-prices does not know are not looked up by model name alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from importlib import metadata
from typing import Any, NamedTuple

import genai_prices

from llmtap import config
from llmtap.dialects.model import Usage

_MTOK = Decimal(1_000_000)
_SCALE = Decimal("0.000000001")
_ZERO = Decimal(0)
_LINEAR_FIELDS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
}
_CACHE_LIMIT = 10_000


class Price(NamedTuple):
    cost_usd: Decimal | None
    source: str
    version: str


UNKNOWN = Price(None, "", "")


class _Rates(NamedTuple):
    """USD per token; valid only where a model's price is linear."""

    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write: Decimal

    def of(self, usage: Usage) -> Decimal:
        read, write = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
        plain = (usage.input_tokens or 0) - read - write
        return (
            plain * self.input
            + read * self.cache_read
            + write * self.cache_write
            + (usage.output_tokens or 0) * self.output
        )


class PriceTable:
    """The user's prices (`[prices]` in the configuration)."""

    def __init__(self, table: Mapping[str, config.Price]) -> None:
        self._table = dict(table)
        text = json.dumps([(k, v.model_dump(mode="json")) for k, v in self._table.items()])
        self._version = hashlib.sha256(text.encode()).hexdigest()[:12]

    def price(
        self, places: tuple[str, ...], models: tuple[str, ...], usage: Usage, duration_us: int
    ) -> Price | None:
        """None: not in the table. `places`: upstream and provider."""
        if not self._table:
            return None
        names = [n for m in models if m for n in (m, *(f"{p}/{m}" for p in places if p))]
        for pattern, entry in self._table.items():
            if any(fnmatchcase(name, pattern) for name in names):
                cost = _table_cost(entry, usage, duration_us)
                return Price(
                    None if cost is None else cost.quantize(_SCALE), "config", self._version
                )
        return None


def _table_cost(entry: config.Price, usage: Usage, duration_us: int) -> Decimal | None:
    cost = entry.request or _ZERO
    if entry.gpu_second is not None:
        cost += entry.gpu_second * duration_us / 1_000_000
    if entry.input_mtok is not None and entry.output_mtok is not None:
        if usage.input_tokens is None and usage.output_tokens is None:
            return None
        read, write = entry.cache_read_mtok, entry.cache_write_mtok
        rates = _Rates(
            entry.input_mtok / _MTOK,
            entry.output_mtok / _MTOK,
            (entry.input_mtok if read is None else read) / _MTOK,
            (entry.input_mtok if write is None else write) / _MTOK,
        )
        cost += rates.of(usage)
    return cost if cost >= 0 else None


class Prices:
    """Looks prices up; remembers per provider, model, tier and hour."""

    def __init__(self) -> None:
        self._version = metadata.version("genai-prices")
        self._known: dict[tuple[str, str, str, int], _Rates | bool] = {}

    def price(
        self, provider: str, models: tuple[str, ...], tier: str, ts_us: int, usage: Usage
    ) -> Price:
        """The price of `usage` with the first of `models` that has one (served, then requested)."""
        if usage.input_tokens is None and usage.output_tokens is None:
            return UNKNOWN
        for model in models:
            if model and (cost := self._cost(provider, model, tier, ts_us, usage)) is not None:
                return Price(cost.quantize(_SCALE), "genai-prices", self._version)
        return UNKNOWN

    def _cost(
        self, provider: str, model: str, tier: str, ts_us: int, usage: Usage
    ) -> Decimal | None:
        key = (provider, model, tier, ts_us // 3_600_000_000)
        known = self._known.get(key)
        if isinstance(known, _Rates):
            cost = known.of(usage)
            return cost if cost >= 0 else None
        if known is False:
            return None
        try:
            found = genai_prices.calc_price(
                _usage(usage),
                model_ref=model,
                provider_id=provider,
                genai_request_timestamp=datetime.fromtimestamp(ts_us / 1e6, UTC),
                price_context={"service_tier": tier} if tier else None,
            )
        except LookupError:
            self._remember(key, False)
            return None
        except (ValueError, TypeError):
            return None  # counts that contradict each other have no price; `usage_problem` says so
        if known is None:
            rates = _rates(found.model_price)
            # The library's own sum is the judge of our short cut.
            linear = rates is not None and rates.of(usage) == found.total_price
            self._remember(key, rates if linear and rates is not None else True)
        return found.total_price

    def _remember(self, key: tuple[str, str, str, int], what: _Rates | bool) -> None:
        if len(self._known) >= _CACHE_LIMIT:
            self._known.clear()
        self._known[key] = what


def _usage(usage: Usage) -> genai_prices.Usage:
    counts: dict[str, int] = {}
    if usage.input_tokens is not None:
        counts["input_tokens"] = usage.input_tokens
    if usage.output_tokens:  # embedding models have no output price: a zero would be an error
        counts["output_tokens"] = usage.output_tokens
    if usage.cache_read_tokens:
        counts["cache_read_tokens"] = usage.cache_read_tokens
    if usage.cache_write_tokens:
        counts["cache_write_tokens"] = usage.cache_write_tokens
    return genai_prices.Usage(**counts)


def _rates(price: Any) -> _Rates | None:
    """Per-token rates of a price made of plain numbers; None when it has tiers or other units."""
    rates: dict[str, Decimal] = {}
    for name, short in _LINEAR_FIELDS.items():
        value = getattr(price, name, None)
        if value is not None:
            if not isinstance(value, Decimal):
                return None
            rates[short] = value / _MTOK
    if "input" not in rates:
        return None
    return _Rates(
        rates["input"],
        rates.get("output", _ZERO),
        rates.get("cache_read", rates["input"]),
        rates.get("cache_write", rates["input"]),
    )


SELF_HOSTED = frozenset(["vllm", "sglang", "tgi", "ollama", "llama.cpp", "llama_cpp", "mlx"])
"""Providers whose work has no hosted price."""


class Pricer:
    """The price of a call: the user's table, then the built-in prices."""

    def __init__(self, table: Mapping[str, config.Price]) -> None:
        self._table = PriceTable(table)
        self._prices = Prices()

    def price(
        self,
        upstream: str,
        provider: str,
        models: tuple[str, ...],
        tier: str,
        ts_us: int,
        usage: Usage,
        duration_us: int,
    ) -> Price:
        """`models`: served, then requested. Never raises on what a call says."""
        own = self._table.price((upstream, provider), models, usage, duration_us)
        if own is not None:
            return own
        if not provider or provider in SELF_HOSTED:
            return UNKNOWN
        return self._prices.price(provider, models, tier, ts_us, usage)
