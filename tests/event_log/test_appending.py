"""The writer: group commit, lost races, unknown outcomes, fencing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from core.errors import (
    NotReady,
    OutcomeUnknown,
    Overloaded,
    StoreRejected,
    StoreUnavailable,
    WriterFenced,
)
from core.eventstore.batch import Lost
from core.eventstore.group_commit import Committed
from core.eventstore.kv import Get, Guard, NothingNewer, TxnResult, Unchanged, Write
from core.eventstore.log import START, LogReader
from core.eventstore.writer import GATHERING_PASSES_MAX, QUEUE_DEPTH_MAX
from tests.event_log.conftest import Log
from tests.support.faulty_store import Fault


async def events(log: Log) -> list[str]:
    segments, _ = await LogReader(log.memory, log.keys).catch_up(START)
    return [one.event_id for segment in segments for one in segment.events()]


async def append_after(log: Log, passes: int) -> None:
    """Append once the event loop has gone round so often."""
    for _ in range(passes):
        await asyncio.sleep(0)
    assert isinstance(await log.writer.append(log.proposal(f"late-{passes}")), Committed)


async def test_a_lone_append_is_one_transaction(log: Log) -> None:
    outcome = await log.writer.append(log.proposal("a"))

    assert isinstance(outcome, Committed)
    assert log.writer.transactions == 1
    assert len(await events(log)) == 1


async def test_what_arrives_while_a_transaction_is_in_flight_shares_the_next_one(log: Log) -> None:
    outcomes = await asyncio.gather(*(log.writer.append(log.proposal(f"k{n}")) for n in range(20)))

    assert all(isinstance(one, Committed) for one in outcomes)
    assert log.writer.transactions <= 2
    assert len(await events(log)) == 20


async def test_callers_that_are_ready_when_a_transaction_begins_still_join_it(log: Log) -> None:
    await asyncio.gather(*(append_after(log, passes) for passes in range(4)))

    assert log.writer.transactions == 1


async def test_callers_who_keep_coming_cannot_hold_up_those_who_wait(log: Log) -> None:
    coming = [asyncio.ensure_future(append_after(log, n)) for n in range(4 * GATHERING_PASSES_MAX)]

    await coming[0]

    assert not coming[-1].done()
    await asyncio.gather(*coming)
    assert len(await events(log)) == len(coming)


async def test_a_member_that_lost_is_told_the_truth_and_the_others_are_committed(log: Log) -> None:
    await log.writer.append(log.proposal("taken"))

    taken, free = await asyncio.gather(
        log.writer.append(log.proposal("taken")), log.writer.append(log.proposal("free"))
    )

    assert isinstance(free, Committed)
    assert isinstance(taken, Lost)
    found = taken.truth[log.keys.meta("taken")]
    assert found is not None
    assert found.value == b"x"
    assert len(await events(log)) == 2


async def test_two_proposals_for_one_key_never_share_a_transaction(log: Log) -> None:
    outcomes = await asyncio.gather(*(log.writer.append(log.proposal("same")) for _ in range(3)))

    assert sorted(type(one).__name__ for one in outcomes) == ["Committed", "Lost", "Lost"]


async def test_a_read_that_starts_at_a_guarded_key_serves_as_its_truth(log: Log) -> None:
    for name in ("m1", "m2"):
        await log.writer.append(log.proposal(name))
    window = Get(log.keys.meta("m1"), log.keys.meta("m9"))

    lost = await log.writer.append(log.proposal("m1")._replace(reads=(window,)))

    assert isinstance(lost, Lost)
    assert [kv.key for kv in lost.reads[window].kvs] == [log.keys.meta("m1"), log.keys.meta("m2")]
    assert lost.truth[log.keys.meta("m1")] == lost.reads[window].kvs[0]


async def test_a_range_guard_loses_to_anything_newer_in_its_range(log: Log) -> None:
    first = await log.writer.append(log.proposal("r1"))
    assert isinstance(first, Committed)
    room = NothingNewer(log.keys.meta("r"), log.keys.meta("s"), first.revision)
    assert isinstance(await log.writer.append(log.proposal("other", room)), Committed)

    await log.writer.append(log.proposal("r2"))

    assert isinstance(await log.writer.append(log.proposal("another", room)), Lost)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [(Fault.ANSWER_LOST, Committed), (Fault.REQUEST_LOST, None), (Fault.REFUSED, None)],
)
async def test_an_unknown_outcome_is_read_back_and_told_as_it_is(
    log: Log, fault: Fault, expected: type | None
) -> None:
    log.store.fail_next_commits(fault)

    if expected is None:
        with pytest.raises(StoreUnavailable):
            await log.writer.append(log.proposal("a"))
    else:
        assert isinstance(await log.writer.append(log.proposal("a")), expected)

    assert len(await events(log)) == (expected is not None)
    assert isinstance(await log.writer.append(log.proposal("b")), Committed)


@pytest.mark.parametrize(
    "faults",
    [
        [Fault.ANSWER_LOST, Fault.ANSWER_LOST],
        [Fault.REQUEST_LOST, Fault.ANSWER_LOST],
        [Fault.ANSWER_LOST, Fault.REQUEST_LOST, Fault.REFUSED, Fault.ANSWER_LOST],
        [Fault.REQUEST_LOST, Fault.ANSWER_LOST, Fault.ANSWER_LOST],
    ],
)
async def test_losing_the_answer_of_the_reading_back_changes_nothing(
    log: Log, faults: list[Fault]
) -> None:
    log.store.fail_next_commits(*faults)
    applied = faults[0] is Fault.ANSWER_LOST

    result = await asyncio.gather(log.writer.append(log.proposal("a")), return_exceptions=True)

    assert isinstance(result[0], Committed if applied else StoreUnavailable)
    assert len(await events(log)) == applied
    assert isinstance(await log.writer.append(log.proposal("b")), Committed)
    assert len(await events(log)) == 1 + applied


@pytest.mark.parametrize("fault", [Fault.ANSWER_LOST, Fault.REQUEST_LOST])
async def test_what_cannot_be_read_back_in_time_is_unknown_and_is_settled_before_the_next(
    log: Log, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.eventstore.retry_policies.SETTLE_S_MAX", 0.01)
    log.store.fail_next_commits(fault, *[Fault.REFUSED] * 100)

    with pytest.raises(OutcomeUnknown):
        await log.writer.append(log.proposal("a"))
    log.store.heal()

    assert isinstance(await log.writer.append(log.proposal("b")), Committed)
    assert len(await events(log)) == 1 + (fault is Fault.ANSWER_LOST)


async def test_while_an_earlier_outcome_is_unknown_nothing_of_the_next_is_written(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.eventstore.retry_policies.SETTLE_S_MAX", 0.01)
    log.store.fail_next_commits(*[Fault.REQUEST_LOST] * 100)

    with pytest.raises(OutcomeUnknown):
        await log.writer.append(log.proposal("a"))
    with pytest.raises(StoreUnavailable, match="an earlier transaction is not settled yet"):
        await log.writer.append(log.proposal("b"))
    log.store.heal()

    assert isinstance(await log.writer.append(log.proposal("c")), Committed)
    assert len(await events(log)) == 1


async def test_a_store_that_refuses_to_be_asked_does_not_turn_unknown_into_refused(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = log.store.commit

    async def lose_and_refuse(
        guards: Sequence[Guard], writes: Sequence[Write], otherwise: Sequence[Get] = ()
    ) -> TxnResult:
        if log.store.commits == 2:
            log.store.commits += 1
            raise StoreRejected("the role was taken away")
        return await commit(guards, writes, otherwise)

    monkeypatch.setattr(log.store, "commit", lose_and_refuse)
    log.store.fail_next_commits(Fault.ANSWER_LOST)

    both = (log.writer.append(log.proposal(name, writer=log.writer)) for name in ("a", "b"))
    results = await asyncio.gather(*both, return_exceptions=True)

    assert [type(one) for one in results] == [OutcomeUnknown, OutcomeUnknown]
    assert isinstance(await log.writer.append(log.proposal("c")), Committed)
    assert len(await events(log)) == 3


async def test_a_second_process_of_one_name_fences_the_first(log: Log) -> None:
    second = log.another("writer-a")
    await second.open()

    with pytest.raises(WriterFenced):
        await log.writer.append(log.proposal("a"))
    with pytest.raises(WriterFenced):
        await log.writer.append(log.proposal("b"))

    assert isinstance(await second.append(log.proposal("c", writer=second)), Committed)
    assert len(await events(log)) == 1


async def test_a_fenced_writer_still_learns_that_its_lost_answer_was_a_commit(log: Log) -> None:
    log.store.fail_next_commits(Fault.ANSWER_LOST, Fault.REFUSED)
    pending = asyncio.ensure_future(log.writer.append(log.proposal("a")))
    while log.store.commits < 2:
        await asyncio.sleep(0)
    second = log.another("writer-a")
    await second.open()

    assert isinstance(await pending, Committed)
    with pytest.raises(WriterFenced):
        await log.writer.append(log.proposal("b"))


async def test_cancelling_before_the_transaction_withdraws_the_proposal(log: Log) -> None:
    first = asyncio.ensure_future(log.writer.append(log.proposal("a")))
    second = asyncio.ensure_future(log.writer.append(log.proposal("b")))
    await asyncio.sleep(0)
    second.cancel()

    await first
    await asyncio.gather(second, return_exceptions=True)
    await log.writer.append(log.proposal("c"))

    assert len(await events(log)) in (2, 3)  # b may have been in the transaction already
    segments, _ = await LogReader(log.memory, log.keys).catch_up(START)
    assert [segment.seq for segment in segments] == list(range(1, len(segments) + 1))


async def test_a_full_queue_says_so_by_name(log: Log) -> None:
    calls = [log.writer.append(log.proposal(f"k{n}")) for n in range(QUEUE_DEPTH_MAX)]

    with pytest.raises(Overloaded, match=f"a maximum length of {QUEUE_DEPTH_MAX}") as refused:
        log.writer.append(log.proposal("one-more"))

    assert refused.value.subject == "writer queue"
    await asyncio.gather(*calls)


async def test_a_writer_that_is_not_open_appends_nothing(log: Log) -> None:
    with pytest.raises(NotReady):
        await log.another("writer-b").append(log.proposal("a"))


async def test_a_transaction_never_exceeds_what_etcd_takes(log: Log) -> None:
    big = [log.proposal(f"big{n}", size=200_000) for n in range(12)]

    outcomes = await asyncio.gather(*(log.writer.append(one) for one in big))

    assert all(isinstance(one, Committed) for one in outcomes)


async def test_an_unchanged_guard_of_revision_zero_means_absent(log: Log) -> None:
    key = log.keys.meta("new")

    assert isinstance(await log.writer.append(log.proposal("new", Unchanged(key, 0))), Committed)
    assert isinstance(await log.writer.append(log.proposal("new", Unchanged(key, 0))), Lost)
