"""Rows as they are inserted: field order and names are the tables' columns (a test compares).

Times are integers, microseconds since the epoch, UTC.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple


class CallRow(NamedTuple):
    """One row of `calls`; the columns' meaning is in `migrations/0001_calls.sql`."""

    id: str
    ts: int
    upstream: str
    provider: str
    dialect: str
    operation: str
    method: str
    path: str
    model_requested: str
    model_served: str
    response_id: str
    status: str
    http_status: int
    error_type: str
    error_message: str
    stream: bool
    duration_us: int
    ttfb_us: int | None
    ttft_us: int | None
    tpot_us: int | None
    chunks: int
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    usage_source: str
    usage_raw: str
    usage_problem: str
    service_tier: str
    system_fingerprint: str
    cost_usd: Decimal | None
    price_source: str
    price_version: str
    finish_reason: str
    tool_calls: list[str]
    trace_id: str
    span_id: str
    parent_span_id: str
    session_id: str
    session_name: str
    session_path: str
    user_id: str
    properties: dict[str, str]
    prompt_name: str
    prompt_version: str
    project: str
    language: str
    input_messages: str
    output_messages: str
    input_text: str
    output_text: str
    tool_definitions: str
    request_params: str
    request_headers: dict[str, str]
    response_headers: dict[str, str]
    request_bytes: int
    response_bytes: int
    truncated: int
    decode_error: str
    capture: str
    worker: str
    batch: str
    output_language: str
    system_hash: str
    template_hash: str
    input_message_count: int
    input_chars: int
    output_chars: int


class LossRow(NamedTuple):
    """One row of `losses`."""

    ts: int
    to_ts: int
    reason: str
    records: int
    detail: str
    worker: str
    batch: str
