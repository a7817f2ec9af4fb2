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
    """Write each number under both prefixes, one revision for each number; return the revisions."""
    revisions = []
    for number in numbers:
        writes = [Put(b"/a/%d" % number, b""), Put(b"/b/%d" % number, b"")]
        revisions.append((await store.commit([], writes)).revision)
    return revisions


async def revisions_upto(stream: AsyncIterator[WatchBatch], last: int) -> list[int]:
    """The revisions of all changes until a batch confirms revision ``last``."""
    revisions = []
    async with asyncio.timeout(DEADLINE_S):
        async for batch in stream:
            revisions += [change.mod_revision for change in batch.changes]
            if batch.revision >= last:
                break
    return revisions


def twice(revisions: list[int]) -> list[int]:
    """Each revision twice, because ``put_pairs`` changes two keys at each revision."""
    return [revision for revision in revisions for _ in range(2)]


@one_and_two_ranges
async def test_a_watch_resumes_after_etcd_was_restarted(
    one_member_etcd: EtcdCluster, open_store: OpenStore, ranges: list[tuple[bytes, bytes]]
) -> None:
    store = open_store(EtcdSettings(one_member_etcd.endpoints))
    first_revisions = await put_pairs(store, range(3))
    stream = store.watch(ranges, after=first_revisions[0] - 1)
    revisions = await revisions_upto(stream, first_revisions[-1])

    one_member_etcd.members[0].kill()
    one_member_etcd.restart(one_member_etcd.members[0])
    second_revisions = await put_pairs(
        open_store(EtcdSettings(one_member_etcd.endpoints)), range(3, 6)
    )
    revisions += await revisions_upto(stream, second_revisions[-1])

    assert revisions == twice(first_revisions + second_revisions)


@one_and_two_ranges
async def test_a_waiting_watch_continues_after_restarts_of_etcd(
    one_member_etcd: EtcdCluster, open_store: OpenStore, ranges: list[tuple[bytes, bytes]]
) -> None:
    store = open_store(EtcdSettings(one_member_etcd.endpoints))
    start = (await store.read([Get(b"/a/")])).revision
    count = 3
    watching = asyncio.create_task(
        revisions_upto(store.watch(ranges, after=start), start + 2 * count)
    )

    committed = []
    for restart in range(count):
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
    revisions = await revisions_upto(stream, first_revisions[-1])

    three_member_etcd.member_at(store.endpoint).kill()
    await store.read([Get(b"/a/")])
    second_revisions = await put_pairs(store, range(3, 6))
    revisions += await revisions_upto(stream, second_revisions[-1])

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
    revisions = await revisions_upto(stream, first_revisions[-1])

    three_member_etcd.member_at(store.endpoint).pause()
    await store.read([Get(b"/a/")])
    second_revisions = await put_pairs(store, range(3, 6))
    revisions += await revisions_upto(stream, second_revisions[-1])

    assert revisions == twice(first_revisions + second_revisions)


@one_and_two_ranges
async def test_a_watch_that_fell_behind_a_compaction_raises_compacted(
    one_member_etcd: EtcdCluster, open_store: OpenStore, ranges: list[tuple[bytes, bytes]]
) -> None:
    store = open_store(EtcdSettings(one_member_etcd.endpoints))
    first_revisions = await put_pairs(store, range(2))
    stream = store.watch(ranges, after=first_revisions[0] - 1)
    await revisions_upto(stream, first_revisions[-1])

    # The watch is not read while the connection breaks and history is compacted.
    one_member_etcd.members[0].kill()
    one_member_etcd.restart(one_member_etcd.members[0])
    later = await put_pairs(store, range(2, 5))
    await store.compact(later[1])

    with pytest.raises(Compacted) as caught:
        await revisions_upto(stream, later[-1])
    assert caught.value.revision == later[1]


@one_and_two_ranges
async def test_a_watch_that_kept_up_survives_a_compaction_and_a_restart(
    one_member_etcd: EtcdCluster, open_store: OpenStore, ranges: list[tuple[bytes, bytes]]
) -> None:
    store = open_store(EtcdSettings(one_member_etcd.endpoints))
    first_revisions = await put_pairs(store, range(3))
    stream = store.watch(ranges, after=first_revisions[0] - 1)
    revisions = await revisions_upto(stream, first_revisions[-1])

    await store.compact(first_revisions[-1])
    one_member_etcd.members[0].kill()
    one_member_etcd.restart(one_member_etcd.members[0])
    second_revisions = await put_pairs(store, range(3, 6))
    revisions += await revisions_upto(stream, second_revisions[-1])

    assert revisions == twice(first_revisions + second_revisions)


async def test_a_watch_that_would_miss_a_deletion_raises_compacted(
    one_member_etcd: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(EtcdSettings(one_member_etcd.endpoints))
    (put_revision,) = await put_pairs(store, [1])
    deleted = (await store.commit([], [Delete(b"/a/1")])).revision
    await store.compact(deleted)

    # etcd itself would accept this position and omit the deletion.
    with pytest.raises(Compacted):
        await revisions_upto(store.watch(ONE_RANGE, after=put_revision), deleted)


async def test_a_closed_watch_leaves_no_task_behind(
    one_member_etcd: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(EtcdSettings(one_member_etcd.endpoints))
    (revision,) = await put_pairs(store, [1])
    before = len(asyncio.all_tasks())

    for _ in range(20):
        stream = store.watch(TWO_RANGES, after=revision - 1)
        await revisions_upto(stream, revision)
        await stream.aclose()  # type: ignore[attr-defined]  # stores return generators

    # The task of a closed watch ends asynchronously.
    async with asyncio.timeout(DEADLINE_S):
        while len(asyncio.all_tasks()) > before:
            await asyncio.sleep(0)
    assert (await store.read([Get(b"/a/1")])).ranges[0].count == 1


def has_both(changes: Sequence[KeyChange]) -> bool:
    """Whether ``changes`` has both keys that ``put_pairs`` writes at one revision."""
    return {change.key[:3] for change in changes} == {b"/a/", b"/b/"}


async def changes_upto(stream: AsyncIterator[WatchBatch], last: int) -> list[int]:
    """The revisions of all changes up to ``last``, including unconfirmed changes."""
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
    stream = store.watch(TWO_RANGES, after=before, is_whole=has_both)
    coming = asyncio.ensure_future(anext(stream))
    (revision,) = await put_pairs(store, [1])

    async with asyncio.timeout(DEADLINE_S):
        batch = await coming
        while not batch.changes:
            batch = await anext(stream)
    assert [change.mod_revision for change in batch.changes] == [revision, revision]
    assert batch.revision == before  # etcd has not confirmed ``revision`` yet


async def test_a_complete_revision_is_returned_after_an_older_incomplete_revision(
    one_member_etcd: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(EtcdSettings(one_member_etcd.endpoints))
    (before,) = await put_pairs(store, [0])
    stream = store.watch(TWO_RANGES, after=before, is_whole=has_both)
    incomplete = (await store.commit([], [Put(b"/a/1", b"")])).revision
    (complete,) = await put_pairs(store, [1])

    assert await changes_upto(stream, complete) == [incomplete, complete, complete]


async def test_unconfirmed_changes_are_not_returned_again_after_the_watch_broke(
    one_member_etcd: EtcdCluster, open_store: OpenStore
) -> None:
    store = open_store(EtcdSettings(one_member_etcd.endpoints))
    (before,) = await put_pairs(store, [0])
    stream = store.watch(TWO_RANGES, after=before, is_whole=has_both)
    first_revisions = await put_pairs(store, range(1, 4))
    revisions = await changes_upto(stream, first_revisions[-1])

    one_member_etcd.members[0].kill()
    one_member_etcd.restart(one_member_etcd.members[0])
    second_revisions = await put_pairs(
        open_store(EtcdSettings(one_member_etcd.endpoints)), range(4, 7)
    )
    revisions += await changes_upto(stream, second_revisions[-1])

    assert revisions == twice(first_revisions + second_revisions)
