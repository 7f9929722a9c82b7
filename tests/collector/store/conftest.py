"""The shared embedded store as a fixture."""

from __future__ import annotations

import pytest

from llmtap.collector.store import Store
from tests.collector.store.embedded import shared_store


@pytest.fixture(scope="session")
def store() -> Store:
    return shared_store()
