"""Refuses SQL that is more than reading our tables, before the engine sees it.

The engine's `readonly = 1` is the lock; this is the door in front: in the embedded engine readonly
still lets INTO OUTFILE write files, KILL end queries and USE move a session. One statement only,
from a short list, without table functions that reach files, networks or processes.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""(?P<skip>\s+|--[^\n]*|\#!?[^\n]*|/\*.*?\*/)
      | (?P<text>'(?:[^'\\]|\\.|'')*')
      | (?P<name>`(?:[^`\\]|\\.|``)*`|"(?:[^"\\]|\\.|"")*"|[^\W\d]\w*)
      | (?P<heredoc>\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_FIRST = frozenset(["select", "with", "show", "describe", "desc", "explain", "exists", "("])
_BAD_FUNCTIONS = re.compile(
    r"(?:file|url|s3|gcs|oss|cosn|hdfs|azureblobstorage)(?:cluster)?|remote(?:secure)?"
    r"|cluster(?:allreplicas)?|mysql|postgresql|mongodb|redis|sqlite|odbc|jdbc|arrowflight"
    r"|executable|python|input|fuzzquery|fuzzjson|dictionary|ytsaurus|viewexplain"
    r"|(?:iceberg|deltalake|hudi|paimon)\w*|catboostevaluate|showcertificate"
)
_BAD_WORDS = frozenset(["outfile", "infile"])


class NotReadOnlyError(ValueError):
    """The statement is refused; the text says why."""


def check_read_only(sql: str) -> None:
    """Raises NotReadOnlyError for anything but one reading statement over tables."""
    tokens: list[tuple[str, str]] = []
    for match in _TOKEN.finditer(sql):
        kind = match.lastgroup or "other"
        if match["skip"] is not None:
            continue
        if match["text"] is not None or match["heredoc"] is not None:
            tokens.append(("text", ""))
        elif match["name"] is not None:
            word = match["name"]
            quoted = word[0] in '`"'
            tokens.append(("quoted" if quoted else "word", word.strip('`"').lower()))
        else:
            tokens.append((kind, match["other"]))
    while tokens and tokens[-1] == ("other", ";"):
        tokens.pop()
    if not tokens or tokens[0][1] not in _FIRST:
        raise NotReadOnlyError(
            "only reading is allowed here: SELECT, WITH, SHOW, DESCRIBE, EXPLAIN, EXISTS"
        )
    for i, (kind, value) in enumerate(tokens):
        called = i + 1 < len(tokens) and tokens[i + 1] == ("other", "(")
        if value == ";" and kind == "other":
            raise NotReadOnlyError("one statement at a time, please")
        if kind == "word" and value in _BAD_WORDS:
            raise NotReadOnlyError(f"{value.upper()} is not allowed here")
        if kind in ("word", "quoted") and called and _BAD_FUNCTIONS.fullmatch(value):
            raise NotReadOnlyError(f"the function {value}() is not allowed here")
