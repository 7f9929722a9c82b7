"""A small scripted LLM backend for `llmtap demo`: OpenAI and Anthropic dialects, no model.

Answers depend on the request alone; delays are short and fixed per token. It plays errors and slow
streams when a request's model name asks for them.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

TOKEN_S = 0.004
TEXT = """the line tap keeps every prompt and completion beside its tokens cost and timing so that
you can ask later why a call was slow what it cost and whether the answers changed"""
WORDS = TEXT.split()


def _reply(text: str) -> list[str]:
    """Twenty to fifty words that depend on the question."""
    seed = sum(text.encode())
    return [WORDS[(seed + i * 7) % len(WORDS)] for i in range(20 + seed % 30)]


def _usage(request: dict[str, Any], words: int) -> dict[str, Any]:
    into = len(json.dumps(request.get("messages", request.get("input", "")))) // 4
    cached = into // 2 if into > 60 else 0
    return {
        "prompt_tokens": into,
        "completion_tokens": words,
        "total_tokens": into + words,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def _question(request: dict[str, Any]) -> str:
    return json.dumps(request.get("messages", ""))


def _served(model: str) -> str:
    return f"{model}-2024-07-18" if model == "gpt-4o-mini" else model


async def _chat(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    model = body["model"]
    if model == "gpt-missing":
        error = {"message": f"The model `{model}` does not exist", "type": "invalid_request_error"}
        return web.json_response({"error": {**error, "code": "model_not_found"}}, status=404)
    if model == "gpt-busy":
        error = {"message": "Rate limit reached", "type": "rate_limit_error"}
        return web.json_response({"error": error}, status=429, headers={"retry-after": "1"})
    words = _reply(_question(body))
    base = {"id": f"chatcmpl-{abs(hash(_question(body))):x}", "created": 1_700_000_000}
    base |= {"model": _served(model), "system_fingerprint": "fp_demo"}
    if body.get("stream"):
        return await _send_sse(request, _chat_chunks(body, base, words))
    await asyncio.sleep(TOKEN_S * len(words) / 2)
    message: dict[str, Any] = {"role": "assistant", "content": " ".join(words)}
    finish = "stop"
    if body.get("tools"):
        name = body["tools"][0]["function"]["name"]
        function = {"name": name, "arguments": '{"city": "Lisbon"}'}
        call = {"id": "call_1", "type": "function", "function": function}
        message, finish = {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
    choice = {"index": 0, "message": message, "finish_reason": finish}
    answer = {**base, "object": "chat.completion", "choices": [choice]}
    return web.json_response({**answer, "usage": _usage(body, len(words))})


async def _chat_chunks(
    body: dict[str, Any], base: dict[str, Any], words: list[str]
) -> AsyncIterator[str]:
    base = {**base, "object": "chat.completion.chunk"}
    for word in words:
        choice = {"index": 0, "delta": {"content": f"{word} "}, "finish_reason": None}
        yield f"data: {json.dumps({**base, 'choices': [choice]})}\n\n"
    if body["model"] == "gpt-breaks":
        error = {"message": "The server had an error", "type": "server_error"}
        yield f"data: {json.dumps({'error': error})}\n\n"
        return
    choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
    yield f"data: {json.dumps({**base, 'choices': [choice]})}\n\n"
    if (body.get("stream_options") or {}).get("include_usage"):
        last = {**base, "choices": [], "usage": _usage(body, len(words))}
        yield f"data: {json.dumps(last)}\n\n"
    yield "data: [DONE]\n\n"


async def _embeddings(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    data = [
        {"object": "embedding", "index": i, "embedding": [0.1, 0.2, 0.3]} for i in range(len(texts))
    ]
    used = sum(len(str(t)) for t in texts) // 4
    usage = {"prompt_tokens": used, "total_tokens": used}
    answer = {"object": "list", "data": data, "model": body["model"], "usage": usage}
    return web.json_response(answer)


async def _messages(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    words = _reply(_question(body))
    usage = {"input_tokens": len(_question(body)) // 4, "cache_read_input_tokens": 12}
    usage |= {"cache_creation_input_tokens": 0, "output_tokens": 1}
    message: dict[str, Any] = {"id": f"msg_{abs(hash(_question(body))):x}", "type": "message"}
    message |= {"role": "assistant", "model": body["model"], "content": [], "usage": usage}
    message |= {"stop_reason": None, "stop_sequence": None}
    if body["model"] == "claude-busy":
        error = {"type": "overloaded_error", "message": "Overloaded"}
        return web.json_response({"type": "error", "error": error}, status=529)
    if body.get("stream"):
        return await _send_sse(request, _message_events(message, words))
    await asyncio.sleep(TOKEN_S * len(words) / 2)
    content = [{"type": "text", "text": " ".join(words)}]
    usage = {**usage, "output_tokens": len(words)}
    answer = {**message, "content": content, "stop_reason": "end_turn", "usage": usage}
    return web.json_response(answer)


async def _message_events(message: dict[str, Any], words: list[str]) -> AsyncIterator[str]:
    def event(kind: str, **fields: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n"

    yield event("message_start", message=message)
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for word in words:
        delta = {"type": "text_delta", "text": f"{word} "}
        yield event("content_block_delta", index=0, delta=delta)
    yield event("content_block_stop", index=0)
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    yield event("message_delta", delta=end, usage={"output_tokens": len(words)})
    yield event("message_stop")


async def _send_sse(request: web.Request, events: AsyncIterator[str]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    try:
        async for event in events:
            await response.write(event.encode())
            await asyncio.sleep(TOKEN_S)
        await response.write_eof()
    except ConnectionError:
        return response  # the client left: the demo's aborted stream, or after the last event
    return response


class DemoBackend:
    """Runs the backend in a thread of its own. Raises OSError when the port is taken."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="demo", daemon=True)

    def __enter__(self) -> DemoBackend:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", _chat)
        app.router.add_post("/v1/embeddings", _embeddings)
        app.router.add_post("/v1/messages", _messages)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, *self._address).start()

    def __exit__(self, *exc: object) -> None:
        if self._runner is not None:
            asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
