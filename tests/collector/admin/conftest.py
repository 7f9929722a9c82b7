"""The shared embedded store, and the admin application over it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from llmtap.collector.store import Store
from tests.collector.admin.serving import Served, http, serving
from tests.collector.store.embedded import shared_store


@pytest.fixture(scope="session")
def store() -> Store:
    return shared_store()


@pytest.fixture(scope="session")
def served(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    run = tmp_path_factory.mktemp("run")
    with serving(store, run, allowed_hosts=("llmtap.example",)) as running:
        yield running


@pytest.fixture(scope="session")
def client(served: Served) -> Iterator[httpx.Client]:
    with http(served) as found:
        yield found
