"""A watch returns every change once, in order, and only complete revisions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from core.eventstore.kv import (
    FROM_NOW,
    Delete,
    Get,
    IsWhole,
    KeyChange,
    Put,
    WatchBatch,
    watch_value,
)
from core.eventstore.memory_store import MemoryStore
from tests.core.eventstore.kv.contract_subject import (
    DEADLINE_S,
    Subject,
    watched_batches,
    watched_changes,
)


async def newest_revision(subject: Subject) -> int:
    return (await subject.store.read([Get(subject.key("-"))])).revision


async def put(subject: Subject, *names: str) -> int:
    writes = [Put(subject.key(name), name.encode()) for name in names]
    return (await subject.store.commit([], writes)).revision


def names_by_revision(subject: Subject, batches: list[WatchBatch]) -> list[tuple[int, list[str]]]:
    """The changed names of each revision, sorted because their order varies."""
    names_of: dict[int, list[str]] = {}
    for batch in batches:
        for change in batch.changes:
            name = change.key.removeprefix(subject.prefix).decode()
            names_of.setdefault(change.mod_revision, []).append(name)
    return [(revision, sorted(names)) for revision, names in names_of.items()]


async def test_a_watch_returns_puts_and_deletions_in_order(subject: Subject) -> None:
    start = await newest_revision(subject)
    first = await put(subject, "a")
    second = await put(subject, "a")
    third = (await subject.store.commit([], [Delete(subject.key("a"))])).revision

    changes = await watched_changes(subject.store, [subject.whole_range], after=start, upto=third)

    assert changes == [
        KeyChange(subject.key("a"), b"a", first),
        KeyChange(subject.key("a"), b"a", second),
        KeyChange(subject.key("a"), None, third),
    ]


async def test_a_watch_that_is_read_repeatedly_returns_every_later_change(subject: Subject) -> None:
    start = await newest_revision(subject)
    stream = subject.store.watch([subject.whole_range], after=start)
    changes: list[KeyChange] = []

    async with asyncio.timeout(DEADLINE_S):
        for name in ("a", "b", "c"):
            revision = await put(subject, name)
            async for batch in stream:
                changes += batch.changes
                if batch.revision >= revision:
                    break

    assert [change.value for change in changes] == [b"a", b"b", b"c"]


async def test_a_watch_begins_after_the_given_revision(subject: Subject) -> None:
    before = await put(subject, "a")
    after = await put(subject, "b")

    changes = await watched_changes(subject.store, [subject.whole_range], after=before, upto=after)

    assert changes == [KeyChange(subject.key("b"), b"b", after)]


async def test_a_watch_from_now_starts_with_the_newest_revision_and_no_changes(
    subject: Subject,
) -> None:
    before = await put(subject, "a")
    stream = subject.store.watch([subject.whole_range], after=FROM_NOW)
    async with asyncio.timeout(DEADLINE_S):
        first_batch = await anext(stream)
        after = await put(subject, "b")
        second_batch = await anext(stream)

    assert first_batch.changes == ()
    assert before <= first_batch.revision < after
    assert second_batch.changes == (KeyChange(subject.key("b"), b"b", after),)


async def test_watch_value_yields_the_stored_value_and_each_later_value(
    subject: Subject,
) -> None:
    await put(subject, "a")
    values_of_a, values_of_b = (watch_value(subject.store, subject.key(name)) for name in "ab")
    async with asyncio.timeout(DEADLINE_S):
        assert await anext(values_of_a) == b"a"
        assert await anext(values_of_b) is None
        await subject.store.commit([], [Put(subject.key("a"), b"2"), Put(subject.key("b"), b"3")])
        assert await anext(values_of_a) == b"2"
        assert await anext(values_of_b) == b"3"
        await subject.store.commit([], [Delete(subject.key("a"))])
        assert await anext(values_of_a) is None


class LaggingStore(MemoryStore):
    """A store that starts a watch ``FROM_NOW`` two revisions early, like a lagging etcd member."""

    async def watch(
        self,
        ranges: Sequence[tuple[bytes, bytes]],
        *,
        after: int,
        is_whole: IsWhole | None = None,
    ) -> AsyncIterator[WatchBatch]:
        if after == FROM_NOW:
            after = (await self.read([])).revision - 2
            yield WatchBatch(after, ())
        async for batch in super().watch(ranges, after=after, is_whole=is_whole):
            yield batch


async def test_watch_value_skips_values_older_than_the_stored_value() -> None:
    store = LaggingStore()
    for write in (Put(b"a", b"1"), Delete(b"a"), Put(b"a", b"2")):
        await store.commit([], [write])
    values_of_a = watch_value(store, b"a")
    async with asyncio.timeout(DEADLINE_S):
        assert await anext(values_of_a) == b"2"
        await store.commit([], [Put(b"a", b"3")])
        assert await anext(values_of_a) == b"3"
    await values_of_a.aclose()
    await store.close()


async def test_a_watch_from_now_and_a_later_read_find_every_key(
    subject: Subject,
) -> None:
    ranges = [subject.range("a", "b"), subject.range("b", "c")]

    async def write() -> None:
        for number in range(300):
            await put(subject, f"a{number:03}", f"b{number:03}")
        await put(subject, "b-end")

    writing = asyncio.create_task(write())
    mod_revisions: dict[bytes, int] = {}
    async with asyncio.timeout(DEADLINE_S):
        async for batch in subject.store.watch(ranges, after=FROM_NOW):
            if not mod_revisions:
                stored = (await subject.store.read([Get(*subject.whole_range)])).ranges[0].kvs
                # ``b"-"`` stands for an empty store, so that only the first batch causes a read.
                mod_revisions = {kv.key: kv.mod_revision for kv in stored} or {b"-": 0}
            assert all(change.mod_revision > 0 for change in batch.changes)
            mod_revisions |= {change.key: change.mod_revision for change in batch.changes}
            if subject.key("b-end") in mod_revisions:
                break
    await writing

    stored = (await subject.store.read([Get(*subject.whole_range)])).ranges[0].kvs
    assert {kv.key for kv in stored} <= mod_revisions.keys()


async def test_a_watch_returns_no_change_of_keys_outside_its_ranges(subject: Subject) -> None:
    start = await newest_revision(subject)
    await put(subject, "a", "b", "b2", "c", "d")
    last = await put(subject, "b")

    batches = await watched_batches(
        subject.store, [(subject.key("b"), b""), subject.range("c", "d")], after=start, upto=last
    )

    assert names_by_revision(subject, batches) == [(last - 1, ["b", "c"]), (last, ["b"])]


async def test_a_watch_over_several_ranges_returns_complete_revisions_in_order(
    subject: Subject,
) -> None:
    start = await newest_revision(subject)
    expected = []
    for number in range(50):
        # Each revision leaves one of the three ranges unchanged.
        names = [f"{letter}{number:02}" for letter in "abc" if (number + ord(letter)) % 3]
        expected.append((await put(subject, *names), names))
    ranges = [subject.range("c", "d"), subject.range("a", "b"), subject.range("b", "c")]

    batches = await watched_batches(subject.store, ranges, after=start, upto=expected[-1][0])

    assert names_by_revision(subject, batches) == expected
    revisions = [batch.revision for batch in batches]
    assert revisions == sorted(set(revisions))
    previous_revisions = [0, *revisions]
    for batch, previous in zip(batches, previous_revisions, strict=False):
        assert all(previous < change.mod_revision <= batch.revision for change in batch.changes)


async def test_a_watch_over_several_ranges_keeps_order_while_keys_are_written(
    subject: Subject,
) -> None:
    start = await newest_revision(subject)
    rounds = 200

    async def write() -> list[int]:
        committed = [
            await put(subject, f"a{number:03}", f"b{number:03}", f"z{number:03}")
            for number in range(rounds)
        ]
        await put(subject, "b-end")
        return committed

    writing = asyncio.create_task(write())
    batches: list[WatchBatch] = []
    ranges = [subject.range("a", "b"), subject.range("b", "c")]
    async with asyncio.timeout(DEADLINE_S):
        async for batch in subject.store.watch(ranges, after=start):
            batches.append(batch)
            if any(change.key == subject.key("b-end") for change in batch.changes):
                break

    assert names_by_revision(subject, batches)[:-1] == [
        (revision, [f"a{number:03}", f"b{number:03}"])
        for number, revision in enumerate(await writing)
    ]


async def test_a_watch_of_overlapping_ranges_returns_a_change_once(subject: Subject) -> None:
    start = await newest_revision(subject)
    last = await put(subject, "b")

    changes = await watched_changes(
        subject.store,
        [subject.whole_range, subject.range("a", "c"), (subject.key("b"), b"")],
        after=start,
        upto=last,
    )

    assert changes == [KeyChange(subject.key("b"), b"b", last)]


async def test_a_watch_returns_one_change_for_each_key_of_a_deleted_range(subject: Subject) -> None:
    start = await put(subject, "a", "b", "c")
    last = (await subject.store.commit([], [Delete(*subject.range("a", "c"))])).revision

    changes = await watched_changes(subject.store, [subject.whole_range], after=start, upto=last)

    assert sorted(changes) == [
        KeyChange(subject.key("a"), None, last),
        KeyChange(subject.key("b"), None, last),
    ]


async def test_a_large_revision_is_returned_in_one_batch(subject: Subject) -> None:
    start = await newest_revision(subject)
    names = [f"{number:03}" for number in range(128)]
    last = await put(subject, *names)

    batches = await watched_batches(subject.store, [subject.whole_range], after=start, upto=last)

    assert names_by_revision(subject, batches) == [(last, names)]


async def test_a_watch_from_far_behind_catches_up(subject: Subject) -> None:
    start = await newest_revision(subject)
    revisions = [await put(subject, f"{number % 7}") for number in range(2_500)]

    changes = await watched_changes(
        subject.store, [subject.whole_range], after=start, upto=revisions[-1]
    )

    assert [change.mod_revision for change in changes] == revisions


async def test_a_watch_returns_more_changes_than_fit_in_one_grpc_message(
    subject: Subject,
) -> None:
    start = await newest_revision(subject)
    sizes = [100_000] * 60
    for number, size in enumerate(sizes):
        await subject.store.commit([], [Put(subject.key(f"{number:02}"), bytes(size))])

    changes = await watched_changes(
        subject.store, [subject.whole_range], after=start, upto=start + len(sizes)
    )

    assert [len(change.value or b"") for change in changes] == sizes


async def test_two_watches_of_one_range_both_return_every_change(subject: Subject) -> None:
    start = await newest_revision(subject)
    last = await put(subject, "a")

    first_changes, second_changes = await asyncio.gather(
        watched_changes(subject.store, [subject.whole_range], after=start, upto=last),
        watched_changes(subject.store, [subject.whole_range], after=start, upto=last),
    )

    assert first_changes == second_changes == [KeyChange(subject.key("a"), b"a", last)]


async def test_a_watch_advances_past_changes_outside_its_ranges(subject: Subject) -> None:
    start = await newest_revision(subject)
    last = await put(subject, "elsewhere")

    batches = await watched_batches(
        subject.store, [subject.range("a", "b")], after=start, upto=last
    )

    assert [batch.changes for batch in batches] == [()]
    assert batches[-1].revision >= last
