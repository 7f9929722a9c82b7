"""Where rows live: ClickHouse, embedded (chDB) or a server, behind one client."""

from llmtap.collector.store.client import Store
from llmtap.collector.store.dsn import open_store
from llmtap.collector.store.errors import (
    PermanentInsertError,
    RetryableInsertError,
    StoreConfigError,
    StoreError,
    StoreLockedError,
    StoreUnreachableError,
)
from llmtap.collector.store.rows import CallRow, LossRow

__all__ = [
    "CallRow",
    "LossRow",
    "PermanentInsertError",
    "RetryableInsertError",
    "Store",
    "StoreConfigError",
    "StoreError",
    "StoreLockedError",
    "StoreUnreachableError",
    "open_store",
]
