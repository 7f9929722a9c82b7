"""JSON as servers really send it, and safe access to it.

`parse` takes what orjson takes, then NaN and invalid UTF-8 (replaced). Text that leaves this room
always encodes as UTF-8: the store's client refuses a whole batch for one lone surrogate.
"""

from __future__ import annotations

import json
from typing import Any, cast

import orjson

JSON = dict[str, Any]
_NONE: JSON = {}
MAX_DEPTH_ERROR = "nested too deeply"


class NotJSON(ValueError):
    """The bytes are no JSON; the text says why."""


def parse(data: bytes) -> Any:
    """The value in `data`. Raises NotJSON."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as e:
        first = str(e)
    try:
        return json.loads(clean(data.decode("utf-8", "replace")))
    except ValueError:
        raise NotJSON(first[:200]) from None
    except RecursionError:
        raise NotJSON(MAX_DEPTH_ERROR) from None


def parse_object(data: bytes) -> JSON:
    """The object in `data`; empty when it is not one."""
    try:
        value = parse(data)
    except NotJSON:
        return {}
    return cast("JSON", value) if isinstance(value, dict) else {}


def obj(value: Any) -> JSON:
    """`value` if it is an object, else an empty one."""
    return cast("JSON", value) if isinstance(value, dict) else _NONE


def items(value: Any) -> list[Any]:
    """`value` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]


def given(value: Any) -> list[Any]:
    """`value` alone in a list; none if it is None."""
    return [] if value is None else [value]


def text(value: Any) -> str:
    """`value` as text: strings as they are, None as empty, the rest as JSON."""
    if isinstance(value, str):
        return value if value.isascii() else clean(value)
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
    except (TypeError, ValueError, RecursionError):  # surrogates, huge ints, NaN keys, depth
        try:
            return clean(json.dumps(value, default=str))
        except (TypeError, ValueError, RecursionError):
            return ""
