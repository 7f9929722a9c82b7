"""A cut JSON document gives back what it had said, whatever was cut and wherever."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmtap.dialects.salvage import MAX_DEPTH, closed

_TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
_SCALARS = st.none() | st.booleans() | st.integers() | _TEXTS
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=12,
)
_DOCUMENTS = st.lists(_VALUES, max_size=4) | st.dictionaries(_TEXTS, _VALUES, max_size=4)


def is_beginning(part: Any, whole: Any) -> bool:
    """Whether `part` is what `whole` looks like when its text is cut."""
    if type(part) is not type(whole):
        return False
    if isinstance(whole, str):
        return whole.startswith(part)
    if isinstance(whole, list):
        return _items_begin(part, cast("Any", whole))
    if isinstance(whole, dict):
        fields: dict[str, Any] = part
        all_fields: dict[str, Any] = cast("Any", whole)
        same_keys = list(fields) == list(all_fields)[: len(fields)]
        return same_keys and _items_begin(
            list(fields.values()), list(all_fields.values())[: len(fields)]
        )
    return bool(part == whole)


def _items_begin(part: list[Any], whole: list[Any]) -> bool:
    """All items but the last are whole."""
    if not part:
        return True
    last = len(part) - 1
    return last < len(whole) and part[:-1] == whole[:last] and is_beginning(part[last], whole[last])


@given(document=_DOCUMENTS, ascii_only=st.booleans(), data=st.data())
def test_every_prefix_becomes_a_beginning_of_the_document(
    document: Any, ascii_only: bool, data: st.DataObject
) -> None:
    whole = json.dumps(document, ensure_ascii=ascii_only).encode()
    cut = data.draw(st.integers(1, len(whole)))
    assert is_beginning(json.loads(closed(whole[:cut])), document)
    if cut == len(whole):
        assert json.loads(closed(whole)) == document


@given(st.binary(max_size=200))
@example(b'{"a":"\\')
@example(b']}{"')
@example(b'"\xf0')
def test_any_bytes_are_survived(data: bytes) -> None:
    assert isinstance(closed(data), bytes)


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        (b"", b""),
        (b"  ", b""),
        (b"{", b"{}"),
        (b'{"model', b"{}"),
        (b'{"model":', b"{}"),
        (b'{"a":1,"b', b'{"a":1}'),
        (b'{"a":[1,2', b'{"a":[1]}'),
        (b'{"a":[1,2,', b'{"a":[1,2]}'),
        (b'{"a":"x\\', b'{"a":"x"}'),
        (b'{"a":"x\\u00e', b'{"a":"x"}'),
        (b'{"a":"x\\ud83d', b'{"a":"x"}'),
        (b'{"a":"x\xe2\x82', b'{"a":"x"}'),
        (b'{"a":"\xe2\x82\xac', '{"a":"€"}'.encode()),
        (b'{"a":tru', b"{}"),
        (b'{"a":1}} trailing', b'{"a":1}'),
        (b"[" * (MAX_DEPTH + 1), b""),
    ],
)
def test_cuts(cut: bytes, expected: bytes) -> None:
    assert closed(cut) == expected
