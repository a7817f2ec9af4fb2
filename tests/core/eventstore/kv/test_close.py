"""Calls and watches of a closed store fail."""

from __future__ import annotations

import asyncio

import pytest

from core.errors import StoreUnavailable
from core.eventstore.kv import Get, Put
from tests.core.eventstore.kv.contract_subject import DEADLINE_S, Subject, watched_changes


async def test_a_closed_store_refuses_calls(subject: Subject) -> None:
    await subject.store.read([Get(subject.key("a"))])
    await subject.store.close()

    with pytest.raises(StoreUnavailable):
        await subject.store.commit([], [Put(subject.key("a"), b"")])
    with pytest.raises(StoreUnavailable):
        await subject.store.read([Get(subject.key("a"))])
    with pytest.raises(StoreUnavailable):
        await subject.store.grant_lease(60)
    with pytest.raises(StoreUnavailable):
        await watched_changes(subject.store, [subject.whole_range], after=1, upto=2)


async def test_closing_the_store_ends_a_waiting_watch(subject: Subject) -> None:
    revision = (await subject.store.commit([], [Put(subject.key("a"), b"")])).revision
    stream = subject.store.watch([subject.whole_range], after=revision - 1)
    assert (await anext(stream)).revision == revision

    async def next_batch() -> None:
        await anext(stream)

    reading = asyncio.create_task(next_batch())
    await subject.store.read([Get(subject.key("a"))])
    await subject.store.close()

    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(reading, DEADLINE_S)


async def test_a_store_can_be_closed_twice(subject: Subject) -> None:
    await subject.store.close()
    await subject.store.close()

    with pytest.raises(StoreUnavailable):
        await subject.store.read([Get(subject.key("a"))])
