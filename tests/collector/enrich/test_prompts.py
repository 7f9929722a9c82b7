"""Prompt identity and language."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtap.collector.enrich.identity import prompt_identity
from llmtap.collector.enrich.language import LANGUAGES, detect, language_of
from llmtap.dialects.model import Message


def messages(*said: tuple[str, str]) -> list[Message]:
    return [Message(role, [{"type": "text", "content": text}]) for role, text in said]


def test_variables_do_not_change_the_template() -> None:
    def asked(order: str, mail: str, quote: str) -> list[Message]:
        text = f'Order {order} of {mail} says "{quote}". Answer politely.'
        return messages(("system", "You are a clerk."), ("user", text))

    one = prompt_identity(asked("4711", "ann@example.org", "where is it?"))
    two = prompt_identity(asked("98-3", "bob@mail.example.com", "I want\u2026 two"))
    assert one == two and len(one.template_hash) == 16
    later = asked("4711", "ann@example.org", "x") + messages(("assistant", "Hm"), ("user", "So?"))
    assert prompt_identity(later) == one


@pytest.mark.parametrize(
    "changed",
    [
        messages(("system", "You are a poet."), ("user", "Write about rain.")),
        messages(("system", "You are a clerk."), ("user", "Write about snow.")),
        messages(("user", "Write about rain.")),
    ],
)
def test_words_do(changed: list[Message]) -> None:
    base = prompt_identity(messages(("system", "You are a clerk."), ("user", "Write about rain.")))
    assert prompt_identity(changed).template_hash != base.template_hash


def test_no_prompt_has_no_identity() -> None:
    assert prompt_identity([]) == ("", "")
    assert prompt_identity(messages(("user", "hi"))).system_hash == ""


@settings(deadline=None)  # the model is loaded at first use
@given(st.text(max_size=400))
def test_any_text_has_an_identity_and_a_language_or_none(text: str) -> None:
    assert len(prompt_identity(messages(("user", text))).template_hash) in (0, 16)
    assert detect(text) in ("", *LANGUAGES)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the capital of France?", "en"),
        ("Quelle est la capitale de la France ?", "fr"),
        ("Wie heißt du und wo wohnst du?", "de"),
        ("¿Cómo estás hoy, amigo mío?", "es"),
        ("东京的天气怎么样", "zh"),
        ("今日はいい天気ですね", "ja"),
        ("Привет, как дела?", "ru"),
        ("สวัสดีครับ", "th"),
        ("ok", ""),
        ("", ""),
        ("```python\nfor x in range(10): print(x)\n```", ""),
        ("Bitte erkläre mir diesen Code:\n```\nwhile True:\n    pass\n```", "de"),
    ],
)
def test_languages(text: str, language: str) -> None:
    assert detect(text) == language


def test_the_last_message_with_prose_counts() -> None:
    said = messages(
        ("system", "You answer in the language of the user, always."),
        ("user", "Kannst du mir bitte kurz helfen?"),
        ("assistant", "Natürlich, worum geht es denn genau?"),
        ("user", "ok"),
    )
    assert language_of(said, "user") == "de"
