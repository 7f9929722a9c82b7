"""Every configuration key, its default and its meaning. The only place that describes them:
`docs/configuration.md` is generated from here (`reference.py`).

Frozen after loading. Units are in names or in the description. No I/O.
"""

from __future__ import annotations

import os
import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from llmtap.config.upstreams import BUILT_IN

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
UPSTREAM_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
RESERVED_NAMES = frozenset({"v1", "_llmtap"})


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Timeouts(Section):
    """Time limits towards one upstream, in seconds."""

    connect: Seconds = Field(default=10.0, description="TCP and TLS set-up.")
    first_byte: Seconds = Field(
        default=600.0,
        description="From the request's last byte to the response's first. Models think.",
    )
    idle: Seconds = Field(default=300.0, description="Between two reads of a response under way.")


INJECTS_USAGE = frozenset(
    ["openai", "groq", "deepseek", "openrouter", "together", "x-ai", "vllm", "sglang", "mlx"]
)
"""Providers that tell usage in streams when asked by `stream_options`, and never refuse it."""


class Upstream(Section):
    """One LLM backend, reached as `http://PROXY/<name>/<rest>` → `base_url` + `/<rest>`."""

    base_url: str = Field(
        default="", description="Where requests go: scheme, host, optional port, path."
    )
    provider: str = Field(
        default="auto",
        description="Provider name on the row and for prices (`openai`, `anthropic`, `vllm` …). "
        "`auto`: the dialect's own.",
    )
    dialect: str = Field(
        default="auto", description="Wire dialect; `auto` decides by path and shape."
    )
    trace_context: Literal["auto", "forward", "strip"] = Field(
        default="auto",
        description="Send `traceparent` with the call's own span id upstream. "
        "`auto`: to http:// upstreams only, so hosted APIs never see trace ids.",
    )
    usage_injection: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Ask OpenAI-compatible servers for usage in streams where the app left "
        "`stream_options` open, and take the extra event out again. `auto`: where the provider "
        "is known to understand it; off for an upstream that answers such a request with 400.",
    )
    pool_idle: float = Field(
        default=0,
        ge=0,
        description="Seconds an idle connection is kept. 0: by scheme (http 4, https 55), "
        "and never longer than the upstream's own `Keep-Alive: timeout=`.",
    )
    ca_file: Path | None = Field(
        default=None, description="PEM file of extra trusted authorities (https)."
    )
    timeouts: Timeouts = Timeouts()

    @field_validator("base_url")
    @classmethod
    def _url(cls, value: str) -> str:
        if not value:
            return value
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be http://HOST[:PORT][/PATH] or https://…")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("must not carry credentials, a query or a fragment")
        if not re.fullmatch(r"[!-~]+", value):
            raise ValueError("must be printable ASCII without spaces")
        _ = parts.port  # raises ValueError on a bad port
        return value.rstrip("/")

    @property
    def injects_usage(self) -> bool:
        if self.usage_injection == "auto":
            return self.provider in INJECTS_USAGE and self.dialect in ("auto", "openai_chat")
        return self.usage_injection == "on"

    @property
    def trace_forward(self) -> bool:
        if self.trace_context == "auto":
            return self.base_url.startswith("http://")
        return self.trace_context == "forward"

    @property
    def pool_idle_s(self) -> float:
        return self.pool_idle or (55.0 if self.base_url.startswith("https://") else 4.0)


class Proxy(Section):
    host: str = Field(default="127.0.0.1", description="Address the proxy listens on.")
    port: Port = Field(default=8787, description="0: any free one, printed.")
    workers: int = Field(
        default=0,
        ge=0,
        le=256,
        description="Worker processes. 0: half the cores, at least 1, at most 8.",
    )
    drain: Seconds = Field(
        default=30.0, description="Seconds that calls under way may take to end after SIGTERM."
    )
    tls_cert: Path | None = Field(
        default=None, description="PEM certificate chain to serve TLS with."
    )
    tls_key: Path | None = Field(default=None, description="PEM private key of `tls_cert`.")

    @model_validator(mode="after")
    def _both(self) -> Proxy:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together")
        return self

    @property
    def worker_count(self) -> int:
        return self.workers or max(1, min(8, (os.cpu_count() or 2) // 2))


class Admin(Section):
    host: str = Field(default="127.0.0.1", description="Address of the admin API.")
    port: Port = Field(default=8788, description="0: any free one, printed.")
    allowed_hosts: tuple[str, ...] = Field(
        default=(), description="Host names, besides loopback ones, that requests may name."
    )


class Otlp(Section):
    """OTLP receivers. Ports are reserved here; this version does not listen on them yet."""

    grpc_port: Port = Field(default=4317, description="OTLP/gRPC port.")
    http_port: Port = Field(default=4318, description="OTLP/HTTP port.")


class Capture(Section):
    level: Literal["full", "metadata", "off"] = Field(
        default="full",
        description="What is stored of a call unless it says otherwise itself (`llmtap-capture`): "
        "all, all but texts, or nothing.",
    )
    max_body_bytes: int = Field(
        default=8 << 20,
        ge=0,
        le=16 << 20,
        description="Stored per body and direction; more is cut.",
    )


class SpoolConfig(Section):
    max_bytes: int = Field(default=2 << 30, ge=1 << 20, description="Most disk the spool may take.")
    min_free_bytes: int = Field(
        default=1 << 30, ge=0, description="Free disk below which it stops."
    )
    segment_bytes: int = Field(
        default=64 << 20, ge=64 << 10, description="Size at which a file is closed."
    )
    segment_seconds: Seconds = Field(default=60.0, description="Age at which a file is closed.")
    sync_ms: int = Field(default=50, ge=1, le=10_000, description="Between two fdatasync calls.")


class Retention(Section):
    """Days that rows are kept; 0: for ever."""

    calls_days: int = Field(default=400, ge=0, description="Rows of `calls`.")
    bodies_days: int = Field(default=90, ge=0, description="Texts and messages in `calls`.")
    traces_days: int = Field(default=90, ge=0, description="Rows of `otel_traces`.")


class StoreConfig(Section):
    dsn: str = Field(
        default="chdb",
        description="`chdb` (embedded, in the data folder), `chdb:///PATH`, or a server: "
        "`clickhouse://USER:PASS@HOST:8123/DB`, `clickhouses://…`, `http(s)://…`. "
        "Also `LLMTAP_STORE`.",
    )
    batch_rows: int = Field(default=5000, ge=1, le=100_000, description="Most rows in one insert.")
    batch_bytes: int = Field(
        default=16 << 20, ge=1 << 10, description="Most spool bytes in one insert."
    )
    batch_ms: int = Field(
        default=500,
        ge=10,
        le=60_000,
        description="Least time between inserts under load; small ones cost merges.",
    )
    retention: Retention = Retention()


class Limits(Section):
    """What a client may send; beyond it the answer is 431, 413, 408 or 503 with the reason."""

    header_bytes: int = Field(default=32 << 10, ge=1 << 10, le=1 << 20, description="Request head.")
    header_count: int = Field(default=100, ge=8, description="Request header fields.")
    header_timeout: Seconds = Field(
        default=10.0, description="Seconds for a begun head to be complete."
    )
    body_bytes: int = Field(default=0, ge=0, description="Request body; 0: no limit.")
    body_idle: Seconds = Field(
        default=60.0, description="Seconds between two reads of a request body."
    )
    keepalive: Seconds = Field(
        default=75.0, description="Seconds an idle client connection is kept."
    )
    connections: int = Field(default=20_000, ge=1, description="Client connections per worker.")


Usd = Annotated[Decimal, Field(ge=0, max_digits=18, decimal_places=12)]


class Price(Section):
    """What a model costs, in USD; goes before the built-in prices.

    Tokens that were read from or written to a cache cost as other input where nothing is said.
    """

    input_mtok: Usd | None = Field(default=None, description="Per million input tokens.")
    output_mtok: Usd | None = Field(default=None, description="Per million output tokens.")
    cache_read_mtok: Usd | None = Field(
        default=None, description="Per million input tokens read from a cache."
    )
    cache_write_mtok: Usd | None = Field(
        default=None, description="Per million input tokens written to a cache."
    )
    request: Usd | None = Field(default=None, description="Per call.")
    gpu_second: Usd | None = Field(
        default=None,
        description="Per second that a call takes, as if it had its GPUs alone.",
    )

    @model_validator(mode="after")
    def _something(self) -> Price:
        if not self.model_dump(exclude_none=True):
            raise ValueError("names no price; set input_mtok, output_mtok, request or gpu_second")
        if (self.input_mtok is None) != (self.output_mtok is None):
            raise ValueError("input_mtok and output_mtok go together (0 is a price)")
        if self.input_mtok is None and (self.cache_read_mtok or self.cache_write_mtok):
            raise ValueError("prices of cached tokens need input_mtok and output_mtok")
        return self


def _built_in() -> dict[str, Upstream]:
    return {name: Upstream(base_url=url, provider=prov) for name, (url, prov) in BUILT_IN.items()}


class Config(Section):
    """The whole tree. `load()` builds it."""

    default_upstream: str = Field(default="openai", description="Where bare `/v1/…` paths go.")
    data: Path = Field(
        default=Path(".llmtap"),
        description="Folder for spool, store and run files (0700). `LLMTAP_DATA`.",
    )
    project: str = Field(default="default", description="Project name on every row.")
    upstreams: dict[str, Upstream] = Field(
        default_factory=_built_in,
        description="Routes by name. Built-in ones are kept; a key of the same name overrides.",
    )
    prices: dict[str, Price] = Field(
        default_factory=dict[str, Price],
        description="Prices by model, `PROVIDER/MODEL` or `UPSTREAM/MODEL`; `*` stands for any "
        "text, and the first that fits counts.",
    )
    tokenizers: dict[str, Path] = Field(
        default_factory=dict[str, Path],
        description="`tokenizer.json` files (Hugging Face) by model, with `*`: for servers that "
        "report no usage. OpenAI's are built in.",
    )
    proxy: Proxy = Proxy()
    admin: Admin = Admin()
    otlp: Otlp = Otlp()
    capture: Capture = Capture()
    spool: SpoolConfig = SpoolConfig()
    store: StoreConfig = StoreConfig()
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _routes(self) -> Config:
        for name in self.upstreams:
            if not UPSTREAM_NAME.fullmatch(name) or name in RESERVED_NAMES:
                raise ValueError(
                    f"upstreams.{name}: a name is lower-case letters, digits, '.', '_', '-', "
                    f"and none of {', '.join(sorted(RESERVED_NAMES))}"
                )
        if self.default_upstream not in self.upstreams:
            raise ValueError(
                f"default_upstream: no upstream is called {self.default_upstream!r}; "
                f"known: {', '.join(sorted(self.upstreams))}"
            )
        return self
