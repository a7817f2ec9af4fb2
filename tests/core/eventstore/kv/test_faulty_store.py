"""``FaultyStore`` simulates faults on any store."""

from __future__ import annotations

import asyncio

import pytest

from core.errors import Compacted, OutcomeUnknown, StoreUnavailable
from core.eventstore.kv import Absent, Get, Put
from tests.core.eventstore.kv.contract_subject import DEADLINE_S, Subject
from tests.support.faulty_store import Fault, FaultyStore


@pytest.mark.parametrize(
    ("fault", "error", "is_written"),
    [
        (Fault.ANSWER_LOST, OutcomeUnknown, True),
        (Fault.REQUEST_LOST, OutcomeUnknown, False),
        (Fault.REFUSED, StoreUnavailable, False),
    ],
)
async def test_a_fault_makes_only_the_next_commit_raise(
    subject: Subject, fault: Fault, error: type[Exception], *, is_written: bool
) -> None:
    store = FaultyStore(subject.store)
    key = subject.key("a")
    store.fail_next_commits(fault)

    with pytest.raises(error):
        await store.commit([Absent(key)], [Put(key, b"")])

    assert (await store.read([Get(key)])).ranges[0].count == int(is_written)
    assert (await store.commit([Absent(key)], [Put(key, b"")])).succeeded is not is_written
    assert store.commits == 2


async def test_a_store_refuses_calls_while_it_is_unavailable(subject: Subject) -> None:
    store = FaultyStore(subject.store)
    lease = await store.grant_lease(60)
    store.is_unavailable = True

    for call in (
        store.commit([], [Put(subject.key("a"), b"")]),
        store.read([Get(subject.key("a"))]),
        store.grant_lease(60),
        store.keep_lease(lease),
        store.revoke_lease(lease),
        store.compact(1),
    ):
        with pytest.raises(StoreUnavailable):
            await call

    store.is_unavailable = False
    assert await store.keep_lease(lease) == 60
    await store.revoke_lease(lease)


async def test_a_watch_receives_nothing_while_the_store_is_unavailable_and_resumes_after_it(
    subject: Subject,
) -> None:
    store = FaultyStore(subject.store)
    first = (await store.commit([], [Put(subject.key("a"), b"")])).revision
    watch = store.watch([subject.whole_range], after=first - 1)
    async with asyncio.timeout(DEADLINE_S):
        assert (await anext(watch)).revision == first
        waiting = asyncio.ensure_future(anext(watch))
        store.is_unavailable = True
        second = (await subject.store.commit([], [Put(subject.key("b"), b"")])).revision
        received_early, _ = await asyncio.wait({waiting}, timeout=0.1)
        store.is_unavailable = False
        batch = await waiting
    await watch.aclose()

    assert not received_early
    assert batch.revision == second
    assert [change.key for change in batch.changes] == [subject.key("b")]


async def test_a_watch_raises_compacted_if_its_changes_were_compacted_meanwhile(
    subject: Subject,
) -> None:
    store = FaultyStore(subject.store)
    first = (await store.commit([], [Put(subject.key("a"), b"")])).revision
    watch = store.watch([subject.whole_range], after=first - 1)
    async with asyncio.timeout(DEADLINE_S):
        await anext(watch)
        waiting = asyncio.ensure_future(anext(watch))
        store.is_unavailable = True
        await asyncio.wait({waiting}, timeout=0.1)  # the watch is closed
        await subject.store.commit([], [Put(subject.key("b"), b"")])
        last = (await subject.store.commit([], [Put(subject.key("b"), b"")])).revision
        await subject.store.compact(last)
        store.is_unavailable = False
        with pytest.raises(Compacted):
            await waiting
