"""Refuses SQL that is more than reading our tables, before the engine sees it.

The engine's `readonly = 1` is the lock; this is the door in front, because the embedded engine's
lock has gaps: INTO OUTFILE writes files, the scalar function `file` reads any (also by name only,
as in `APPLY file` or `arrayMap(file, …)`), DESCRIBE asks URLs, KILL and USE run.

It holds only while this lexer and ClickHouse's see the same tokens. What they could see differently
is therefore refused, not guessed: other than ASCII outside quotes (ClickHouse takes typographic
quotes), `$` (here-documents), backslashes in quoted names, nested or unclosed comments.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_TOKEN = re.compile(
    r"""(?P<skip>[ \t\r\n\f\v]+|--[^\n]*|\#[ !][^\n]*|/\*(?:(?!/\*|\*/).)*\*/)
      | (?P<odd>/\*|[^\x21-\x7e]|[\\$#]|(?<=\w)'[^']*\\)
      | (?P<text>'(?:[^'\\]|\\.|'')*')
      | (?P<quoted>`(?:[^`\\]|``)*`|"(?:[^"\\]|"")*")
      | (?P<word>\w+)
      | (?P<sign>[^'`"])""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_FIRST = frozenset(["select", "with", "show", "describe", "desc", "explain", "exists", "("])
_BAD_WORDS = frozenset(["outfile", "infile"])
# Functions that leave the tables; a function can be passed by its name, so the name is enough.
_BAD_NAMES = re.compile(
    r"file|eval|catboostevaluate|showcertificate|logtrace|getclienthttpheader"
    r"|ai(?:classify|embed|extract|filter|generate\w*|redact|similarity|translate)"
)
# Table functions that do; these are ordinary words too, so only when called.
_BAD_CALLS = re.compile(
    r"(?:file|url|s3|gcs|oss|cosn|hdfs|azureblobstorage)(?:cluster)?|remote(?:secure)?"
    r"|cluster(?:allreplicas)?|mysql|postgresql|mongodb|redis|sqlite|odbc|jdbc|bigquery"
    r"|arrowflight|arrowstream|executable|python|input|filesystem|dictionary|ytsaurus|loop"
    r"|viewexplain|(?:fuzz|iceberg|deltalake|hudi|paimon)\w*"
)


class NotReadOnlyError(ValueError):
    """The statement is refused; the text says why."""

    code = 164
    """ClickHouse's own code for it, READONLY."""


_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"b": "\b", "f": "\f", "r": "\r", "n": "\n", "t": "\t", "0": "\0"}


class Escaped:
    """A query parameter as ClickHouse's HTTP interface takes it: in TabSeparated's escaping.

    The driver passes it on as it is (it escapes only a `str`): `['a', 'b']` stays an array.
    """

    __slots__ = ("_raw",)

    def __init__(self, raw: str) -> None:
        self._raw = raw

    def __str__(self) -> str:
        return self._raw

    @property
    def plain(self) -> str:
        """The value with its escaping undone."""
        return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]), self._raw)


class _Token(NamedTuple):
    kind: str
    value: str


def check_read_only(sql: str, parameters: Mapping[str, object] | None = None) -> None:
    """Raises NotReadOnlyError for anything but one reading statement over tables."""
    tokens = _tokens(sql)
    while tokens and tokens[-1] == ("sign", ";"):
        tokens.pop()
    if not tokens or tokens[0].kind == "quoted" or tokens[0].value not in _FIRST:
        raise NotReadOnlyError(
            "only reading is allowed here: SELECT, WITH, SHOW, DESCRIBE, EXPLAIN, EXISTS"
        )
    if ("sign", ";") in tokens:
        raise NotReadOnlyError("one statement at a time, please")
    _check_describe(tokens)
    for i, (kind, value) in enumerate(tokens):
        if kind not in ("word", "quoted"):
            continue
        called = i + 1 < len(tokens) and tokens[i + 1] == ("sign", "(")
        if kind == "word" and value in _BAD_WORDS:
            raise NotReadOnlyError(f"{value.upper()} is not allowed here")
        if _BAD_NAMES.fullmatch(value) or (called and _BAD_CALLS.fullmatch(value)):
            raise NotReadOnlyError(f"the function {value}() is not allowed here")
    for bound in (parameters or {}).values():
        if isinstance(bound, Escaped):
            bound = bound.plain
        if isinstance(bound, str) and _BAD_NAMES.fullmatch(bound.strip('`" ').lower()):
            _refuse_identifier_parameters(tokens, bound)


def _check_describe(tokens: list[_Token]) -> None:
    """DESCRIBE runs table functions in spite of readonly, also such as no list here knows."""
    if tokens[0].value not in ("describe", "desc") or ("sign", "(") not in tokens:
        return
    before = tokens[tokens.index(_Token("sign", "(")) - 1]
    if before not in (("word", "describe"), ("word", "desc"), ("word", "table")):
        raise NotReadOnlyError("DESCRIBE takes a table or a (SELECT …) here")


def _refuse_identifier_parameters(tokens: list[_Token], value: str) -> None:
    """`arrayMap({f:Identifier}, …)` with f = file is a call too."""
    if ("word", "identifier") in tokens:
        raise NotReadOnlyError(f"the identifier {value!r} is not allowed as a parameter here")


def _tokens(sql: str) -> list[_Token]:
    """All tokens but spaces and comments; words and names in lower case."""
    found: list[_Token] = []
    at = 0
    while at < len(sql):
        match = _TOKEN.match(sql, at)
        if match is None:
            raise NotReadOnlyError(f"a quote is not closed at character {at + 1}")
        kind, value, at = match.lastgroup or "", match[0], match.end()
        if kind == "odd":
            shown = "a comment in a comment, or not closed" if value == "/*" else repr(value[:20])
            raise NotReadOnlyError(
                f"not understood at character {match.start() + 1}: {shown} (put other than plain "
                "ASCII into quotes)"
            )
        if kind == "quoted":
            found.append(_Token(kind, value[1:-1].lower()))
        elif kind != "skip":
            found.append(_Token(kind, "" if kind == "text" else value.lower()))
    return found
