"""The route table: the only place that decides where bytes go. Nothing in a request names a host.

`/<upstream>/<rest>` → that upstream's base URL + `/<rest>`; `/v1/…` → the default upstream.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from llmtap.config import Config, Upstream


class NoRoute(LookupError):
    """No upstream for this path; the text says what would work."""


@dataclass(frozen=True, eq=False)
class Route:
    """One upstream, ready to connect to. Times in nanoseconds."""

    name: str
    base_url: str
    host: str
    port: int
    tls: bool
    host_header: bytes
    prefix: bytes
    """Path of the base URL, put before every forwarded path."""
    provider: str
    dialect: str
    trace_forward: bool
    connect_s: float
    first_byte_ns: int
    idle_ns: int
    pool_idle_ns: int
    ca_file: str = ""
    injection: list[bool] = field(default_factory=lambda: [False])
    """Whether usage is asked for in streams; one flag, cleared when the upstream refuses it."""
    _tls_context: list[ssl.SSLContext] = field(default_factory=list[ssl.SSLContext])

    @property
    def injects(self) -> bool:
        return self.injection[0]

    @property
    def tls_context(self) -> ssl.SSLContext | None:
        """Made at first use (loading the trust store takes tens of milliseconds)."""
        if not self.tls:
            return None
        if not self._tls_context:
            context = ssl.create_default_context()
            if self.ca_file:
                context.load_verify_locations(self.ca_file)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_alpn_protocols(["http/1.1"])
            self._tls_context.append(context)
        return self._tls_context[0]


def _route(name: str, upstream: Upstream) -> Route:
    parts = urlsplit(upstream.base_url)
    tls = parts.scheme == "https"
    return Route(
        name=name,
        base_url=upstream.base_url,
        host=parts.hostname or "",
        port=parts.port or (443 if tls else 80),
        tls=tls,
        host_header=parts.netloc.encode(),
        prefix=parts.path.rstrip("/").encode(),
        provider=upstream.provider,
        dialect=upstream.dialect,
        trace_forward=upstream.trace_forward,
        connect_s=upstream.timeouts.connect,
        first_byte_ns=int(upstream.timeouts.first_byte * 1e9),
        idle_ns=int(upstream.timeouts.idle * 1e9),
        pool_idle_ns=int(upstream.pool_idle_s * 1e9),
        ca_file=str(upstream.ca_file or ""),
        injection=[upstream.injects_usage],
    )


class Routes:
    """Looks up routes by request target."""

    def __init__(self, config: Config) -> None:
        self._by_name = {
            name.encode(): _route(name, upstream) for name, upstream in config.upstreams.items()
        }
        self._default = self._by_name[config.default_upstream.encode()]

    def match(self, target: bytes) -> tuple[Route, bytes]:
        """(route, target for the upstream) of an origin-form target. Raises NoRoute."""
        cut = target.find(b"/", 1)
        name = target[1:cut] if cut > 0 else target[1:].partition(b"?")[0]
        if name == b"v1":
            route, rest = self._default, target
        else:
            found = self._by_name.get(name)
            if found is None:
                raise NoRoute(self._help(name))
            route, rest = found, target[1 + len(name) :]
            if not rest.startswith(b"/"):
                rest = b"/" + rest
        if not route.host:
            raise NoRoute(
                f"upstream '{route.name}' has no base_url; "
                f"set [upstreams.{route.name}] base_url in llmtap.toml"
            )
        return route, route.prefix + rest

    def _help(self, name: bytes) -> str:
        known = ", ".join(sorted(n.decode() for n in self._by_name))
        asked = name[:40].decode("ascii", "replace")
        return (
            f"no upstream is called '{asked}'. A base URL looks like http://HOST:PORT/openai/v1; "
            f"known upstreams: {known}. Add yours as [upstreams.NAME] in llmtap.toml"
        )
