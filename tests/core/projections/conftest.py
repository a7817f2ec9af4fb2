"""Projection tests use only the memory store, without etcd."""

from __future__ import annotations

import pytest

from core.eventstore.memory_store import MemoryStore


@pytest.fixture
def store(memory_store: MemoryStore) -> MemoryStore:
    """The store that the fixture ``node`` uses."""
    return memory_store
