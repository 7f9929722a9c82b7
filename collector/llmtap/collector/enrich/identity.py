"""Which prompt a call used: hashes that stay the same while only its variables change.

`system_hash`: of the system texts as sent. `template_hash`: of system and user texts with what is
likely filled in (numbers, ids, dates, addresses, quoted texts) replaced by a mark. Both are 16 hex
digits of SHA-256; empty when there is no such text.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from llmtap.dialects.model import Message
from llmtap.dialects.parts import plain_text

_SYSTEM = frozenset(["system", "developer"])
_LOOKED_AT = 16_384
_VARIABLE = re.compile(
    r"https?://\S+"
    r"|[\w.+-]+@[\w-]+\.[\w.-]+"
    r"|\"[^\"\n]{1,400}\"|“[^”\n]{1,400}”|«[^»\n]{1,400}»"
    r"|\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b"
    r"|\b(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{8,}\b"
    r"|\d+(?:[.,:/-]\d+)*"
)


class PromptIdentity(NamedTuple):
    system_hash: str
    template_hash: str


def prompt_identity(messages: list[Message]) -> PromptIdentity:
    """The identity of a prompt. The first user message belongs to the template; later ones do
    not, as they are the conversation."""
    system = "\n".join(plain_text(m.parts) for m in messages if m.role in _SYSTEM)
    user = next((plain_text(m.parts) for m in messages if m.role == "user"), "")
    template = _VARIABLE.sub("\x00", f"{system}\n\n{user}"[:_LOOKED_AT])
    return PromptIdentity(_hash(system), _hash(" ".join(template.split())))


def _hash(text: str) -> str:
    if not text:
        return ""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
