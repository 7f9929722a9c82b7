"""What a cut JSON document had said before the cut (capture limit, broken connection, lost end).

In: a prefix of a JSON text. Out: a whole JSON text: what was open is closed, what had only begun (a
key, a number, an escape) is left out. Linear; never raises; not a validator: parse what comes out.
"""

from __future__ import annotations

import re

MAX_DEPTH = 200
_TOKEN = re.compile(rb'"(?:[^"\\]+|\\.)*+"|"|[{}\[\],:]|[^\s"{}\[\],:]+', re.DOTALL)
_OPEN_STRING = re.compile(rb'"(?:[^"\\]+|\\u[0-9A-Fa-f]{4}|\\[^u])*+')
_HALF_PAIR = re.compile(rb"\\u[Dd][89ABab][0-9A-Fa-f]{2}\Z")
_QUOTE, _OPEN_OBJECT, _OPEN_LIST, _COMMA, _COLON = b'"{[,:'
_CLOSERS = b"}]"


def closed(data: bytes) -> bytes:
    """The JSON document that `data` is a prefix of, ended at the cut; empty when it is none."""
    closers: list[int] = []
    end = 0  # up to here, with the closers, it is a document
    key_next = False
    for match in _TOKEN.finditer(data):
        token = data[match.start()]
        if token == _COMMA:
            key_next = closers[-1:] == [_CLOSERS[0]]
            continue
        if token == _COLON:
            key_next = False
            continue
        if token in (_OPEN_OBJECT, _OPEN_LIST):
            closers.append(_CLOSERS[0] if token == _OPEN_OBJECT else _CLOSERS[1])
            key_next = token == _OPEN_OBJECT
            if len(closers) > MAX_DEPTH:
                return b""
        elif token in _CLOSERS:
            if not closers or closers.pop() != token:
                break
            key_next = False
        elif token == _QUOTE:
            if match.end() == match.start() + 1:  # no closing quote: this is the cut
                if not key_next:
                    string = _ended_string(data, match.start())
                    return data[: match.start()] + string + bytes(reversed(closers))
                break
            if key_next:
                continue
        elif match.end() == len(data) and closers:  # a number or word that may go on
            break
        end = match.end()
        if not closers:
            break
    return data[:end] + bytes(reversed(closers))


def _ended_string(data: bytes, start: int) -> bytes:
    """The string that is cut by the end of `data`, without half an escape or character."""
    match = _OPEN_STRING.match(data, start)
    string = match[0] if match else b'"'
    string = _HALF_PAIR.sub(b"", string)
    for back in range(1, min(4, len(string))):
        byte = string[-back]
        if byte >= 0xC0:
            size = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            string = string[:-back] if back < size else string
            break
        if byte < 0x80:
            break
    return string + b'"'
