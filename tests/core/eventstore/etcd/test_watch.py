"""After a broken connection, a watch returns every change or raises Compacted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from core.errors import Compacted
from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.kv import Delete, Get, KeyChange, Put, WatchBatch
from tests.core.eventstore.etcd.conftest import OpenStore
from tests.support.etcd import EtcdCluster

pytestmark = pytest.mark.etcd

DEADLINE_S = 60.0
ONE_RANGE = [(b"/a/", b"/c0")]
TWO_RANGES = [(b"/a/", b"/a0"), (b"/b/", b"/b0")]

one_and_two_ranges = pytest.mark.parametrize("ranges", [ONE_RANGE, TWO_RANGES], ids=["one", "two"])


async def put_pairs(store: EtcdStore, numbers: Sequence[int]) -> list[int]:
    """Write each number under both prefixes at a new revision; return the revisions."""
    revisions = []
    for number in numbers:
        writes = [Put(b"/a/%d" % number, b""), Put(b"/b/%d" % number, b"")]
        revisions.append((await store.commit([], writes)).revision)
    return revisions


async def confirmed_revisions_upto(stream: AsyncIterator[WatchBatch], last: int) -> list[int]:
    """The revisions of all changes until a batch confirms revision ``last``."""
    revisions = []
    async with asyncio.timeout(DEADLINE_S):
        async for batch in stream:
            revisions += [change.mod_revision for change in batch.changes]
            if batch.revision >= last:
                break
    return revisions


def twice(revisions: list[int]) -> list[int]:
    """Each revision twice, because ``put_pairs`` changes two keys at once."""
    return [revision for revision in revisions for _ in range(2)]


@one_and_two_ranges
async def test_a_watch_resumes_after_etcd_was_restarted(
    one_member_etcd: EtcdCluster, open_store: OpenStore, ranges: list[tuple[bytes, bytes]]
) -> None:
    store = open_store(EtcdSettings(one_member_etcd.endpoints))
    first_revisions = await put_pairs(store, range(3))
    stream = store.watch(ranges, after=first_revisions[0] - 1)
    revisions = await confirmed_revisions_upto(stream, first_revisions[-1])

    one_member_etcd.members[0].kill()
    one_member_etcd.restart(one_member_etcd.members[0])
    second_revisions = await put_pairs(
        open_store(EtcdSettings(one_member_etcd.endpoints)), range(3, 6)
    )
    revisions += await confirmed_revisions_upto(stream, second_revisions[-1])

    assert revisions == twice(first_revisions + second_revisions)


@one_and_two_ranges
async def test_a_waiting_watch_continues_after_restarts_of_etcd(
    one_member_etcd: EtcdCluster, open_store: OpenStore, ranges: list[tuple[bytes, bytes]]
) -> None:
    store = open_store(EtcdSettings(one_member_etcd.endpoints))
    start = (await store.read([Get(b"/a/")])).revision
    restarts = 3
    watching = asyncio.create_task(
        confirmed_revisions_upto(store.watch(ranges, after=start), start + 2 * restarts)
    )

    committed = []
    for restart in range(restarts):
        committed += await put_pairs(store, [2 * restart, 2 * restart + 1])
        await asyncio.to_thread(one_member_etcd.members[0].kill)
        await asyncio.to_thread(one_member_etcd.restart, one_member_etcd.members[0])
        await store.read([Get(b"/a/")])

    assert await watching == twice(committed)


@one_and_two_ranges
async def test_a_watch_moves_to_another_member_when_its_member_is_killed(
    three_member_etcd: EtcdCluster, open_store: OpenStore, ranges: list[tuple[bytes, bytes]]
) -> None:
    store = open_store(EtcdSettings(three_member_etcd.endpoints, read_deadline_s=30.0))
    first_revisions = await put_pairs(store, range(3))
    stream = store.watch(ranges, after=first_revisions[0] - 1)
    revisions = await confirmed_revisions_upto(stream, first_revisions[-1])

    three_member_etcd.member_at(store.endpoint).kill()
    await store.read([Get(b"/a/")])
    second_revisions = await put_pairs(store, range(3, 6))
    revisions += await confirmed_revisions_upto(stream, second_revisions[-1])

    assert revisions == twice(first_revisions + second_revisions)


@pytest.mark.slow
async def test_a_watch_moves_from_a_hung_member_to_another(
    three_member_etcd: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(
        EtcdSettings(three_member_etcd.endpoints, read_attempt_s=0.5, read_deadline_s=30.0)
    )
    first_revisions = await put_pairs(store, range(3))
    stream = store.watch(TWO_RANGES, after=first_revisions[0] - 1)
    revisions = await confirmed_revisions_upto(stream, first_revisions[-1])

    three_member_etcd.member_at(store.endpoint).pause()
    await store.read([Get(b"/a/")])
    second_revisions = await put_pairs(store, range(3, 6))
    revisions += await confirmed_revisions_upto(stream, second_revisions[-1])

    assert revisions == twice(first_revisions + second_revisions)


@one_and_two_ranges
async def test_a_watch_that_fell_behind_a_compaction_raises_compacted(
    one_member_etcd: EtcdCluster, open_store: OpenStore, ranges: list[tuple[bytes, bytes]]
) -> None:
    store = open_store(EtcdSettings(one_member_etcd.endpoints))
    first_revisions = await put_pairs(store, range(2))
    stream = store.watch(ranges, after=first_revisions[0] - 1)
    await confirmed_revisions_upto(stream, first_revisions[-1])

    # The test does not read the watch until etcd has compacted.
    one_member_etcd.members[0].kill()
    one_member_etcd.restart(one_member_etcd.members[0])
    later_revisions = await put_pairs(store, range(2, 5))
    await store.compact(later_revisions[1])

    with pytest.raises(Compacted) as caught:
        await confirmed_revisions_upto(stream, later_revisions[-1])
    assert caught.value.revision == later_revisions[1]


@one_and_two_ranges
async def test_a_watch_without_a_backlog_survives_a_compaction_and_a_restart(
    one_member_etcd: EtcdCluster, open_store: OpenStore, ranges: list[tuple[bytes, bytes]]
) -> None:
    store = open_store(EtcdSettings(one_member_etcd.endpoints))
    first_revisions = await put_pairs(store, range(3))
    stream = store.watch(ranges, after=first_revisions[0] - 1)
    revisions = await confirmed_revisions_upto(stream, first_revisions[-1])

    await store.compact(first_revisions[-1])
    one_member_etcd.members[0].kill()
    one_member_etcd.restart(one_member_etcd.members[0])
    second_revisions = await put_pairs(store, range(3, 6))
    revisions += await confirmed_revisions_upto(stream, second_revisions[-1])

    assert revisions == twice(first_revisions + second_revisions)


async def test_a_watch_that_would_miss_a_deletion_raises_compacted(
    one_member_etcd: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(EtcdSettings(one_member_etcd.endpoints))
    (put_revision,) = await put_pairs(store, [1])
    deletion_revision = (await store.commit([], [Delete(b"/a/1")])).revision
    await store.compact(deletion_revision)

    # etcd itself would accept this position and omit the deletion.
    with pytest.raises(Compacted):
        await confirmed_revisions_upto(
            store.watch(ONE_RANGE, after=put_revision), deletion_revision
        )


async def test_a_closed_watch_leaves_no_task_behind(
    one_member_etcd: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(EtcdSettings(one_member_etcd.endpoints))
    (revision,) = await put_pairs(store, [1])
    before = len(asyncio.all_tasks())

    for _ in range(20):
        stream = store.watch(TWO_RANGES, after=revision - 1)
        await confirmed_revisions_upto(stream, revision)
        await stream.aclose()  # type: ignore[attr-defined]  # the iterator is a generator

    # The task of a closed watch ends asynchronously.
    async with asyncio.timeout(DEADLINE_S):
        while len(asyncio.all_tasks()) > before:
            await asyncio.sleep(0)
    assert (await store.read([Get(b"/a/1")])).ranges[0].count == 1


def has_both_prefixes(changes: Sequence[KeyChange]) -> bool:
    return {change.key[:3] for change in changes} == {b"/a/", b"/b/"}


async def received_revisions_upto(stream: AsyncIterator[WatchBatch], last: int) -> list[int]:
    """The revisions of all changes until a change of ``last`` arrives, confirmed or not."""
    revisions: list[int] = []
    async with asyncio.timeout(DEADLINE_S):
        while last not in revisions:
            revisions += [change.mod_revision for change in (await anext(stream)).changes]
    return revisions


async def test_a_complete_revision_is_returned_before_etcd_has_confirmed_it(
    one_member_etcd: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(EtcdSettings(one_member_etcd.endpoints))
    (before,) = await put_pairs(store, [0])
    stream = store.watch(TWO_RANGES, after=before, is_whole=has_both_prefixes)
    first_batch = asyncio.ensure_future(anext(stream))
    (revision,) = await put_pairs(store, [1])

    async with asyncio.timeout(DEADLINE_S):
        batch = await first_batch
        while not batch.changes:
            batch = await anext(stream)
    assert [change.mod_revision for change in batch.changes] == [revision, revision]
    assert batch.revision == before  # etcd has not confirmed ``revision`` yet


async def test_a_complete_revision_is_returned_after_an_older_incomplete_revision(
    one_member_etcd: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(EtcdSettings(one_member_etcd.endpoints))
    (before,) = await put_pairs(store, [0])
    stream = store.watch(TWO_RANGES, after=before, is_whole=has_both_prefixes)
    incomplete_revision = (await store.commit([], [Put(b"/a/1", b"")])).revision
    (complete_revision,) = await put_pairs(store, [1])

    assert await received_revisions_upto(stream, complete_revision) == [
        incomplete_revision,
        complete_revision,
        complete_revision,
    ]


async def test_a_broken_watch_does_not_repeat_unconfirmed_changes(
    one_member_etcd: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(EtcdSettings(one_member_etcd.endpoints))
    (before,) = await put_pairs(store, [0])
    stream = store.watch(TWO_RANGES, after=before, is_whole=has_both_prefixes)
    first_revisions = await put_pairs(store, range(1, 4))
    revisions = await received_revisions_upto(stream, first_revisions[-1])

    one_member_etcd.members[0].kill()
    one_member_etcd.restart(one_member_etcd.members[0])
    second_revisions = await put_pairs(
        open_store(EtcdSettings(one_member_etcd.endpoints)), range(4, 7)
    )
    revisions += await received_revisions_upto(stream, second_revisions[-1])

    assert revisions == twice(first_revisions + second_revisions)
