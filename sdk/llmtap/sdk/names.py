"""Header names that applications and llmtap agree on. Constants only; imports nothing.

Request headers are optional, matched without case, and stripped before a request is forwarded.
"""

PREFIX = "llmtap-"

SESSION_ID = "llmtap-session-id"
SESSION_NAME = "llmtap-session-name"
SESSION_PATH = "llmtap-session-path"
USER_ID = "llmtap-user-id"
PROPERTY_PREFIX = "llmtap-property-"
PROMPT_NAME = "llmtap-prompt-name"
PROMPT_VERSION = "llmtap-prompt-version"
CAPTURE = "llmtap-capture"
"""Value: one of `CAPTURE_LEVELS`; anything else is read as the configured default."""

CAPTURE_LEVELS = ("full", "metadata", "off")

CALL_ID = "llmtap-call-id"
"""Response header: the call's UUIDv7, the `id` column of `calls`."""
ERROR = "llmtap-error"
"""Response header: only on responses that llmtap itself made; a short reason."""
TRACEPARENT = "traceparent"
"""W3C Trace Context, version 00."""
