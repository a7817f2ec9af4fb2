"""The end of a lease deletes the keys that were last written with it."""

from __future__ import annotations

import pytest

from core.errors import StoreRejected
from core.eventstore.kv import Get, KeyChange, Put
from tests.core.eventstore.kv.contract_subject import Subject, watched_changes

NO_SUCH_LEASE = 0x7A11


async def test_leases_have_different_ids(subject: Subject) -> None:
    leases = {await subject.store.grant_lease(60) for _ in range(5)}

    assert len(leases) == 5
    assert 0 not in leases


async def test_a_key_has_the_lease_that_its_put_names_or_none(subject: Subject) -> None:
    lease = await subject.store.grant_lease(60)
    await subject.store.commit([], [Put(subject.key("a"), b"", lease), Put(subject.key("b"), b"")])

    kvs = (await subject.store.read([Get(*subject.whole_range)])).ranges[0].kvs

    assert [kv.lease for kv in kvs] == [lease, 0]


async def test_renewing_a_lease_returns_its_time_to_live(subject: Subject) -> None:
    lease = await subject.store.grant_lease(60)

    assert await subject.store.keep_lease(lease) == 60


async def test_renewing_an_ended_or_unknown_lease_returns_zero(subject: Subject) -> None:
    lease = await subject.store.grant_lease(60)
    await subject.store.revoke_lease(lease)

    assert await subject.store.keep_lease(lease) == 0
    assert await subject.store.keep_lease(NO_SUCH_LEASE) == 0


async def test_reading_the_remaining_time_of_a_lease_does_not_renew_it(subject: Subject) -> None:
    lease = await subject.store.grant_lease(60)

    left_s = [await subject.store.lease_left_s(lease) for _ in range(2)]

    assert all(0 < seconds <= 60 for seconds in left_s)
    assert left_s[1] <= left_s[0]
    await subject.store.revoke_lease(lease)
    assert await subject.store.lease_left_s(lease) == 0
    assert await subject.store.lease_left_s(NO_SUCH_LEASE) == 0


async def test_revoking_a_lease_deletes_its_keys_in_one_revision(subject: Subject) -> None:
    lease = await subject.store.grant_lease(60)
    writes = [Put(subject.key(name), b"", lease) for name in ("a", "b")]
    start = (await subject.store.commit([], [*writes, Put(subject.key("c"), b"")])).revision

    await subject.store.revoke_lease(lease)

    result = await subject.store.read([Get(*subject.whole_range)])
    assert [kv.key for kv in result.ranges[0].kvs] == [subject.key("c")]
    changes = await watched_changes(
        subject.store, [subject.whole_range], after=start, upto=start + 1
    )
    assert sorted(changes) == [
        KeyChange(subject.key("a"), None, start + 1),
        KeyChange(subject.key("b"), None, start + 1),
    ]


async def test_revoking_an_ended_or_unknown_lease_succeeds(subject: Subject) -> None:
    lease = await subject.store.grant_lease(60)
    revision = (await subject.store.commit([], [Put(subject.key("a"), b"")])).revision

    await subject.store.revoke_lease(lease)
    await subject.store.revoke_lease(lease)
    await subject.store.revoke_lease(NO_SUCH_LEASE)

    assert (await subject.store.read([Get(subject.key("a"))])).revision == revision


async def test_a_key_rewritten_without_a_lease_outlives_its_former_lease(
    subject: Subject,
) -> None:
    lease = await subject.store.grant_lease(60)
    await subject.store.commit([], [Put(subject.key("a"), b"1", lease)])
    await subject.store.commit([], [Put(subject.key("a"), b"2")])

    await subject.store.revoke_lease(lease)

    assert (await subject.store.read([Get(subject.key("a"))])).ranges[0].count == 1


async def test_a_commit_with_an_unknown_lease_writes_nothing(
    subject: Subject,
) -> None:
    writes = [Put(subject.key("a"), b""), Put(subject.key("b"), b"", NO_SUCH_LEASE)]

    with pytest.raises(StoreRejected):
        await subject.store.commit([], writes)

    assert (await subject.store.read([Get(*subject.whole_range)])).ranges[0].count == 0


@pytest.mark.parametrize("range_count", [1, 2])
async def test_a_watch_returns_the_deletions_of_keys_whose_lease_has_ended(
    subject: Subject, range_count: int
) -> None:
    lease = await subject.store.grant_lease(1)
    start = (await subject.store.commit([], [Put(subject.key("a"), b"", lease)])).revision
    subject.let_leases_end(10)
    watched = [subject.range("a", "b"), subject.range("y", "z")][:range_count]

    changes = await watched_changes(subject.store, watched, after=start, upto=start + 1)

    assert changes == [KeyChange(subject.key("a"), None, start + 1)]
    assert await subject.store.keep_lease(lease) == 0
