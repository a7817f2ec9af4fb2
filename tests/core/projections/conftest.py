"""The store of projection tests: the memory store only, without etcd."""

from __future__ import annotations

import pytest

from core.eventstore.memory import MemoryStore


@pytest.fixture
def store(memory_store: MemoryStore) -> MemoryStore:
    """The store of ``node``."""
    return memory_store
