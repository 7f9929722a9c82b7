"""Header rules: what of a head is forwarded, stored, taken as llmtap's own, or dropped.

Order and spelling of forwarded fields are kept. Stored fields are an allow-list: credentials can
not get into a record by being forgotten here. Fields that `Connection` names are dropped as
hop-by-hop (RFC 9110 §7.6.1).
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote

from llmtap.proxy.wire.head import Header, RequestHead, ResponseHead
from llmtap.sdk import names

FORWARD, STORE, DROP, TAG, CONNECTION, TRACEPARENT, TRACESTATE, TE, UPGRADE = range(1, 10)

_STORED_REQUEST = frozenset(
    """
    accept content-encoding content-type user-agent x-request-id idempotency-key
    anthropic-version anthropic-beta openai-beta openai-organization openai-project
    x-stainless-lang x-stainless-package-version x-stainless-retry-count
    x-stainless-runtime
    """.split()  # noqa: SIM905
)

_STORED_RESPONSE = frozenset(
    """
    content-encoding content-type request-id x-request-id retry-after server cf-ray
    via openai-model openai-processing-ms openai-version openai-organization apim-
    request-id x-ms-region x-ms-deployment-name x-envoy-upstream-service-time
    x-groq-region x-amzn-requestid x-amzn-errortype
    """.split()  # noqa: SIM905
)
_STORED_RESPONSE_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-")

_ALIASES = {
    "helicone-session-id": "session-id",
    "helicone-session-name": "session-name",
    "helicone-session-path": "session-path",
    "helicone-user-id": "user-id",
    "helicone-prompt-name": "prompt-name",
    "helicone-prompt-version": "prompt-version",
    "x-litellm-customer-id": "user-id",
    "x-litellm-end-user-id": "user-id",
}
_FOREIGN_PREFIXES = ("helicone-", "x-litellm-")
_PROPERTY_PREFIXES = (names.PROPERTY_PREFIX, "helicone-property-")
_HOP = {"keep-alive", "proxy-connection", "proxy-authorization", "proxy-authenticate"}
_KEEP_TOKENS = {"keep-alive", "close", "upgrade", "te"}

MAX_TAG_CHARS = 1024
MAX_TAGS = 64
_MEMO_LIMIT = 4096

_SAFE_QUERY = frozenset(
    """
    alt api-version stream model limit order after before beta
    """.split()  # noqa: SIM905
)

_request_actions: dict[bytes, tuple[int, str]] = {}
_response_actions: dict[bytes, tuple[int, str]] = {}


class Forwarded(NamedTuple):
    """A request head on its way: `lines` as `name: value`, without Host; the rest was taken out."""

    lines: list[bytes]
    stored: dict[str, str]
    tags: dict[str, str]
    traceparent: bytes
    tracestate: bytes


def request_headers(head: RequestHead) -> Forwarded:
    """Sorts a request's fields."""
    lines: list[bytes] = []
    stored: dict[str, str] = {}
    tags: dict[str, str] = {}
    traceparent = tracestate = connection = b""
    actions = _request_actions
    for name, value in head.headers:
        action, key = actions.get(name) or _classify_request(name)
        if action == FORWARD:
            lines.append(name + b": " + value)
        elif action == STORE:
            lines.append(name + b": " + value)
            stored[key] = text(value)
        elif action == TAG:
            if len(tags) < MAX_TAGS:
                tags.setdefault(key, text(value)[:MAX_TAG_CHARS])
        elif action == CONNECTION:
            connection += b"," + value
        elif action == TRACEPARENT:
            traceparent = value
        elif action == TRACESTATE:
            tracestate = value
        elif (action == TE and b"trailers" in value.lower()) or (
            action == UPGRADE and head.upgrade
        ):
            lines.append(name + b": " + value)
    if connection:
        lines = _without_named(lines, connection)
    if head.upgrade:
        lines.append(b"Connection: Upgrade")
    return Forwarded(lines, stored, tags, traceparent, tracestate)


def response_headers(head: ResponseHead, keep_te: bool) -> tuple[list[bytes], dict[str, str]]:
    """(forwarded lines, stored fields) of a response; `keep_te` False drops Transfer-Encoding."""
    lines: list[bytes] = []
    stored: dict[str, str] = {}
    connection = b""
    actions = _response_actions
    for name, value in head.headers:
        action, key = actions.get(name) or _classify_response(name)
        if action == FORWARD:
            lines.append(name + b": " + value)
        elif action == STORE:
            lines.append(name + b": " + value)
            stored[key] = text(value)
        elif action == CONNECTION:
            connection += b"," + value
        elif (action == TE and keep_te) or (action == UPGRADE and head.status == 101):
            lines.append(name + b": " + value)
    if connection:
        lines = _without_named(lines, connection)
    return lines, stored


def text(value: bytes) -> str:
    """A field value as text: UTF-8 where it is, else Latin-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def keep_alive_s(headers: list[Header]) -> float | None:
    """The `timeout` of a `Keep-Alive` response field, seconds."""
    for name, value in headers:
        if len(name) == 10 and name.lower() == b"keep-alive":
            for item in value.lower().split(b","):
                key, _, number = item.strip().partition(b"=")
                if key == b"timeout" and number.isdigit():
                    return float(number)
    return None


def clean_query(target: bytes) -> str:
    """The target as it may be stored: values of all but known harmless parameters are removed."""
    if b"?" not in target:
        return target.decode("latin-1")
    path, _, query = target.partition(b"?")
    kept: list[str] = []
    for item in query.decode("latin-1").split("&"):
        name, equals, _ = item.partition("=")
        safe = unquote(name).lower() in _SAFE_QUERY
        kept.append(item if safe else f"{name}{equals}***" if equals else "***")
    return path.decode("latin-1") + "?" + "&".join(kept)


def _without_named(lines: list[bytes], connection: bytes) -> list[bytes]:
    named = {token.strip() for token in text(connection).lower().split(",")} - _KEEP_TOKENS
    named.discard("")
    if not named:
        return lines
    # Framing fields stay: dropping them would change where the body ends.
    named -= {"content-length", "transfer-encoding", "host"}
    return [line for line in lines if text(line.partition(b":")[0]).lower() not in named]


def _classify_request(name: bytes) -> tuple[int, str]:
    key = name.decode("latin-1").lower()
    action = FORWARD
    if key in _STORED_REQUEST:
        action = STORE
    elif key == "host" or key in _HOP:
        action = DROP
    elif key in _ALIASES:
        action, key = TAG, _ALIASES[key]
    elif key.startswith(_PROPERTY_PREFIXES):
        action, key = TAG, "property-" + key.split("property-", 1)[1]
    elif key.startswith(names.PREFIX):
        action, key = TAG, key.removeprefix(names.PREFIX)
    elif key.startswith(_FOREIGN_PREFIXES):
        action = DROP
    else:
        action = _shared_action(key)
    return _remember(_request_actions, name, (action, key))


def _classify_response(name: bytes) -> tuple[int, str]:
    key = name.decode("latin-1").lower()
    if key in _STORED_RESPONSE or key.startswith(_STORED_RESPONSE_PREFIXES):
        action = STORE
    elif key in _HOP or key in (names.CALL_ID, names.TRACEPARENT, names.ERROR):
        action = DROP
    elif key == "transfer-encoding":
        action = TE
    else:
        action = _shared_action(key)
        if action in (TRACESTATE, TE):
            action = FORWARD
    return _remember(_response_actions, name, (action, key))


def _shared_action(key: str) -> int:
    return {
        "connection": CONNECTION,
        "traceparent": TRACEPARENT,
        "tracestate": TRACESTATE,
        "te": TE,
        "upgrade": UPGRADE,
    }.get(key, FORWARD)


def _remember(
    memo: dict[bytes, tuple[int, str]], name: bytes, what: tuple[int, str]
) -> tuple[int, str]:
    if len(memo) < _MEMO_LIMIT:
        memo[name] = what
    return what
