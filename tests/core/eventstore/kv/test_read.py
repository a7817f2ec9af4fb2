"""A read returns all of its ranges at one revision."""

from __future__ import annotations

import pytest

from core.errors import StoreRejected
from core.eventstore.kv import TXN_OPERATIONS_MAX, Delete, Get, Put, RangeResult
from tests.core.eventstore.kv.contract_subject import Subject

KEY_COUNT = 20_000


async def fill(subject: Subject, count: int, *, value: bytes = b"x") -> int:
    """Write ``count`` numbered keys; return the last revision."""
    revision = 0
    for first in range(0, count, TXN_OPERATIONS_MAX):
        numbers = range(first, min(first + TXN_OPERATIONS_MAX, count))
        writes = [Put(subject.key(f"{number:06}"), value) for number in numbers]
        revision = (await subject.store.commit([], writes)).revision
    return revision


async def test_a_missing_key_reads_as_an_empty_range(subject: Subject) -> None:
    result = await subject.store.read([Get(subject.key("missing"))])

    assert result.ranges == (RangeResult((), 0, more=False),)


async def test_a_range_is_sorted_by_key_and_excludes_its_end(subject: Subject) -> None:
    await subject.store.commit([], [Put(subject.key(name), b"") for name in ("c", "a", "b")])

    kvs = (await subject.store.read([Get(*subject.range("a", "c"))])).ranges[0].kvs

    assert [kv.key for kv in kvs] == [subject.key("a"), subject.key("b")]


async def test_a_range_whose_end_is_not_after_its_start_is_empty(subject: Subject) -> None:
    await subject.store.commit([], [Put(subject.key(name), b"") for name in ("a", "b")])

    result = await subject.store.read(
        [Get(*subject.range("b", "a")), Get(*subject.range("a", "a"))]
    )

    assert [key_range.count for key_range in result.ranges] == [0, 0]


async def test_several_ranges_are_read_at_one_revision_in_the_requested_order(
    subject: Subject,
) -> None:
    await fill(subject, 10)

    result = await subject.store.read(
        [
            Get(subject.key("000007")),
            Get(*subject.range("000002", "000004")),
            Get(subject.key("missing")),
        ]
    )

    names = [[kv.key for kv in key_range.kvs] for key_range in result.ranges]
    assert names == [
        [subject.key("000007")],
        [subject.key("000002"), subject.key("000003")],
        [],
    ]
    assert result.revision >= max(
        kv.mod_revision for key_range in result.ranges for kv in key_range.kvs
    )


async def test_a_limit_bounds_the_returned_keys_but_not_the_count(subject: Subject) -> None:
    await fill(subject, 10)

    truncated, exact, complete = (
        await subject.store.read(
            [
                Get(*subject.whole_range, limit=3),
                Get(*subject.whole_range, limit=10),
                Get(*subject.whole_range, limit=11),
            ]
        )
    ).ranges

    assert (len(truncated.kvs), truncated.count, truncated.more) == (3, 10, True)
    assert [kv.key for kv in truncated.kvs] == [subject.key(f"{number:06}") for number in range(3)]
    assert (len(exact.kvs), exact.count, exact.more) == (10, 10, False)
    assert (len(complete.kvs), complete.count, complete.more) == (10, 10, False)


async def test_a_count_only_read_returns_the_count_without_keys(subject: Subject) -> None:
    await fill(subject, 10)

    result = await subject.store.read([Get(*subject.whole_range, count_only=True)])

    assert result.ranges == (RangeResult((), 10, more=False),)


async def test_reading_keys_only_leaves_the_values_out(subject: Subject) -> None:
    revision = await fill(subject, 2, value=b"large")

    kvs = (await subject.store.read([Get(*subject.whole_range, keys_only=True)])).ranges[0].kvs

    assert [(kv.key, kv.value, kv.mod_revision) for kv in kvs] == [
        (subject.key("000000"), b"", revision),
        (subject.key("000001"), b"", revision),
    ]


async def test_a_read_sees_every_earlier_commit(subject: Subject) -> None:
    for number in range(20):
        committed = await subject.store.commit([], [Put(subject.key("a"), b"%d" % number)])
        result = await subject.store.read([Get(subject.key("a"))])

        assert result.ranges[0].kvs[0].value == b"%d" % number
        assert result.revision >= committed.revision


async def test_a_read_at_an_old_revision_returns_the_values_of_that_revision(
    subject: Subject,
) -> None:
    key = subject.key("a")
    empty = (await subject.store.read([Get(key)])).revision
    first = (await subject.store.commit([], [Put(key, b"1")])).revision
    second = (await subject.store.commit([], [Put(key, b"2")])).revision
    deletion = (await subject.store.commit([], [Delete(key)])).revision
    await subject.store.commit([], [Put(key, b"3")])

    values = []
    for revision in (empty, first, second, deletion):
        result = await subject.store.read([Get(key)], revision=revision)
        assert result.revision == revision
        values.append([kv.value for kv in result.ranges[0].kvs])

    assert values == [[], [b"1"], [b"2"], []]


async def test_several_ranges_can_be_read_at_an_old_revision(subject: Subject) -> None:
    old_revision = await fill(subject, 4)
    await subject.store.commit([], [Delete(*subject.whole_range)])

    result = await subject.store.read(
        [Get(subject.key("000001")), Get(*subject.whole_range, count_only=True)],
        revision=old_revision,
    )

    assert result.revision == old_revision
    assert [key_range.count for key_range in result.ranges] == [1, 4]


async def test_a_revision_that_does_not_exist_yet_is_refused(subject: Subject) -> None:
    now = (await subject.store.read([Get(subject.key("a"))])).revision

    with pytest.raises(StoreRejected):
        await subject.store.read([Get(subject.key("a"))], revision=now + 1_000_000)


async def test_more_ranges_than_the_limit_are_refused(subject: Subject) -> None:
    with pytest.raises(StoreRejected):
        await subject.store.read([Get(subject.key("a"))] * (TXN_OPERATIONS_MAX + 1))


async def test_a_large_range_is_read_completely(subject: Subject) -> None:
    revision = await fill(subject, KEY_COUNT)

    result = await subject.store.read([Get(*subject.whole_range)])

    (answer,) = result.ranges
    assert result.revision >= revision
    assert (answer.count, answer.more) == (KEY_COUNT, False)
    assert [kv.key for kv in answer.kvs] == [
        subject.key(f"{number:06}") for number in range(KEY_COUNT)
    ]


async def test_a_large_range_with_a_limit_is_read_together_with_other_ranges(
    subject: Subject,
) -> None:
    old_revision = await fill(subject, KEY_COUNT)
    await subject.store.commit([], [Delete(*subject.range("000000", "010000"))])

    result = await subject.store.read(
        [
            Get(*subject.whole_range, limit=15_000),
            Get(*subject.range("001500", "004000"), keys_only=True),
            Get(*subject.whole_range, count_only=True),
        ],
        revision=old_revision,
    )

    limited, middle, count = result.ranges
    assert (len(limited.kvs), limited.count, limited.more) == (15_000, KEY_COUNT, True)
    assert limited.kvs[-1].key == subject.key("014999")
    assert (len(middle.kvs), middle.count, middle.more) == (2_500, 2_500, False)
    assert not any(kv.value for kv in middle.kvs)
    assert (count.kvs, count.count) == ((), KEY_COUNT)


async def test_a_range_of_large_values_is_read_completely(subject: Subject) -> None:
    await fill_with_megabytes(subject, 30)

    (answer,) = (await subject.store.read([Get(*subject.whole_range)])).ranges

    assert [len(kv.value) for kv in answer.kvs] == [1_000_000] * 30


async def fill_with_megabytes(subject: Subject, count: int) -> None:
    for number in range(count):
        await subject.store.commit([], [Put(subject.key(f"{number:06}"), bytes(1_000_000))])


async def test_oldest_first_returns_keys_in_the_order_of_their_last_changes(
    subject: Subject,
) -> None:
    for name in ("c", "a", "d", "b", "a"):
        await subject.store.commit([], [Put(subject.key(name), b"")])

    get = Get(*subject.range("a", "e"), limit=3, keys_only=True, oldest_first=True)
    oldest = (await subject.store.read([get])).ranges[0]

    assert [kv.key for kv in oldest.kvs] == [subject.key(name) for name in ("c", "d", "b")]
    assert (oldest.count, oldest.more) == (4, True)
