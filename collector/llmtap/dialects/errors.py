"""Error bodies that llmtap itself answers with, in the shape that each dialect's SDKs read.

The proxy imports this module and nothing else of the room: keep it light. Never raises.
"""

from __future__ import annotations

import orjson

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_GOOGLE_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    504: "DEADLINE_EXCEEDED",
}
_GOOGLE_VERBS = frozenset(
    """generateContent streamGenerateContent countTokens embedContent batchEmbedContents
    predict""".split()  # noqa: SIM905
)


def error_body(path: str, status: int, reason: str, message: str) -> bytes:
    """A JSON error for a request to `path`; `reason` is the value of the `llmtap-error` header."""
    route = path.partition("?")[0]
    text = f"llmtap: {message}"
    if "/v1/messages" in route or route.endswith("/v1/complete"):
        return anthropic_error(status, reason, text)
    parent = route.rstrip("/").rpartition("/")[0]
    if parent.endswith("/api") or "/api/blobs/" in route:  # not OpenRouter's /api/v1/…
        return ollama_error(status, reason, text)
    _, colon, verb = route.rstrip("/").rpartition("/")[2].rpartition(":")
    if colon and verb in _GOOGLE_VERBS:
        return google_error(status, reason, text)
    return openai_error(status, reason, text)


def openai_error(status: int, kind: str, message: str) -> bytes:
    """`{"error": {message, type, param, code}}`; the status is the reply's alone."""
    error = {
        "message": _plain(message),
        "type": "llmtap_error",
        "param": None,
        "code": _plain(kind),
    }
    return orjson.dumps({"error": error})


def anthropic_error(status: int, kind: str, message: str) -> bytes:
    """`{"type": "error", "error": {type, message}}`; the type is one Anthropic's SDKs know."""
    error = {"type": _ANTHROPIC_TYPES.get(status, "api_error"), "message": _plain(message)}
    return orjson.dumps({"type": "error", "error": error})


def ollama_error(status: int, kind: str, message: str) -> bytes:
    """`{"error": "text"}`."""
    return orjson.dumps({"error": _plain(message)})


def google_error(status: int, kind: str, message: str) -> bytes:
    """`{"error": {code, message, status, details}}`; the status is one of google.rpc.Code."""
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": _plain(kind),
        "domain": "llmtap",
    }
    error = {
        "code": status,
        "message": _plain(message),
        "status": _GOOGLE_STATUSES.get(status, "UNAVAILABLE"),
        "details": [info],
    }
    return orjson.dumps({"error": error})


def _plain(text: str) -> str:
    """Text that encodes: bytes of a bad head may sit in a message as lone surrogates."""
    return text.encode("utf-8", "replace").decode()
