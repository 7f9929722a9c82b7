"""What a wire dialect is: 3 facts and one pure function. See `registry` for how one is added."""

from __future__ import annotations

from typing import Protocol

from llmtap.dialects.model import Call, Exchange


class Dialect(Protocol):
    """A module-level object per dialect. `decode` may raise on odd input: the registry nets it."""

    @property
    def name(self) -> str: ...

    @property
    def provider(self) -> str:
        """Whose dialect it is; the row's provider when the upstream's is `auto`."""
        ...

    def matches(self, method: str, path: str) -> bool:
        """Whether such a request (path without query) speaks the dialect."""
        ...

    def decode(self, exchange: Exchange) -> Call:
        """Bodies have no transfer or content coding any more."""
        ...

    def error_body(self, status: int, kind: str, message: str) -> bytes:
        """An error in the dialect's own shape; one of `errors`."""
        ...
