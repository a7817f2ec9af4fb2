"""The stores that the contract suite tests, with separate keys for every test."""

from __future__ import annotations

import itertools

import pytest

from core.eventstore.etcd import EtcdStore
from core.eventstore.memory_store import MemoryStore
from tests.core.eventstore.kv.contract_subject import SettableClock, Subject

_numbers = itertools.count()


@pytest.fixture(params=["memory", pytest.param("etcd", marks=pytest.mark.etcd)])
def subject(request: pytest.FixtureRequest) -> Subject:
    prefix = f"/contract/{next(_numbers)}/".encode()
    if request.param == "memory":
        clock = SettableClock()
        return Subject(MemoryStore(clock), prefix, clock)
    store: EtcdStore = request.getfixturevalue("etcd_store")
    return Subject(store, prefix)
