"""``FaultyStore`` simulates faults on any store."""

from __future__ import annotations

import pytest

from core.errors import OutcomeUnknown, StoreUnavailable
from core.eventstore.kv import Absent, Get, Put
from tests.core.eventstore.kv.contract_subject import Subject, watched_changes
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


async def test_a_watch_works_while_calls_fail(subject: Subject) -> None:
    store = FaultyStore(subject.store)
    revision = (await store.commit([], [Put(subject.key("a"), b"")])).revision
    store.is_unavailable = True

    changes = await watched_changes(store, [subject.whole_range], after=revision - 1, upto=revision)

    assert [change.key for change in changes] == [subject.key("a")]
    await store.close()
