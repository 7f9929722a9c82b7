"""The language of a text, by character n-grams (py3langid, offline). ISO 639-1, empty if unsure.

Only the languages that people write to models in number: fewer candidates, fewer odd answers.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from llmtap.dialects.model import Message
from llmtap.dialects.parts import plain_text

LANGUAGES = """
ar bg bn ca cs da de el en es et fa fi fr he hi hr hu id it ja ko lt lv ms nl no pl pt ro ru sk sl
sr sv ta te th tr uk ur vi zh
""".split()  # noqa: SIM905
_LOOKED_AT = 240
_ENOUGH_LETTERS = 16
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`]*`", re.DOTALL)
_URL = re.compile(r"https?://\S+")
_NOT_LETTERS = str.maketrans(dict.fromkeys('0123456789_{}[]<>=|\\/"#*+~^-', " "))


def language_of(messages: list[Message], role: str = "") -> str:
    """The language of the last message (of a role) that has prose."""
    for message in reversed(messages):
        if role and message.role != role:
            continue
        if text := plain_text([p for p in message.parts if p["type"] == "text"]):
            found = detect(text)
            if found:
                return found
    return ""


def detect(text: str) -> str:
    """The language of a text; empty when it is too short to tell, or code."""
    return _detect(text[: 3 * _LOOKED_AT])


@lru_cache(maxsize=4096)
def _detect(text: str) -> str:
    if "`" in text:
        text = _CODE.sub(" ", text)
    if "://" in text:
        text = _URL.sub(" ", text)
    prose = " ".join(text.translate(_NOT_LETTERS).split())[:_LOOKED_AT]
    # A word of Latin letters could be anything; a few characters of another script are telling.
    letters = sum(map(str.isalpha, prose)) + (0 if prose.isascii() else 4 * _wide(prose))
    if letters < _ENOUGH_LETTERS:
        return ""
    code, _ = _identifier().classify(prose)
    return str(code)


def _wide(text: str) -> int:
    return sum(1 for c in text if c > "\u036f")


@lru_cache(maxsize=1)
def _identifier() -> Any:
    import py3langid  # loads its model at the first call: about 100 MB and half a second

    py3langid.set_languages(LANGUAGES)
    return py3langid
