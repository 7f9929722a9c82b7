"""Which prompt a call used: hashes that stay the same while only its variables change.

`system_hash`: of the system texts as sent. `template_hash`: of system and user texts with what is
likely filled in (words with digits, addresses, quoted texts) replaced by a mark. Both are 16 hex
digits of SHA-256; empty when there is no such text.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from llmtap.dialects.model import Message
from llmtap.dialects.parts import plain_text

_SYSTEM = frozenset(["system", "developer"])
_LOOKED_AT = 8192
_QUOTED = re.compile(r"\"[^\"\n]{1,400}\"|“[^”\n]{1,400}”|«[^»\n]{1,400}»")
_QUOTES = ('"', "“", "«")
_VARIABLE = re.compile(r"[0-9@]")
"""A word with one of these, or an address, in it is taken to be filled in."""


class PromptIdentity(NamedTuple):
    system_hash: str
    template_hash: str


def prompt_identity(messages: list[Message]) -> PromptIdentity:
    """The identity of a prompt. The first user message belongs to the template; later ones do
    not, as they are the conversation."""
    system = "\n".join(plain_text(m.parts) for m in messages if m.role in _SYSTEM)
    user = next((plain_text(m.parts) for m in messages if m.role == "user"), "")
    return PromptIdentity(_hash(system), _hash(_template(f"{system}\n\n{user}"[:_LOOKED_AT])))


def _template(text: str) -> str:
    if any(quote in text for quote in _QUOTES):
        text = _QUOTED.sub(" \x00 ", text)
    search = _VARIABLE.search
    if "://" not in text and not search(text):
        return " ".join(text.split())
    return " ".join(
        "\x00" if not word.isalpha() and (search(word) or "://" in word) else word
        for word in text.split()
    )


def _hash(text: str) -> str:
    if not text:
        return ""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
