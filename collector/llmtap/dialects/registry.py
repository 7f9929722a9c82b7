"""All dialects, and the one way to decode an exchange.

To add a dialect: a module with a `DIALECT` that fulfils `dialect.Dialect`, one line in `DIALECTS`,
samples of its exchanges. The path decides, else the upstream's configuration; the shape confirms.
"""

from __future__ import annotations

import dataclasses

from llmtap.dialects import (
    anthropic_batches,
    anthropic_count_tokens,
    anthropic_messages,
    bedrock_converse,
    cohere_chat,
    cohere_embed,
    gemini,
    gemini_embeddings,
    ollama,
    openai_audio,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_files,
    openai_images,
    openai_moderations,
    openai_responses,
    rerank,
)
from llmtap.dialects.answers import is_event_stream, read_answer
from llmtap.dialects.content import Decoded, decode_content
from llmtap.dialects.dialect import Dialect
from llmtap.dialects.jsonish import clean
from llmtap.dialects.model import Arrivals, Call, Exchange

DIALECTS: tuple[Dialect, ...] = (
    openai_chat.DIALECT,
    openai_completions.DIALECT,
    openai_embeddings.DIALECT,
    openai_images.DIALECT,
    openai_audio.DIALECT,
    openai_moderations.DIALECT,
    openai_files.DIALECT,
    openai_responses.DIALECT,
    anthropic_count_tokens.DIALECT,
    anthropic_batches.DIALECT,
    anthropic_messages.DIALECT,
    gemini.DIALECT,
    gemini_embeddings.DIALECT,
    bedrock_converse.DIALECT,
    cohere_chat.DIALECT,
    cohere_embed.DIALECT,
    ollama.DIALECT,
    rerank.DIALECT,
)
_BY_NAME = {dialect.name: dialect for dialect in DIALECTS}
UNKNOWN = "unknown"
_PLAIN = (b"{", b"[", b"data:", b"event:")


def find(exchange: Exchange) -> Dialect | None:
    """The dialect of an exchange by its names; None when it is not one we know.

    The path is stronger than the upstream's configured dialect: one server speaks several.
    """
    named = _BY_NAME.get(exchange.dialect)
    method, path = exchange.method, exchange.path.rstrip("/")
    if named is not None and named.matches(method, path):
        return named
    for dialect in DIALECTS:
        if dialect.matches(method, path):
            return dialect
    return named if method == "POST" else None


def decode(exchange: Exchange) -> Call:
    """What was said, from what was captured. Never raises: trouble is in `decode_error`."""
    if exchange.path.endswith("/"):
        exchange = dataclasses.replace(exchange, path=exchange.path.rstrip("/"))
    if exchange.path.endswith("/"):
        exchange = dataclasses.replace(exchange, path=exchange.path.rstrip("/"))
    dialect = find(exchange)
    try:
        plain, problem = _without_content_coding(exchange)
        call = dialect.decode(plain) if dialect else _unknown(plain)
        if dialect and not _confirmed(dialect, call, plain):
            call = _unknown(plain)
    except Exception as e:  # noqa: BLE001 - the one safety net: a decoder's bug costs one row's text
        name, provider = (dialect.name, dialect.provider) if dialect else (UNKNOWN, "")
        reason = clean(f"{type(e).__name__}: {e}"[:500])
        return Call(dialect=name, provider=provider, decode_error=reason)
    if problem:
        call.decode_error = problem  # what else is wrong follows from it
    return call


def _confirmed(dialect: Dialect, call: Call, exchange: Exchange) -> bool:
    """Whether the bodies have the dialect's shape.

    By configuration alone, under a path that is not the dialect's, it takes a prompt. By path it is
    enough that nothing speaks against it: a body that parses and holds nothing of ours does.
    """
    if not dialect.matches(exchange.method, exchange.path):
        return bool(call.input_messages)
    known = call.model_requested or call.input_messages or call.output_messages
    troubled = call.decode_error or call.error_type or not exchange.request_body
    return bool(known or troubled or call.usage_source == "reported")


def _unknown(exchange: Exchange) -> Call:
    call = Call(stream=is_event_stream(exchange))
    if exchange.http_status >= 400:
        read_answer(call, exchange)
    return call


def _without_content_coding(exchange: Exchange) -> tuple[Exchange, str]:
    request_coding = exchange.request_headers.get("content-encoding", "")
    response_coding = exchange.response_headers.get("content-encoding", "")
    if not request_coding and not response_coding:
        return exchange, ""
    request = _decoded(exchange.request_body, Arrivals(), request_coding)
    response = _decoded(exchange.response_body, exchange.arrivals, response_coding)
    plain = dataclasses.replace(
        exchange,
        request_body=request.body,
        request_complete=exchange.request_complete and request.complete,
        response_body=response.body,
        response_complete=exchange.response_complete and response.complete,
        arrivals=response.arrivals,
    )
    return plain, request.problem or response.problem


def _decoded(body: bytes, arrivals: Arrivals, encoding: str) -> Decoded:
    """Some gateways decode a body and leave the header: a body that is plain to see stays."""
    decoded = decode_content(body, arrivals, encoding)
    if decoded.problem and not decoded.body and body.startswith(_PLAIN):
        return Decoded(body, arrivals, True, "")
    return decoded
