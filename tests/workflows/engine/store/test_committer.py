"""The outcome of proposals when the committer is closed or abandoned, or the session ends."""

from __future__ import annotations

import asyncio

import pytest

from core.errors import SessionLost
from core.eventstore.group_commit import Committed
from core.eventstore.keys import Keys
from core.eventstore.kv import Absent, KeyValueStore, Put
from core.eventstore.memory_store import MemoryStore
from tests.support.faulty_store import FaultyStore
from workflows.engine.store.keys import WorkflowKeys
from workflows.engine.store.session import Committer, open_session


async def _open_committer(store: KeyValueStore) -> Committer:
    return Committer(store, await open_session(store, WorkflowKeys(Keys("test")), "worker-1"))


async def test_closing_a_committer_waits_for_queued_proposals() -> None:
    store = MemoryStore()
    committer = await _open_committer(store)
    answer = committer.propose([Absent(b"/a")], [Put(b"/a", b"1")])
    await committer.close()

    assert isinstance(answer.result(), Committed)


async def test_abandoning_a_committer_fails_queued_proposals() -> None:
    store = MemoryStore()
    committer = await _open_committer(store)
    answer = committer.propose([Absent(b"/a")], [Put(b"/a", b"1")])
    committer.abandon()
    await committer.close()

    with pytest.raises(SessionLost):
        answer.result()


async def test_a_session_that_is_lost_during_an_outage_fails_waiting_proposals() -> None:
    store = FaultyStore(MemoryStore())
    session = await open_session(store, WorkflowKeys(Keys("test")), "worker-1")
    committer = Committer(store, session)
    store.is_unavailable = True
    answer = committer.propose([Absent(b"/a")], [Put(b"/a", b"1")])
    closing = asyncio.ensure_future(committer.close())
    await asyncio.sleep(0)
    session.lose()
    await closing

    with pytest.raises(SessionLost):
        answer.result()
    session.abandon()
