"""All dialects, and the one way to decode an exchange.

To add a dialect: a module with a `DIALECT` that fulfils `dialect.Dialect`, one line in `DIALECTS`,
one folder of tests. The path decides unless the upstream's configuration names a dialect.
"""

from __future__ import annotations

import dataclasses

from llmtap.dialects import (
    anthropic_messages,
    ollama,
    openai_chat,
    openai_completions,
    openai_embeddings,
)
from llmtap.dialects.content import decode_content
from llmtap.dialects.dialect import Dialect
from llmtap.dialects.jsonish import parse_object
from llmtap.dialects.model import Arrivals, Call, Exchange
from llmtap.dialects.openai_common import take_error

DIALECTS: tuple[Dialect, ...] = (
    openai_chat.DIALECT,
    openai_completions.DIALECT,
    openai_embeddings.DIALECT,
    anthropic_messages.DIALECT,
    ollama.DIALECT,
)
_BY_NAME = {dialect.name: dialect for dialect in DIALECTS}
UNKNOWN = "unknown"


def find(exchange: Exchange) -> Dialect | None:
    """The dialect of an exchange; None when it is not one we know."""
    named = _BY_NAME.get(exchange.dialect)
    if named is not None and named.matches(exchange.path):
        return named
    for dialect in DIALECTS:
        if exchange.method == "POST" and dialect.matches(exchange.path):
            return dialect
    return None


def decode(exchange: Exchange) -> Call:
    """What was said, from what was captured. Never raises: trouble is in `decode_error`."""
    dialect = find(exchange)
    name = dialect.name if dialect else UNKNOWN
    try:
        exchange, problem = _without_content_coding(exchange)
        call = dialect.decode(exchange) if dialect else _unknown(exchange)
    except Exception as e:  # noqa: BLE001 - the one safety net: a decoder's bug costs one row's text
        provider = dialect.provider if dialect else ""
        return Call(dialect=name, provider=provider, decode_error=f"{type(e).__name__}: {e}"[:500])
    if problem:
        call.decode_error = call.decode_error or problem
    return call


def _unknown(exchange: Exchange) -> Call:
    call = Call()
    call.stream = exchange.response_headers.get("content-type", "").startswith("text/event-stream")
    if exchange.http_status >= 400:
        take_error(call, parse_object(exchange.response_body), exchange.http_status)
    return call


def _without_content_coding(exchange: Exchange) -> tuple[Exchange, str]:
    request_coding = exchange.request_headers.get("content-encoding", "")
    response_coding = exchange.response_headers.get("content-encoding", "")
    if not request_coding and not response_coding:
        return exchange, ""
    request = decode_content(exchange.request_body, Arrivals(), request_coding)
    response = decode_content(exchange.response_body, exchange.arrivals, response_coding)
    plain = dataclasses.replace(
        exchange,
        request_body=request.body,
        response_body=response.body,
        arrivals=response.arrivals,
    )
    return plain, request.problem or response.problem
