"""Token usage: each provider's object → one inclusive form, with what does not add up named.

`input_tokens` includes cache reads and writes, `output_tokens` includes reasoning (as in OTel GenAI
v1.41 and genai-prices). The raw object is kept beside it.
"""

from __future__ import annotations

from typing import Any

from llmtap.dialects.jsonish import JSON, dumps, obj
from llmtap.dialects.model import Call, Usage

_MAX_COUNT = 0xFFFFFFFF
"""The store's columns are UInt32."""


def _count(value: Any) -> int | None:
    """A token count; None for what is none (negative, fractional, absurd, no number)."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= _MAX_COUNT else None


def _sum(*counts: int | None) -> int | None:
    """The sum of the known; None when none is."""
    known = [count for count in counts if count is not None]
    return _count(sum(known)) if known else None


def _set(call: Call, raw: JSON, usage: Usage, read: tuple[Any, ...], total: Any = None) -> None:
    """Puts reported usage on the call, and checks it. `read`: the wire's values behind it."""
    call.usage = usage
    call.usage_raw = dumps(raw)
    call.usage_source = "reported"
    call.usage_problem = _problem(usage, (*read, total), _count(total))


def _problem(usage: Usage, read: tuple[Any, ...], total: int | None) -> str:
    for value in read:
        if value is not None and _count(value) is None:
            number = isinstance(value, int | float)
            return "negative_count" if number and value < 0 else "not_a_count"
    into, out = usage.input_tokens, usage.output_tokens
    if into is None and out is None:
        return "no_counts"
    cached = (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
    if into is not None and cached > into:
        return "cache_exceeds_input"
    if out is not None and (usage.reasoning_tokens or 0) > out:
        return "reasoning_exceeds_output"
    if total is not None and total != (into or 0) + (out or 0):
        return "total_is_not_sum"
    return ""


def openai_usage(call: Call, raw: JSON) -> None:
    """OpenAI's object, as all who imitate it send it (cached counts are part of the input)."""
    if not raw:
        return
    before = obj(raw.get("prompt_tokens_details"))
    after = obj(raw.get("completion_tokens_details"))
    cached = before.get("cached_tokens")
    if cached is None:
        cached = raw.get("prompt_cache_hit_tokens")  # DeepSeek
    read = (
        raw.get("prompt_tokens"),
        raw.get("completion_tokens"),
        cached,
        before.get("cache_write_tokens"),
        after.get("reasoning_tokens"),
    )
    usage = Usage(*map(_count, read))
    if usage.output_tokens is None and call.operation == "embeddings":
        usage.output_tokens = 0
    total, thought = raw.get("total_tokens"), usage.reasoning_tokens
    if thought and total == (usage.input_tokens or 0) + (usage.output_tokens or 0) + thought:
        usage.output_tokens = _sum(usage.output_tokens, thought)  # xAI counts it beside
    _set(call, raw, usage, read, raw.get("total_tokens"))


def anthropic_usage(call: Call, raw: JSON) -> None:
    """Anthropic's object: its input count excludes cache reads and writes."""
    if not raw:
        return
    read = (
        raw.get("input_tokens"),
        raw.get("output_tokens"),
        raw.get("cache_read_input_tokens"),
        raw.get("cache_creation_input_tokens"),
        obj(raw.get("output_tokens_details")).get("thinking_tokens"),
    )
    usage = Usage(*map(_count, read))
    usage.input_tokens = _sum(usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens)
    _set(call, raw, usage, read)


_OLLAMA_KEYS = (
    *("prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration"),
    *("total_duration", "load_duration"),
)


def ollama_usage(call: Call, final: JSON) -> None:
    """Ollama's counts on its final object; a count of zero is left out by the server."""
    raw = {key: final[key] for key in _OLLAMA_KEYS if key in final}
    if not raw:
        return
    output = 0 if call.operation == "embeddings" else raw.get("eval_count", 0)
    read = (raw.get("prompt_eval_count", 0), output)
    _set(call, raw, Usage(*map(_count, read)), read)


def server_timings(call: Call, timings: JSON) -> None:
    """llama.cpp's `timings`, when no usage was reported."""
    if not timings or call.usage_source:
        return
    cached = _count(timings.get("cache_n"))
    prompt, predicted = _count(timings.get("prompt_n")), _count(timings.get("predicted_n"))
    if prompt is None and predicted is None:
        return
    call.usage = Usage(
        input_tokens=_sum(prompt, cached),
        output_tokens=predicted,
        cache_read_tokens=cached,
    )
    call.usage_raw = dumps(timings)
    call.usage_source = "server_timings"
