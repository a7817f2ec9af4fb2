"""If every guard holds, a commit applies all writes; else it returns the requested reads."""

from __future__ import annotations

import pytest

from core.errors import StoreRejected
from core.eventstore.kv import (
    REQUEST_BYTES_MAX,
    TXN_OPERATIONS_MAX,
    Absent,
    Delete,
    Get,
    Guard,
    KeyValue,
    NothingNewer,
    Put,
    RangeResult,
    TxnResult,
    Unchanged,
    Write,
)
from tests.core.eventstore.kv.contract_subject import Subject


async def put(subject: Subject, *names: str) -> int:
    writes = [Put(subject.key(name), name.encode()) for name in names]
    result = await subject.store.commit([], writes)
    assert result.succeeded
    return result.revision


async def guards_hold(subject: Subject, *guards: Guard) -> bool:
    return (await subject.store.commit(guards, [])).succeeded


async def test_a_commit_without_guards_writes_all_keys_at_one_new_revision(
    subject: Subject,
) -> None:
    before = (await subject.store.read([Get(subject.key("a"))])).revision

    revision = await put(subject, "a", "b")

    assert revision == before + 1
    kvs = (await subject.store.read([Get(*subject.whole_range)])).ranges[0].kvs
    assert kvs == (
        KeyValue(subject.key("a"), b"a", revision, revision),
        KeyValue(subject.key("b"), b"b", revision, revision),
    )


async def test_a_rewritten_key_keeps_its_create_revision(subject: Subject) -> None:
    first = await put(subject, "a")
    second = await put(subject, "a")

    kv = (await subject.store.read([Get(subject.key("a"))])).ranges[0].kvs[0]

    assert (kv.create_revision, kv.mod_revision) == (first, second)


async def test_a_deleted_and_recreated_key_has_a_new_create_revision(
    subject: Subject,
) -> None:
    await put(subject, "a")
    await subject.store.commit([], [Delete(subject.key("a"))])
    revision = await put(subject, "a")

    kv = (await subject.store.read([Get(subject.key("a"))])).ranges[0].kvs[0]

    assert (kv.create_revision, kv.mod_revision) == (revision, revision)


async def test_an_absent_guard_holds_only_while_the_key_does_not_exist(subject: Subject) -> None:
    assert await guards_hold(subject, Absent(subject.key("a")))
    await put(subject, "a")
    assert not await guards_hold(subject, Absent(subject.key("a")))
    await subject.store.commit([], [Delete(subject.key("a"))])
    assert await guards_hold(subject, Absent(subject.key("a")))


async def test_an_unchanged_guard_holds_only_at_the_last_revision_of_the_key(
    subject: Subject,
) -> None:
    first = await put(subject, "a")
    second = await put(subject, "a")

    assert not await guards_hold(subject, Unchanged(subject.key("a"), first))
    assert await guards_hold(subject, Unchanged(subject.key("a"), second))
    assert not await guards_hold(subject, Unchanged(subject.key("a"), second + 1))


async def test_an_unchanged_guard_at_revision_zero_means_absent(subject: Subject) -> None:
    assert await guards_hold(subject, Unchanged(subject.key("a"), 0))
    await put(subject, "a")
    assert not await guards_hold(subject, Unchanged(subject.key("a"), 0))


async def test_nothing_newer_holds_for_an_empty_range(subject: Subject) -> None:
    await put(subject, "a", "z")

    assert await guards_hold(subject, NothingNewer(*subject.range("b", "c"), 0))


async def test_nothing_newer_fails_for_a_revision_before_the_last_write_in_its_range(
    subject: Subject,
) -> None:
    old = await put(subject, "b1", "b2")
    new = await put(subject, "b2")

    assert not await guards_hold(subject, NothingNewer(*subject.range("b", "c"), old))
    assert await guards_hold(subject, NothingNewer(*subject.range("b", "c"), new))
    assert await guards_hold(subject, NothingNewer(*subject.range("b1", "b2"), old))


async def test_nothing_newer_ignores_keys_outside_its_range(subject: Subject) -> None:
    old = await put(subject, "b")
    await put(subject, "a", "c")

    assert await guards_hold(subject, NothingNewer(*subject.range("b", "c"), old))


async def test_nothing_newer_ignores_a_deletion(subject: Subject) -> None:
    old = await put(subject, "b1", "b2")
    await subject.store.commit([], [Delete(subject.key("b2"))])

    assert await guards_hold(subject, NothingNewer(*subject.range("b", "c"), old))


async def test_nothing_newer_fails_after_a_key_was_deleted_and_put_again(subject: Subject) -> None:
    old = await put(subject, "b")
    await subject.store.commit([], [Delete(subject.key("b"))])
    await put(subject, "b")

    assert not await guards_hold(subject, NothingNewer(*subject.range("b", "c"), old))


async def test_one_failing_guard_stops_every_write(subject: Subject) -> None:
    await put(subject, "taken")

    result = await subject.store.commit(
        [Absent(subject.key("free")), Absent(subject.key("taken"))],
        [Put(subject.key("free"), b"x"), Delete(subject.key("taken"))],
    )

    assert not result.succeeded
    kvs = (await subject.store.read([Get(*subject.whole_range)])).ranges[0].kvs
    assert [kv.key for kv in kvs] == [subject.key("taken")]


async def test_a_failed_commit_leaves_the_revision_unchanged(subject: Subject) -> None:
    revision = await put(subject, "a")

    result = await subject.store.commit([Absent(subject.key("a"))], [Put(subject.key("b"), b"")])

    assert result == TxnResult(succeeded=False, revision=revision, reads={})


async def test_a_failed_commit_returns_reads_at_the_newest_revision(subject: Subject) -> None:
    await put(subject, "a")
    newest = await put(subject, "b")

    result = await subject.store.commit(
        [Absent(subject.key("a"))],
        [Put(subject.key("a"), b"other")],
        [
            Get(subject.key("b")),
            Get(subject.key("missing")),
            Get(*subject.whole_range, keys_only=True),
        ],
    )

    assert result.revision == newest
    key_b, missing, all_keys = result.reads.values()
    assert key_b == RangeResult((KeyValue(subject.key("b"), b"b", newest, newest),), 1, more=False)
    assert missing == RangeResult((), 0, more=False)
    assert [(kv.key, kv.value) for kv in all_keys.kvs] == [
        (subject.key("a"), b""),
        (subject.key("b"), b""),
    ]


async def test_a_successful_commit_returns_no_reads(subject: Subject) -> None:
    result = await subject.store.commit([], [Put(subject.key("a"), b"")], [Get(subject.key("a"))])

    assert result.succeeded
    assert result.reads == {}


async def test_a_commit_without_writes_leaves_the_revision_unchanged(
    subject: Subject,
) -> None:
    revision = await put(subject, "a")

    succeeded = await subject.store.commit([Unchanged(subject.key("a"), revision)], [])
    get = Get(subject.key("a"))
    failed = await subject.store.commit([Absent(subject.key("a"))], [], [get])

    assert succeeded == TxnResult(succeeded=True, revision=revision, reads={})
    assert (failed.succeeded, failed.revision, failed.reads[get].count) == (False, revision, 1)


async def test_deleting_a_range_deletes_its_keys_and_no_others(subject: Subject) -> None:
    await put(subject, "a", "b1", "b2", "c")

    await subject.store.commit([], [Delete(*subject.range("b", "c"))])

    kvs = (await subject.store.read([Get(*subject.whole_range)])).ranges[0].kvs
    assert [kv.key for kv in kvs] == [subject.key("a"), subject.key("c")]


async def test_deleting_a_missing_key_succeeds_and_leaves_the_revision_unchanged(
    subject: Subject,
) -> None:
    revision = await put(subject, "a")

    result = await subject.store.commit([], [Delete(subject.key("missing"))])

    assert result == TxnResult(succeeded=True, revision=revision, reads={})


async def test_keys_and_values_may_contain_any_bytes(subject: Subject) -> None:
    every_byte = bytes(range(256))
    names = [b"\0", b"\0\0", b"\xff", b"\xff\0", every_byte]
    writes = [Put(subject.key(name), name) for name in names]

    await subject.store.commit([], writes)

    kvs = (await subject.store.read([Get(*subject.whole_range)])).ranges[0].kvs
    assert [kv.key for kv in kvs] == sorted(write.key for write in writes)
    assert all(kv.key == subject.key(kv.value) for kv in kvs)


async def test_the_maximum_number_of_operations_is_accepted_in_every_list(
    subject: Subject,
) -> None:
    keys = [subject.key(f"{number:03}") for number in range(TXN_OPERATIONS_MAX)]
    guards = [Absent(key) for key in keys]
    writes = [Put(key, b"x") for key in keys]
    gets = [Get(key) for key in keys]

    succeeded = await subject.store.commit(guards, writes, gets)
    failed = await subject.store.commit(guards, writes, gets)
    read = await subject.store.read(gets)

    assert (succeeded.succeeded, failed.succeeded) == (True, False)
    assert [key_range.kvs[0].key for key_range in failed.reads.values()] == keys
    assert [key_range.kvs[0].key for key_range in read.ranges] == keys


@pytest.mark.parametrize("too_many", ["guards", "writes", "otherwise"])
async def test_one_operation_more_than_the_limit_is_refused(
    subject: Subject, too_many: str
) -> None:
    keys = [subject.key(f"{number:03}") for number in range(TXN_OPERATIONS_MAX + 1)]
    guards = [Absent(key) for key in keys] if too_many == "guards" else []
    writes = [Put(key, b"x") for key in keys] if too_many == "writes" else []
    gets = [Get(key) for key in keys] if too_many == "otherwise" else []

    with pytest.raises(StoreRejected):
        await subject.store.commit(guards, writes, gets)

    assert (await subject.store.read([Get(*subject.whole_range)])).ranges[0].count == 0


@pytest.mark.parametrize("size", [REQUEST_BYTES_MAX + 100_000, 3 * REQUEST_BYTES_MAX])
async def test_a_request_that_is_too_large_is_refused(subject: Subject, size: int) -> None:
    with pytest.raises(StoreRejected):
        await subject.store.commit([], [Put(subject.key("a"), bytes(size))])


async def test_a_request_just_within_the_limit_is_accepted(subject: Subject) -> None:
    value = bytes(REQUEST_BYTES_MAX - 1_000)

    result = await subject.store.commit([], [Put(subject.key("a"), value)])

    assert result.succeeded


async def test_writing_one_key_twice_in_a_commit_is_refused(subject: Subject) -> None:
    twice = [Put(subject.key("a"), b"1"), Put(subject.key("a"), b"2")]
    put_and_delete: list[Write] = [Put(subject.key("a"), b"1"), Delete(*subject.whole_range)]

    with pytest.raises(StoreRejected):
        await subject.store.commit([], twice)
    with pytest.raises(StoreRejected):
        await subject.store.commit([], put_and_delete)


async def test_an_empty_key_is_refused(subject: Subject) -> None:
    with pytest.raises(StoreRejected):
        await subject.store.commit([], [Put(b"", b"")])
    with pytest.raises(StoreRejected):
        await subject.store.read([Get(b"")])


async def test_the_second_commit_that_claims_a_key_fails(subject: Subject) -> None:
    key = subject.key("a")

    first = await subject.store.commit([Absent(key)], [Put(key, b"1")], [Get(key)])
    second = await subject.store.commit([Absent(key)], [Put(key, b"2")], [Get(key)])

    assert (first.succeeded, second.succeeded) == (True, False)
    assert second.reads[Get(key)].kvs[0].value == b"1"
