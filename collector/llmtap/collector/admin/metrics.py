"""`/metrics`: the collector's and the workers' counters as Prometheus metrics."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from llmtap.collector.admin.health import worker_statuses
from llmtap.collector.state import CollectorState

_LEVELS = {"OK": 0, "WARN": 1, "METADATA_ONLY": 2, "FULL": 3}


class _Source(Collector):
    def __init__(self, state: CollectorState, run: Path) -> None:
        self._state = state
        self._run = run

    def collect(self) -> Iterable[Metric]:
        yield from _collector_metrics(self._state)
        yield from _worker_metrics(self._run)


def exposition(state: CollectorState, run: Path) -> bytes:
    """The text exposition format."""
    registry = CollectorRegistry()
    registry.register(_Source(state, run))
    return generate_latest(registry)


def _collector_metrics(state: CollectorState) -> Iterable[Metric]:
    stored = CounterMetricFamily("llmtap_calls_stored", "Calls stored", labels=["status"])
    for status, count in state.calls_stored.items():
        stored.add_metric([status], count)
    yield stored
    lost = CounterMetricFamily("llmtap_losses", "Spool records lost", labels=["reason"])
    for reason, count in state.losses.items():
        lost.add_metric([reason], count)
    yield lost
    for name, text, value in (
        ("llmtap_batches", "Inserts that succeeded", state.batches),
        ("llmtap_insert_seconds", "Time spent in inserts", state.insert_seconds),
        ("llmtap_insert_retries", "Inserts that failed and were tried again", state.insert_retries),
        ("llmtap_decode_errors", "Calls that were not fully understood", state.decode_errors),
        ("llmtap_usage_problems", "Calls whose usage does not add up", state.usage_problems),
        ("llmtap_dead_letters", "Records put aside in dead/", state.dead_letters),
    ):
        yield CounterMetricFamily(name, text, value=value)
    for name, text, value in (
        ("llmtap_backlog_bytes", "Spool bytes not stored yet", state.backlog_bytes),
        ("llmtap_open_calls", "Calls begun and not ended, as the spool knows", state.open_calls),
        ("llmtap_store_up", "1 when the last insert succeeded", not state.store_error),
    ):
        yield GaugeMetricFamily(name, text, value=value)


def _worker_metrics(run: Path) -> Iterable[Metric]:
    labels = ["worker"]
    calls = CounterMetricFamily("llmtap_proxy_calls", "Calls forwarded", labels=labels)
    made = CounterMetricFamily("llmtap_proxy_connections", "Client connections", labels=labels)
    opened = GaugeMetricFamily("llmtap_proxy_open_connections", "Open now", labels=labels)
    level = GaugeMetricFamily(
        "llmtap_spool_level", "0 ok, 1 warn, 2 metadata only, 3 full", labels=labels
    )
    written = CounterMetricFamily("llmtap_spool_written_bytes", "Bytes spooled", labels=labels)
    dropped = CounterMetricFamily(
        "llmtap_spool_dropped_records", "Records dropped", labels=["worker", "reason"]
    )
    refused = CounterMetricFamily(
        "llmtap_proxy_refused", "Requests refused", labels=["worker", "reason"]
    )
    for status in worker_statuses(run):
        worker = str(status.get("slot"))
        spool = status.get("spool", {})
        calls.add_metric([worker], status.get("calls", 0))
        made.add_metric([worker], status.get("connections", 0))
        opened.add_metric([worker], status.get("open_connections", 0))
        level.add_metric([worker], _LEVELS.get(status.get("spool_level", "OK"), 0))
        written.add_metric([worker], spool.get("bytes", 0))
        for reason, count in spool.get("dropped", {}).items():
            dropped.add_metric([worker, reason], count)
        for reason, count in status.get("refused", {}).items():
            refused.add_metric([worker, reason], count)
    yield from (calls, made, opened, level, written, dropped, refused)
