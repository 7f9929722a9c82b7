"""JSON as servers really send it, and safe access to it.

`parse` takes what orjson takes, then a BOM, NaN, invalid UTF-8 and lone surrogates (replaced).
Every text in its result encodes as UTF-8: the store's client refuses a batch for one surrogate.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

JSON = dict[str, Any]
_NONE: JSON = {}
MAX_DEPTH = 200
"""Deeper documents are refused: whoever walks a value may recurse."""
MAX_DEPTH_ERROR = "nested too deeply"
_CONTAINERS = frozenset((dict, list))


class NotJSON(ValueError):
    """The bytes are no JSON; the text says why."""


def parse(data: bytes) -> Any:
    """The value in `data`. Raises NotJSON."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as e:
        value = _tolerated(data, str(e))
    if _may_be_deep(data) and _is_deep(value):
        raise NotJSON(MAX_DEPTH_ERROR)
    return value


def _tolerated(data: bytes, problem: str) -> Any:
    try:
        text = data.decode("utf-8-sig", "replace")
        return _scrubbed(json.loads(text, parse_constant=_no_number))
    except ValueError:
        raise NotJSON(problem[:200]) from None
    except RecursionError:
        raise NotJSON(MAX_DEPTH_ERROR) from None


def _may_be_deep(data: bytes) -> bool:
    return len(data) > 2 * MAX_DEPTH and data.count(b"[") + data.count(b"{") > MAX_DEPTH


def _is_deep(value: Any) -> bool:
    level = given(value)
    for _ in range(MAX_DEPTH):
        inner = (obj(v).values() if isinstance(v, dict) else items(v) for v in level)
        level = [v for some in inner for v in some if type(v) in _CONTAINERS]
        if not level:
            return False
    return True


def _no_number(_: str) -> None:
    """NaN and the infinities are not known."""


def _scrubbed(value: Any) -> Any:
    """The same value without lone surrogates, which only the tolerant parser lets through."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_scrubbed(item) for item in items(value)]
    if isinstance(value, dict):
        return {clean(key): _scrubbed(item) for key, item in obj(value).items()}
    return value


def parse_object(data: bytes) -> JSON:
    """The object in `data`; empty when it is not one."""
    try:
        value = parse(data)
    except NotJSON:
        return {}
    return value if isinstance(value, dict) else {}


def obj(value: Any) -> JSON:
    """`value` if it is an object, else an empty one (shared: do not change it)."""
    return value if isinstance(value, dict) else _NONE


def items(value: Any) -> list[Any]:
    """`value` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def given(value: Any) -> list[Any]:
    """`value` alone in a list; none if it is None."""
    return [] if value is None else [value]


def text(value: Any) -> str:
    """A parsed `value` as text: strings as they are, None as empty, the rest as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return dumps(value)


def clean(value: str) -> str:
    """The same text with lone surrogates replaced."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def dumps(value: Any) -> str:
    """JSON text of anything that came out of `parse`; total."""
    try:
        return orjson.dumps(value).decode()
    except (TypeError, ValueError, RecursionError):  # ints beyond 64 bits, depth
        try:
            return clean(json.dumps(value, default=str))
        except (TypeError, ValueError, RecursionError):
            return ""
