"""The vendors' SDKs over a transport in memory: what one sends and is answered is the exchange."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx2
import openai

from llmtap.dialects.model import Arrivals, Call, Exchange
from llmtap.dialects.registry import decode

_PIECE = 50
_reply: list[tuple[int, str, bytes]] = []
_asked: list[httpx2.Request] = []


def answer(body: bytes | dict[str, Any], kind: str = "", status: int = 200) -> None:
    """What the peer answers from now on."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    _reply[:] = [(status, kind or "application/json", raw)]


def _handle(request: httpx2.Request) -> httpx2.Response:
    request.read()
    _asked[:] = [request]
    status, kind, body = _reply[0]
    return httpx2.Response(status, headers={"content-type": kind}, content=body)


def captured() -> Exchange:
    """The last exchange, its answer arrived in pieces."""
    [request] = _asked
    [(status, kind, body)] = _reply
    ends = [*range(_PIECE, len(body), _PIECE), len(body)]
    return Exchange(
        method=request.method,
        path=request.url.path,
        request_headers={"content-type": request.headers.get("content-type", "")},
        request_body=request.content,
        http_status=status,
        response_headers={"content-type": kind},
        response_body=body,
        arrivals=Arrivals(ends, range(1, len(ends) + 1)),
    )


def read() -> Call:
    """Our reading of the last exchange, which nothing was wrong with."""
    call = decode(captured())
    assert (call.decode_error, call.usage_problem, call.stream_complete) == ("", "", True)
    return call


_HTTP = httpx2.Client(transport=httpx2.MockTransport(_handle))
OPENAI = openai.OpenAI(api_key="k", base_url="http://peer/v1", http_client=_HTTP, max_retries=0)
AZURE = openai.AzureOpenAI(
    api_key="k",
    azure_endpoint="http://peer",
    api_version="2025-04-01-preview",
    http_client=_HTTP,
    max_retries=0,
)
CLAUDE = anthropic.Anthropic(api_key="k", base_url="http://peer", http_client=_HTTP, max_retries=0)
EVENT_STREAM = "text/event-stream; charset=utf-8"
