"""Group commit: every caller gets the outcome of its own proposal, once."""

from __future__ import annotations

import asyncio

import pytest

from core.errors import SessionLost, StoreRejected, StoreUnavailable, WriterFenced
from core.eventstore.group_commit import (
    FAILURES_WITHOUT_LOSS_MAX,
    Committed,
    GroupCommit,
    Lost,
    Proposal,
    TransactionBatch,
    read_after_failure,
)
from core.eventstore.kv import Absent, Get, Put, TxnResult
from core.eventstore.memory_store import MemoryStore


class GroupCommitHarness:
    """A group commit on a store that refuses to write the key ``refused``.

    Each transaction waits for ``gate``, then raises the next of ``failures`` if one is left.
    """

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.transactions = 0
        self.failures: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.group_commit = GroupCommit(
            self.transact, fatal=WriterFenced, name="queue", depth_max=100, passes=1
        )

    async def transact(self, batch: TransactionBatch) -> TxnResult:
        self.transactions += 1
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        if any(isinstance(write, Put) and write.key == b"refused" for write in batch.writes):
            raise StoreRejected("not this one")
        return await self.store.commit(batch.guards, batch.writes, batch.gets())

    def put(self, key: str) -> asyncio.Future[Committed | Lost]:
        return self.group_commit.put(
            Proposal((), (Absent(key.encode()),), (Put(key.encode(), b""),)),
        )


async def test_a_refused_proposal_does_not_fail_the_others() -> None:
    harness = GroupCommitHarness()
    answers = [harness.put(key) for key in ("a", "refused", "b")]
    results = await asyncio.gather(*answers, return_exceptions=True)

    assert [type(result) for result in results] == [Committed, StoreRejected, Committed]


async def test_a_proposal_cancelled_before_the_retry_is_not_written() -> None:
    harness = GroupCommitHarness()
    harness.gate.clear()
    refused, first, second = [harness.put(key) for key in ("refused", "a", "b")]
    while not harness.transactions:
        await asyncio.sleep(0)
    second.cancel()
    harness.gate.set()
    await asyncio.gather(refused, first, second, return_exceptions=True)
    await harness.group_commit.drain()

    stored = await harness.store.read([Get(b"a"), Get(b"b")])
    assert [key_range.count for key_range in stored.ranges] == [1, 0]


async def test_writer_fenced_during_a_retry_fails_all_proposals() -> None:
    harness = GroupCommitHarness()
    harness.failures += [StoreRejected("a key was refused"), WriterFenced("another process")]
    answers = [harness.put(key) for key in ("a", "b", "c")]
    results = await asyncio.gather(*answers, return_exceptions=True)

    assert [type(result) for result in results] == [WriterFenced] * 3
    assert harness.transactions == 2


async def test_a_store_failure_fails_only_the_proposals_of_its_transaction() -> None:
    harness = GroupCommitHarness()
    harness.failures.append(StoreUnavailable("away"))
    first = harness.put("a")
    with pytest.raises(StoreUnavailable):
        await first

    assert isinstance(await harness.put("a"), Committed)


async def test_a_fenced_writer_fails_all_waiting_proposals() -> None:
    harness = GroupCommitHarness()
    harness.failures.append(WriterFenced("another process"))
    answers = [harness.put("same") for _ in range(3)]  # would need three transactions
    results = await asyncio.gather(*answers, return_exceptions=True)

    assert [type(result) for result in results] == [WriterFenced] * 3
    assert harness.transactions == 1


async def test_a_proposal_for_a_taken_key_returns_lost_and_the_others_are_sent_again() -> None:
    harness = GroupCommitHarness()
    await harness.put("taken")
    answers = [harness.put(key) for key in ("a", "taken", "b")]
    results = await asyncio.gather(*answers)

    assert [type(result) for result in results] == [Committed, Lost, Committed]
    assert harness.transactions == 3


async def test_draining_waits_for_all_proposals() -> None:
    harness = GroupCommitHarness()
    answers = [harness.put("same") for _ in range(3)]
    await harness.group_commit.drain()

    assert all(answer.done() for answer in answers)
    assert harness.group_commit.depth == 0


async def in_flight_and_queued_proposals(
    harness: GroupCommitHarness,
) -> tuple[asyncio.Future[Committed | Lost], ...]:
    """The futures of a proposal in an unanswered transaction and of a queued proposal."""
    harness.gate.clear()
    in_flight = harness.put("same")
    while not harness.transactions:
        await asyncio.sleep(0)
    return in_flight, harness.put("same")


async def test_cancelling_a_drain_does_not_cancel_the_proposals() -> None:
    harness = GroupCommitHarness()
    answers = await in_flight_and_queued_proposals(harness)
    draining = asyncio.ensure_future(harness.group_commit.drain())
    await asyncio.sleep(0)
    draining.cancel()
    await asyncio.wait({draining})
    harness.gate.set()
    await harness.group_commit.drain()

    assert [type(answer.result()) for answer in answers] == [Committed, Lost]


async def test_abandoning_fails_all_proposals_and_ends_a_drain() -> None:
    harness = GroupCommitHarness()
    answers = await in_flight_and_queued_proposals(harness)
    draining = asyncio.ensure_future(harness.group_commit.drain())
    await asyncio.sleep(0)
    harness.group_commit.abandon(SessionLost("gone"))
    await draining
    results = await asyncio.gather(*answers, return_exceptions=True)

    assert [type(result) for result in results] == [SessionLost] * 2
    await harness.group_commit.drain()


async def test_an_inconsistent_transaction_result_fails_all_proposals() -> None:
    harness = GroupCommitHarness()
    # A failed result must have the requested reads.
    inconsistent = TxnResult(succeeded=False, revision=1, reads={})

    async def transact_inconsistently(_: TransactionBatch) -> TxnResult:
        return inconsistent

    harness.group_commit = GroupCommit(
        transact_inconsistently, fatal=WriterFenced, name="queue", depth_max=100, passes=1
    )
    results = await asyncio.gather(harness.put("a"), harness.put("a"), return_exceptions=True)
    await harness.group_commit.drain()

    assert all(isinstance(result, Exception) for result in results)


@pytest.mark.parametrize(
    ("failed_transactions", "result_type"),
    [(FAILURES_WITHOUT_LOSS_MAX, Committed), (FAILURES_WITHOUT_LOSS_MAX + 1, AssertionError)],
)
async def test_retries_of_a_batch_whose_guards_hold_are_limited(
    failed_transactions: int, result_type: type
) -> None:
    harness = GroupCommitHarness()

    async def fail_at_first(batch: TransactionBatch) -> TxnResult:
        if harness.transactions < failed_transactions:
            harness.transactions += 1
            return await read_after_failure(harness.store, Get(b"fence"), batch)
        return await harness.transact(batch)

    harness.group_commit = GroupCommit(
        fail_at_first, fatal=WriterFenced, name="queue", depth_max=100, passes=1
    )
    results = await asyncio.gather(harness.put("a"), harness.put("b"), return_exceptions=True)
    await asyncio.gather(harness.group_commit.drain(), return_exceptions=True)

    assert [type(result) for result in results] == [result_type] * 2


async def test_later_proposals_do_not_join_a_batch_that_is_sent_again() -> None:
    harness = GroupCommitHarness()
    await harness.store.commit([], [Put(b"taken-1", b""), Put(b"taken-2", b"")])
    harness.gate.clear()
    first_answers = [harness.put(key) for key in ("a", "taken-1", "b")]
    while not harness.transactions:
        await asyncio.sleep(0)
    later_answers = [harness.put(key) for key in ("taken-2", "c")]
    harness.gate.set()
    results = await asyncio.gather(*first_answers, *later_answers)

    assert [type(result) for result in results] == [Committed, Lost, Committed, Lost, Committed]
    assert harness.transactions == 4, (
        "expected two failed transactions, each followed by a committed one"
    )


async def test_a_proposal_after_the_queue_was_abandoned_is_committed() -> None:
    harness = GroupCommitHarness()
    await harness.store.commit([], [Put(b"taken", b"")])
    answers = [harness.put(key) for key in ("a", "taken")]
    await answers[1]
    harness.group_commit.abandon(WriterFenced("another process"))
    await asyncio.gather(*answers, return_exceptions=True)

    assert isinstance(await harness.put("b"), Committed)
