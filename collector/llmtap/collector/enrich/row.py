"""A captured call → its row: decoded, priced, with status, timing, ids and texts. No I/O."""

from __future__ import annotations

from typing import Any

import orjson

from llmtap.collector.enrich.assemble import Captured
from llmtap.collector.enrich.identity import prompt_identity
from llmtap.collector.enrich.language import language_of
from llmtap.collector.enrich.prices import Price, Pricer
from llmtap.collector.enrich.tokens import Tokenizers
from llmtap.collector.store.rows import CallRow
from llmtap.config import Config
from llmtap.dialects.jsonish import clean, dumps
from llmtap.dialects.model import Call, Message
from llmtap.dialects.parts import plain_text
from llmtap.dialects.registry import UNKNOWN, decode
from llmtap.spool.records import MAX_U32, CallEnd, CallStart


class Enricher:
    """What is known beside the bytes: prices, tokenizers, the project's name."""

    def __init__(self, settings: Config) -> None:
        self._pricer = Pricer(settings.prices)
        self._tokenizers = Tokenizers(settings.data / "tokenizers", settings.tokenizers)
        self._project = settings.project

    def row(self, captured: Captured, batch: str) -> CallRow:
        """The row of one call. Never raises on content: what is not understood is said in it."""
        call = decode(captured.exchange)
        self._tokenizers.complete(call)
        start = captured.start
        provider = call.provider if start.provider == "auto" else start.provider
        price = self._pricer.price(
            start.upstream,
            provider,
            (call.model_served, call.model_requested),
            call.service_tier,
            start.ts_us,
            call.usage,
            captured.end.duration_us if captured.end else 0,
        )
        return _row(captured, call, provider, price, self._project, batch)


def _row(
    captured: Captured, call: Call, provider: str, price: Price, project: str, batch: str
) -> CallRow:
    start, end = captured.start, captured.end
    status, error_type, error_message = _status(call, end)
    usage = call.usage
    texts = start.capture == "full"
    return CallRow(
        id=start.id,
        ts=start.ts_us,
        upstream=start.upstream,
        provider=provider,
        dialect=call.dialect,
        operation=call.operation,
        method=start.method,
        path=clean(start.path),
        model_requested=call.model_requested,
        model_served=call.model_served,
        response_id=call.response_id,
        status=status,
        http_status=end.http_status if end else 0,
        error_type=error_type,
        error_message=error_message[:8192],
        stream=call.stream,
        duration_us=end.duration_us if end else 0,
        ttfb_us=end.ttfb_us if end else None,
        ttft_us=call.first_token_us,
        tpot_us=_tpot(call),
        chunks=call.chunks,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        usage_source=call.usage_source,
        usage_raw=call.usage_raw,
        usage_problem=call.usage_problem,
        service_tier=call.service_tier,
        system_fingerprint=call.system_fingerprint,
        cost_usd=price.cost_usd,
        price_source=price.source,
        price_version=price.version,
        finish_reason=call.finish_reason,
        tool_calls=call.tool_calls,
        trace_id=start.trace_id,
        span_id=start.span_id,
        parent_span_id=start.parent_span_id,
        **_who(start, call),
        project=project,
        **(_texts(call) if texts else _NO_TEXTS),
        **_prompt(call),
        request_params=dumps(call.request_params) if call.request_params else "",
        request_headers=start.headers,
        response_headers=end.headers if end else {},
        request_bytes=end.request_bytes if end else len(captured.exchange.request_body),
        response_bytes=end.response_bytes if end else 0,
        truncated=end.truncated if end else 0,
        decode_error=clean(call.decode_error),
        capture=start.capture,
        worker=captured.worker,
        batch=batch,
    )


_NO_TEXTS: dict[str, Any] = dict.fromkeys(
    ("input_messages", "output_messages", "input_text", "output_text", "tool_definitions"), ""
)


def _texts(call: Call) -> dict[str, Any]:
    """The columns that hold what was said."""
    return {
        "input_messages": _messages(call.input_messages),
        "output_messages": _messages(call.output_messages),
        "input_text": _text(call.input_messages),
        "output_text": _text(call.output_messages),
        "tool_definitions": dumps(call.tool_definitions) if call.tool_definitions else "",
    }


def _prompt(call: Call) -> dict[str, Any]:
    """The columns that say what kind of text it was, and none of it."""
    identity = prompt_identity(call.input_messages)
    return {
        "language": language_of(call.input_messages, "user"),
        "output_language": language_of(call.output_messages),
        "system_hash": identity.system_hash,
        "template_hash": identity.template_hash,
        "input_message_count": len(call.input_messages),
        "input_chars": min(sum(len(plain_text(m.parts)) for m in call.input_messages), MAX_U32),
        "output_chars": min(sum(len(plain_text(m.parts)) for m in call.output_messages), MAX_U32),
    }


def _who(start: CallStart, call: Call) -> dict[str, Any]:
    """The columns that say for whom and for what."""
    tags = start.tags
    return {
        "session_id": tags.get("session-id", ""),
        "session_name": tags.get("session-name", ""),
        "session_path": tags.get("session-path", ""),
        "user_id": tags.get("user-id") or call.user_id,
        "properties": {k[9:]: v for k, v in tags.items() if k.startswith("property-")},
        "prompt_name": tags.get("prompt-name", ""),
        "prompt_version": tags.get("prompt-version", ""),
    }


def _status(call: Call, end: CallEnd | None) -> tuple[str, str, str]:
    """(status, error_type, error_message); status is one of ok error aborted timeout lost."""
    if end is None:
        return "lost", "lost", "the proxy worker stopped before the call ended"
    match end.outcome:
        case "aborted" if call.stream and call.stream_complete and not call.error_type:
            # SDKs hang up at the terminator event, before the body's last bytes.
            return "ok", "", ""
        case "aborted":
            return "aborted", end.error or "client_closed", end.error_message
        case "timeout":
            return "timeout", end.error, end.error_message
        case "upstream_closed" if call.error_type:
            return "error", call.error_type, call.error_message
        case "upstream_closed" | "refused":
            return "error", end.error, end.error_message
        case _:
            pass
    if call.error_type or end.http_status >= 400:
        return "error", call.error_type or str(end.http_status), call.error_message
    cut = call.dialect != UNKNOWN and call.stream and not call.stream_complete
    if cut and not (call.finish_reason or end.truncated):
        return "error", "stream_incomplete", "the stream ended without its terminator"
    return "ok", "", ""


def _tpot(call: Call) -> int | None:
    """Time per output token after the first, from the wire; None when it can not be known."""
    first, last, out = call.first_token_us, call.last_token_us, call.usage.output_tokens
    if first is None or last is None or not out or out < 2 or call.chunks < 2:
        return None
    return (last - first) // (out - 1)


def _messages(messages: list[Message]) -> str:
    if not messages:
        return ""
    out: list[dict[str, object]] = []
    for message in messages:
        item: dict[str, object] = {"role": message.role, "parts": message.parts}
        if message.name:
            item["name"] = message.name
        if message.finish_reason:
            item["finish_reason"] = message.finish_reason
        out.append(item)
    try:
        return orjson.dumps(out).decode()
    except (TypeError, ValueError, RecursionError):
        return dumps(out)


def _text(messages: list[Message]) -> str:
    return "\n".join(text for m in messages if (text := plain_text(m.parts)))
