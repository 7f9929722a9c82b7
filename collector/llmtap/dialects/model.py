"""The normal form every dialect decodes into, and the captured exchange it decodes from.

In: `Exchange` — one HTTP request and what came back, transfer coding already removed.
Out: `Call` — messages as OpenTelemetry GenAI parts, usage normalised once, timing, errors.
Owner of truth for field meaning; the store's columns follow these names.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Operation = Literal[
    "chat",
    "text_completion",
    "embeddings",
    "rerank",
    "moderation",
    "image_generation",
    "speech",
    "transcription",
    "translation",
    "realtime",
    "batch",
    "files",
    "count_tokens",
    "unknown",
]
"""OTel GenAI's operation names where it has one (generate_content counts as chat)."""
UsageSource = Literal["reported", "server_timings", "counted", "estimated", ""]

Part = dict[str, Any]
"""An OTel GenAI message part, JSON-ready. `type` is one of: text{content}, reasoning{content},
tool_call{id,name,arguments}, tool_call_response{id,response}, blob{mime_type,modality,size,sha256},
file{file_id}, uri{uri,modality}, refusal{content}, generic{...}."""


@dataclass(slots=True)
class Message:
    """One message; `parts` in wire order. `finish_reason` only on outputs."""

    role: str
    parts: list[Part] = field(default_factory=list[Part])
    name: str = ""
    finish_reason: str = ""


@dataclass(slots=True)
class Usage:
    """Token counts in the OTel/genai-prices sense; None = not known.

    `input_tokens` includes cache reads and writes; `output_tokens` includes reasoning.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Arrivals:
    """When the response body arrived: bytes before `ends[i]` had arrived at `at_us[i]`.

    Both ascending, equal length; `at_us` is microseconds since the request's first byte.
    """

    ends: Sequence[int] = ()
    at_us: Sequence[int] = ()

    def when(self, end: int) -> int | None:
        """Arrival (µs) of the body's byte `end - 1`; None when not captured."""
        i = bisect_left(self.ends, end)
        return self.at_us[i] if i < len(self.at_us) else None


@dataclass(frozen=True, slots=True)
class Exchange:
    """One captured HTTP exchange, as far as it got.

    Headers: allow-listed only, lower-case names. Bodies: transfer coding removed, content coding
    (`content-encoding`) not. `path` is what the upstream saw, without query.
    """

    method: str
    path: str
    upstream: str = ""
    dialect: str = "auto"
    request_headers: Mapping[str, str] = field(default_factory=dict[str, str])
    request_body: bytes = b""
    request_complete: bool = True
    http_status: int = 0
    """0: no response head was seen."""
    response_headers: Mapping[str, str] = field(default_factory=dict[str, str])
    response_body: bytes = b""
    response_complete: bool = True
    arrivals: Arrivals = field(default_factory=Arrivals)


@dataclass(slots=True)
class Call:
    """One decoded LLM call. Empty string / None / empty list = not present on the wire."""

    dialect: str = "unknown"
    operation: Operation = "unknown"
    provider: str = ""
    """The dialect's own (`openai`, `anthropic`, `ollama`); a configured one overrides it."""
    model_requested: str = ""
    model_served: str = ""
    response_id: str = ""
    stream: bool = False
    input_messages: list[Message] = field(default_factory=list[Message])
    output_messages: list[Message] = field(default_factory=list[Message])
    tool_definitions: list[Any] = field(default_factory=list[Any])
    request_params: dict[str, Any] = field(default_factory=dict[str, Any])
    """Sampling and limit parameters as sent (temperature, max_tokens, top_p, seed …)."""
    finish_reason: str = ""
    """The first choice's, in the provider's own word."""
    tool_calls: list[str] = field(default_factory=list[str])
    """Names of the tools that the output calls, in order."""
    usage: Usage = field(default_factory=Usage)
    usage_source: UsageSource = ""
    usage_raw: str = ""
    """The provider's usage object as JSON text (or server timings), verbatim fields."""
    usage_problem: str = ""
    """Names what does not add up in the reported usage; empty when it does."""
    service_tier: str = ""
    system_fingerprint: str = ""
    user_id: str = ""
    """End user named in the body (OpenAI `user`/`safety_identifier`, Anthropic metadata)."""
    chunks: int = 0
    """Stream events with content-bearing data (0 when not a stream)."""
    first_token_us: int | None = None
    """Arrival of the first event with content, reasoning or tool-call output; streams only."""
    last_token_us: int | None = None
    error_type: str = ""
    error_message: str = ""
    stream_complete: bool = True
    """False when a stream ended without its dialect's terminator ([DONE], message_stop, done)."""
    decode_error: str = ""
    """Why the bytes could not be (fully) understood; the raw stays in the spool record."""
