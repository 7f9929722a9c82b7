"""The process's one embedded store (chDB opens a single folder per process), and rows for it."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

from llmtap.collector.store import CallRow, Store, open_store

TS = 1_790_000_000_000_000
"""2026-09-21T14:13:20 UTC."""


@functools.cache
def shared_store() -> Store:
    """Opened once; closed when Python ends."""
    folder = Path(tempfile.mkdtemp(prefix="llmtap-store-"))
    store = open_store("chdb", folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(store.close)
    return store


def call_row(**changes: Any) -> CallRow:
    """A plausible row with ids of its own."""
    row = CallRow(
        id=str(uuid.uuid4()),
        ts=TS,
        upstream="openai",
        provider="openai",
        dialect="openai_chat",
        operation="chat",
        method="POST",
        path="/v1/chat/completions",
        model_requested="gpt-4o-mini",
        model_served="gpt-4o-mini-2024-07-18",
        response_id="chatcmpl-1",
        status="ok",
        http_status=200,
        error_type="",
        error_message="",
        stream=True,
        duration_us=1_250_000,
        ttfb_us=200_000,
        ttft_us=250_000,
        tpot_us=20_000,
        chunks=50,
        input_tokens=120,
        output_tokens=51,
        cache_read_tokens=100,
        cache_write_tokens=None,
        reasoning_tokens=0,
        usage_source="reported",
        usage_raw='{"prompt_tokens":120}',
        usage_problem="",
        service_tier="default",
        system_fingerprint="fp_1",
        cost_usd=Decimal("0.000123456"),
        price_source="genai-prices",
        price_version="1",
        finish_reason="stop",
        tool_calls=["weather", "search"],
        trace_id=uuid.uuid4().hex,
        span_id=uuid.uuid4().hex[:16],
        parent_span_id="",
        session_id="s-1",
        session_name="chat",
        session_path="/chat",
        user_id="u-1",
        properties={"env": "test", "tier": "gold"},
        prompt_name="greeting",
        prompt_version="3",
        project="default",
        language="en",
        input_messages='[{"role":"user","parts":[{"type":"text","content":"hallo"}]}]',
        output_messages='[{"role":"assistant","parts":[]}]',
        input_text="hallo",
        output_text="Grüß Gott",
        tool_definitions="[]",
        request_params='{"temperature":0}',
        request_headers={"user-agent": "tests"},
        response_headers={"content-type": "application/json"},
        request_bytes=2000,
        response_bytes=1000,
        truncated=0,
        decode_error="",
        capture="full",
        worker="w-1",
        batch="b-1",
        output_language="de",
        system_hash="",
        template_hash="0123456789abcdef",
        input_message_count=1,
        input_chars=5,
        output_chars=9,
    )
    return row._replace(**changes)


def one(store: Store, sql: str, **parameters: Any) -> dict[str, Any]:
    """The only row of an answer."""
    (row,) = store.query(sql, parameters)
    return row
