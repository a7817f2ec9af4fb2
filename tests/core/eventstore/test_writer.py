"""A writer groups commits, reads unknown outcomes back, and stops when it is fenced.

``harness.proposal(name)`` writes the key ``name`` if the key does not exist.
"""

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
from core.eventstore.group_commit import Committed, Lost
from core.eventstore.kv import (
    Get,
    Guard,
    NothingNewer,
    Put,
    ReadResult,
    TxnResult,
    Unchanged,
    Write,
)
from core.eventstore.log_reader import LOG_START, LogReader
from core.eventstore.writer import GATHERING_PASSES_MAX, QUEUE_DEPTH_MAX
from tests.core.eventstore.writer_harness import WriterHarness
from tests.support.faulty_store import Fault


async def event_ids(harness: WriterHarness) -> list[str]:
    """The ids of all events in the log, one for each committed proposal."""
    segments, _ = await LogReader(harness.memory, harness.keys).catch_up(LOG_START)
    return [recorded.event_id for segment in segments for recorded in segment.events()]


async def append_after_loop_passes(harness: WriterHarness, passes: int) -> None:
    for _ in range(passes):
        await asyncio.sleep(0)
    assert isinstance(await harness.writer.append(harness.proposal(f"late-{passes}")), Committed)


async def test_a_single_append_is_one_transaction(harness: WriterHarness) -> None:
    outcome = await harness.writer.append(harness.proposal("a"))

    assert isinstance(outcome, Committed)
    assert harness.writer.transactions == 1
    assert len(await event_ids(harness)) == 1


async def test_concurrent_proposals_use_at_most_two_transactions(
    harness: WriterHarness,
) -> None:
    outcomes = await asyncio.gather(
        *(harness.writer.append(harness.proposal(f"k{number}")) for number in range(20))
    )

    assert all(isinstance(outcome, Committed) for outcome in outcomes)
    assert harness.writer.transactions <= 2
    assert len(await event_ids(harness)) == 20


async def test_appends_in_the_next_event_loop_passes_join_the_same_transaction(
    harness: WriterHarness,
) -> None:
    await asyncio.gather(*(append_after_loop_passes(harness, passes) for passes in range(4)))

    assert harness.writer.transactions == 1


async def test_new_callers_do_not_delay_waiting_callers(harness: WriterHarness) -> None:
    appends = [
        asyncio.ensure_future(append_after_loop_passes(harness, passes))
        for passes in range(4 * GATHERING_PASSES_MAX)
    ]

    await appends[0]

    assert not appends[-1].done()
    await asyncio.gather(*appends)
    assert len(await event_ids(harness)) == len(appends)


async def test_a_lost_proposal_returns_the_current_value_of_its_key(
    harness: WriterHarness,
) -> None:
    await harness.writer.append(harness.proposal("taken"))

    taken_outcome, free_outcome = await asyncio.gather(
        harness.writer.append(harness.proposal("taken")),
        harness.writer.append(harness.proposal("free")),
    )

    assert isinstance(free_outcome, Committed)
    assert isinstance(taken_outcome, Lost)
    stored = taken_outcome.current[harness.keys.meta("taken")]
    assert stored is not None
    assert stored.value == b"x"
    assert len(await event_ids(harness)) == 2


async def test_two_proposals_for_one_key_never_share_a_transaction(harness: WriterHarness) -> None:
    outcomes = await asyncio.gather(
        *(harness.writer.append(harness.proposal("same")) for _ in range(3))
    )

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Committed", "Lost", "Lost"]


async def test_a_lost_proposal_returns_a_requested_range_that_starts_at_its_guarded_key(
    harness: WriterHarness,
) -> None:
    for name in ("m1", "m2"):
        await harness.writer.append(harness.proposal(name))
    window = Get(harness.keys.meta("m1"), harness.keys.meta("m9"))

    lost = await harness.writer.append(harness.proposal("m1")._replace(reads=lambda: (window,)))

    assert isinstance(lost, Lost)
    assert [kv.key for kv in lost.reads[window].kvs] == [
        harness.keys.meta("m1"),
        harness.keys.meta("m2"),
    ]
    assert lost.current[harness.keys.meta("m1")] == lost.reads[window].kvs[0]


async def test_a_failed_read_after_a_lost_race_raises_unavailable(
    harness: WriterHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.writer.append(harness.proposal("m1"))

    async def refuse(gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        raise StoreUnavailable("the connection was refused")

    with monkeypatch.context() as patch:
        patch.setattr(harness.store, "read", refuse)
        with pytest.raises(StoreUnavailable):
            await harness.writer.append(harness.proposal("m1"))

    assert len(await event_ids(harness)) == 1
    assert isinstance(await harness.writer.append(harness.proposal("m2")), Committed)


async def test_a_head_rewritten_with_the_same_value_does_not_fence_the_writer(
    harness: WriterHarness,
) -> None:
    key = harness.keys.head(harness.writer.name)
    head = (await harness.memory.read([Get(key)])).ranges[0].first
    assert head is not None
    await harness.memory.commit([], [Put(key, head.value)])

    assert isinstance(await harness.writer.append(harness.proposal("m1")), Committed)


async def test_a_range_guard_fails_after_a_newer_write_in_its_range(harness: WriterHarness) -> None:
    first = await harness.writer.append(harness.proposal("r1"))
    assert isinstance(first, Committed)
    nothing_newer = NothingNewer(harness.keys.meta("r"), harness.keys.meta("s"), first.revision)
    assert isinstance(
        await harness.writer.append(harness.proposal("other", nothing_newer)), Committed
    )

    await harness.writer.append(harness.proposal("r2"))

    assert isinstance(await harness.writer.append(harness.proposal("another", nothing_newer)), Lost)


@pytest.mark.parametrize("fault", Fault)
async def test_an_append_reports_the_true_outcome_of_a_failed_commit(
    harness: WriterHarness, fault: Fault
) -> None:
    harness.store.fail_next_commits(fault)
    is_written = fault is Fault.ANSWER_LOST

    if is_written:
        assert isinstance(await harness.writer.append(harness.proposal("a")), Committed)
    else:
        with pytest.raises(StoreUnavailable):
            await harness.writer.append(harness.proposal("a"))

    assert len(await event_ids(harness)) == is_written
    assert isinstance(await harness.writer.append(harness.proposal("b")), Committed)


@pytest.mark.parametrize(
    "faults",
    [
        [Fault.ANSWER_LOST, Fault.ANSWER_LOST],
        [Fault.REQUEST_LOST, Fault.ANSWER_LOST],
        [Fault.ANSWER_LOST, Fault.REQUEST_LOST, Fault.REFUSED, Fault.ANSWER_LOST],
        [Fault.REQUEST_LOST, Fault.ANSWER_LOST, Fault.ANSWER_LOST],
    ],
)
async def test_faults_during_the_read_back_do_not_change_the_outcome(
    harness: WriterHarness, faults: list[Fault]
) -> None:
    # The first fault hits the append. The later faults hit the commits that read the outcome.
    harness.store.fail_next_commits(*faults)
    is_applied = faults[0] is Fault.ANSWER_LOST

    result = await asyncio.gather(
        harness.writer.append(harness.proposal("a")), return_exceptions=True
    )

    assert isinstance(result[0], Committed if is_applied else StoreUnavailable)
    assert len(await event_ids(harness)) == is_applied
    assert isinstance(await harness.writer.append(harness.proposal("b")), Committed)
    assert len(await event_ids(harness)) == 1 + is_applied


@pytest.mark.parametrize("fault", [Fault.ANSWER_LOST, Fault.REQUEST_LOST])
async def test_an_unknown_outcome_is_read_before_the_next_append(
    harness: WriterHarness, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.eventstore.retry_policies.SETTLE_S_MAX", 0.01)
    harness.store.fail_next_commits(fault, *[Fault.REFUSED] * 100)

    with pytest.raises(OutcomeUnknown):
        await harness.writer.append(harness.proposal("a"))
    harness.store.heal()

    assert isinstance(await harness.writer.append(harness.proposal("b")), Committed)
    assert len(await event_ids(harness)) == 1 + (fault is Fault.ANSWER_LOST)


async def test_an_append_writes_nothing_while_an_earlier_outcome_is_unknown(
    harness: WriterHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.eventstore.retry_policies.SETTLE_S_MAX", 0.01)
    harness.store.fail_next_commits(*[Fault.REQUEST_LOST] * 100)

    with pytest.raises(OutcomeUnknown):
        await harness.writer.append(harness.proposal("a"))
    with pytest.raises(
        StoreUnavailable, match=r"previous transaction of writer .* is not known yet"
    ):
        await harness.writer.append(harness.proposal("b"))
    harness.store.heal()

    assert isinstance(await harness.writer.append(harness.proposal("c")), Committed)
    assert len(await event_ids(harness)) == 1


async def test_an_outcome_stays_unknown_when_reading_it_back_is_refused(
    harness: WriterHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = harness.store.commit

    async def refuse_third_commit(
        guards: Sequence[Guard], writes: Sequence[Write], otherwise: Sequence[Get] = ()
    ) -> TxnResult:
        # Commit 1 opens the writer. Commit 2 has the proposals. Commit 3 reads the outcome back.
        if harness.store.commits == 2:
            harness.store.commits += 1
            raise StoreRejected("the role was taken away")
        return await commit(guards, writes, otherwise)

    monkeypatch.setattr(harness.store, "commit", refuse_third_commit)
    harness.store.fail_next_commits(Fault.ANSWER_LOST)

    appends = (harness.writer.append(harness.proposal(name)) for name in ("a", "b"))
    results = await asyncio.gather(*appends, return_exceptions=True)

    assert [type(result) for result in results] == [OutcomeUnknown, OutcomeUnknown]
    assert isinstance(await harness.writer.append(harness.proposal("c")), Committed)
    assert len(await event_ids(harness)) == 3


async def test_a_second_process_with_the_same_name_fences_the_first(harness: WriterHarness) -> None:
    second = harness.new_writer("writer-a")
    await second.open()

    with pytest.raises(WriterFenced):
        await harness.writer.append(harness.proposal("a"))
    with pytest.raises(WriterFenced):
        await harness.writer.append(harness.proposal("b"))

    assert isinstance(await second.append(harness.proposal("c", writer=second)), Committed)
    assert len(await event_ids(harness)) == 1


async def test_fencing_does_not_change_the_outcome_of_a_committed_append(
    harness: WriterHarness,
) -> None:
    harness.store.fail_next_commits(Fault.ANSWER_LOST, Fault.REFUSED)
    append = asyncio.ensure_future(harness.writer.append(harness.proposal("a")))
    while harness.store.commits < 2:  # ``open`` made the first commit
        await asyncio.sleep(0)
    second = harness.new_writer("writer-a")
    await second.open()

    assert isinstance(await append, Committed)
    with pytest.raises(WriterFenced):
        await harness.writer.append(harness.proposal("b"))


async def test_cancelling_an_append_leaves_no_gap_in_the_log(harness: WriterHarness) -> None:
    first = asyncio.ensure_future(harness.writer.append(harness.proposal("a")))
    second = asyncio.ensure_future(harness.writer.append(harness.proposal("b")))
    await asyncio.sleep(0)
    second.cancel()

    await first
    await asyncio.gather(second, return_exceptions=True)
    await harness.writer.append(harness.proposal("c"))

    assert len(await event_ids(harness)) in (2, 3)  # b may have joined before it was cancelled
    segments, _ = await LogReader(harness.memory, harness.keys).catch_up(LOG_START)
    assert [segment.seq for segment in segments] == list(range(1, len(segments) + 1))


async def test_appending_to_a_full_queue_raises_overloaded(harness: WriterHarness) -> None:
    calls = [
        harness.writer.append(harness.proposal(f"k{number}")) for number in range(QUEUE_DEPTH_MAX)
    ]

    with pytest.raises(Overloaded, match=f"is full: {QUEUE_DEPTH_MAX} proposals") as refused:
        harness.writer.append(harness.proposal("one-more"))

    assert refused.value.subject == "writer queue"
    await asyncio.gather(*calls)


async def test_a_writer_that_is_not_open_appends_nothing(harness: WriterHarness) -> None:
    with pytest.raises(NotReady):
        await harness.new_writer("writer-b").append(harness.proposal("a"))


async def test_large_proposals_are_committed_in_several_transactions(
    harness: WriterHarness,
) -> None:
    proposals = [harness.proposal(f"big{number}", size=200_000) for number in range(12)]

    outcomes = await asyncio.gather(*(harness.writer.append(proposal) for proposal in proposals))

    assert all(isinstance(outcome, Committed) for outcome in outcomes)


async def test_an_unchanged_guard_of_revision_zero_means_absent(harness: WriterHarness) -> None:
    key = harness.keys.meta("new")

    assert isinstance(
        await harness.writer.append(harness.proposal("new", Unchanged(key, 0))), Committed
    )
    assert isinstance(await harness.writer.append(harness.proposal("new", Unchanged(key, 0))), Lost)
