"""Reads and watches before the compacted revision raise Compacted."""

from __future__ import annotations

import pytest

from core.errors import Compacted, StoreRejected
from core.eventstore.kv import Delete, Get, KeyChange, Put
from tests.core.eventstore.kv.contract_subject import Subject, watched_changes


async def write_revisions(subject: Subject, count: int) -> list[int]:
    revisions = []
    for number in range(count):
        result = await subject.store.commit([], [Put(subject.key("a"), b"%d" % number)])
        revisions.append(result.revision)
    return revisions


@pytest.mark.parametrize("get_count", [1, 2])
async def test_reading_before_the_compacted_revision_is_refused(
    subject: Subject, get_count: int
) -> None:
    _, second, third, _ = await write_revisions(subject, 4)
    await subject.store.compact(third)

    with pytest.raises(Compacted) as caught:
        await subject.store.read([Get(subject.key("a"))] * get_count, revision=second)

    assert caught.value.revision == third


async def test_the_compacted_revision_itself_stays_readable(subject: Subject) -> None:
    _, second, third, _ = await write_revisions(subject, 4)
    await subject.store.compact(second)

    values = [
        (await subject.store.read([Get(subject.key("a"))], revision=revision))
        .ranges[0]
        .kvs[0]
        .value
        for revision in (second, third)
    ]

    assert values == [b"1", b"2"]


async def test_a_key_deleted_before_a_compaction_stays_deleted(subject: Subject) -> None:
    await write_revisions(subject, 2)
    deletion_revision = (await subject.store.commit([], [Delete(subject.key("a"))])).revision
    await subject.store.compact(deletion_revision)

    assert (await subject.store.read([Get(*subject.whole_range)])).ranges[0].count == 0
    answer = await subject.store.read([Get(*subject.whole_range)], revision=deletion_revision)
    assert answer.ranges[0].count == 0


async def test_compacting_the_same_or_an_older_revision_succeeds(subject: Subject) -> None:
    first, second, third = await write_revisions(subject, 3)
    await subject.store.compact(second)

    await subject.store.compact(second)
    await subject.store.compact(first)

    assert (await subject.store.read([Get(subject.key("a"))], revision=third)).revision == third


async def test_compacting_a_future_revision_is_refused(subject: Subject) -> None:
    (revision,) = await write_revisions(subject, 1)

    with pytest.raises(StoreRejected):
        await subject.store.compact(revision + 1_000_000)


@pytest.mark.parametrize("range_count", [1, 2])
@pytest.mark.parametrize("revisions_before", [1, 2])
async def test_a_watch_that_would_miss_changes_is_refused(
    subject: Subject, range_count: int, revisions_before: int
) -> None:
    revisions = await write_revisions(subject, 4)
    await subject.store.compact(revisions[2])
    watched = [subject.range("a", "b"), subject.range("y", "z")][:range_count]

    with pytest.raises(Compacted) as caught:
        await watched_changes(
            subject.store, watched, after=revisions[2] - revisions_before, upto=revisions[3]
        )

    assert caught.value.revision == revisions[2]


async def test_a_watch_from_the_beginning_of_a_compacted_store_is_refused(
    subject: Subject,
) -> None:
    revisions = await write_revisions(subject, 2)
    await subject.store.compact(revisions[1])

    with pytest.raises(Compacted):
        await watched_changes(subject.store, [subject.whole_range], after=0, upto=revisions[1])


async def test_a_watch_after_the_compacted_revision_returns_every_change(subject: Subject) -> None:
    revisions = await write_revisions(subject, 3)
    await subject.store.compact(revisions[1])

    changes = await watched_changes(
        subject.store, [subject.whole_range], after=revisions[1], upto=revisions[2]
    )

    assert changes == [KeyChange(subject.key("a"), b"2", revisions[2])]


async def test_a_compaction_does_not_affect_an_open_watch(subject: Subject) -> None:
    start = (await write_revisions(subject, 1))[0]
    stream = subject.store.watch([subject.whole_range], after=start)
    changes: list[KeyChange] = []
    for _ in range(3):
        revisions = await write_revisions(subject, 3)
        async for batch in stream:
            changes += batch.changes
            if batch.revision >= revisions[-1]:
                break
        await subject.store.compact(revisions[-1])

    assert [change.value for change in changes] == [b"0", b"1", b"2"] * 3
