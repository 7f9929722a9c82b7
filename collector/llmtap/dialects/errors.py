"""Error bodies that llmtap itself answers with, in the shape that each dialect's SDKs read.

The proxy imports this module and nothing else of the room: keep it light.
"""

from __future__ import annotations

import orjson


def error_body(path: str, status: int, reason: str, message: str) -> bytes:
    """A JSON error for a request to `path`; `reason` is the value of the `llmtap-error` header."""
    route = path.partition("?")[0]
    text = f"llmtap: {message}"
    if "/v1/messages" in route or route.endswith("/v1/complete"):
        kind = "not_found_error" if status == 404 else "api_error"
        return orjson.dumps({"type": "error", "error": {"type": kind, "message": text}})
    if "/api/" in route:
        return orjson.dumps({"error": text})
    error = {"message": text, "type": "llmtap_error", "param": None, "code": reason}
    return orjson.dumps({"error": error})
