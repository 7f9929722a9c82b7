"""What can go wrong with the store, and which of it is worth another try."""

from __future__ import annotations

import re

from clickhouse_connect.driver.exceptions import DataError, NotSupportedError
from clickhouse_connect.driver.exceptions import Error as ClickHouseError

_CODE = re.compile(r"\bCode: (\d+)")


class StoreError(RuntimeError):
    """Any trouble with the store; the text says what to do."""


class StoreConfigError(StoreError):
    """The DSN can not be understood, or the server does not let us in."""


class StoreLockedError(StoreError):
    """Another process has the embedded store open."""


class StoreUnreachableError(StoreError):
    """The server does not answer (now)."""


class RetryableInsertError(StoreError):
    """The same insert, with the same token, may succeed later. Never change the batch."""


class PermanentInsertError(StoreError):
    """This batch will never be accepted as it is: something in it is wrong."""


def code_of(error: BaseException) -> int:
    """ClickHouse's error code; 0 when there is none."""
    code = getattr(error, "code", None)
    if isinstance(code, int):
        return code
    match = _CODE.search(str(error))
    return int(match[1]) if match else 0


def insert_error(error: Exception) -> StoreError:
    """Retryable or permanent, by the server's code (ClickHouse `ErrorCodes.cpp`)."""
    text = f"{type(error).__name__}: {str(error)[:500]}"
    if not isinstance(error, ClickHouseError):
        if isinstance(error, OSError):
            return RetryableInsertError(text)
        # UnicodeEncodeError, OverflowError, TypeError …: the client could not write a value.
        return PermanentInsertError(text)
    if isinstance(error, DataError | NotSupportedError) and not code_of(error):
        # the client's own checks of values and types
        return PermanentInsertError(text)
    match code_of(error):
        case (
            6 | 26 | 27 | 38 | 41 | 43 | 53 | 62 | 69 | 70 | 72 | 117 | 131 | 321 | 349 | 407 | 441
        ):
            # parse errors, wrong types, out of range, NULL where none may be
            return PermanentInsertError(text)
        case _:
            # 159 time-out, 202 too many queries, 209/210 network, 241 memory, 242 read only,
            # 243 no space, 252 too many parts, 319 unknown outcome, 516 auth, 60 table gone,
            # 999 keeper … and whatever is new: wait, keep the data.
            return RetryableInsertError(text)
