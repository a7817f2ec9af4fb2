"""Refused ADDs are written to the log in the background, in batches of bounded size.

The recorder writes at most two events for equal refusals of a Pod within ``WINDOW_S``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from core.allocation.refusal_recorder import BATCH_EVENTS_MAX, QUEUE_EVENTS_MAX, RefusalRecorder
from core.domain.claims.refused_adds import WINDOW_S
from core.domain.events import AllocationRefused, Cause
from core.errors import AddressesUsedOut, StoreUnavailable
from core.eventstore.kv import Get, Guard, TxnResult, Write
from core.eventstore.log_reader import LOG_START, LogReader
from core.eventstore.memory_store import MemoryStore
from tests.support.deadlines import DEADLINE_S, until
from tests.support.node_harness import NodeHarness, addresses, check_everything, pod, pool

POOL_IS_FULL = AddressesUsedOut("full")


class ManualTime:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


async def refusals(node: NodeHarness) -> list[tuple[str, int]]:
    """Return Pod name and number of refusals of each AllocationRefused event."""
    events = (event.event for event in await node.log())
    return [(event.name, event.times) for event in events if isinstance(event, AllocationRefused)]


async def test_a_refused_add_is_an_event_that_changes_no_state(node: NodeHarness) -> None:
    await node.apply(pool("v4", "10.6.0.1"))
    added = await node.add(pod("web-0"))
    recorder = RefusalRecorder(node.writer)
    with pytest.raises(AddressesUsedOut) as refused:
        await node.add(pod("web-1"))

    recorder.note(
        pod("web-1"),
        "eth0",
        refused.value,
        Cause("agent", correlation_id="box", causation_id="", traceparent="trace"),
    )
    await recorder.write_due()

    last = (await node.log())[-1]
    assert isinstance(last.event, AllocationRefused)
    assert last.cause == Cause("agent", correlation_id="box", causation_id="", traceparent="trace")
    assert last.event.source == "default-pools"
    (verdict,) = last.event.verdicts
    assert (verdict.pool, verdict.accepted, verdict.rule) == ("v4", False, "free-address")
    assert set((await check_everything(node)).claims) == addresses(added)


async def test_repeated_refusals_become_one_event_when_the_window_ends(
    node: NodeHarness,
) -> None:
    clock = ManualTime()
    recorder = RefusalRecorder(node.writer, clock)
    for _ in range(4):
        recorder.note(pod("web-1"), "eth0", POOL_IS_FULL, Cause("agent"))
        await recorder.write_due()
    assert await refusals(node) == [("web-1", 1)]

    clock.now_s = WINDOW_S
    await recorder.write_due()

    assert await refusals(node) == [("web-1", 1), ("web-1", 3)]


async def test_many_refusals_share_segments(node: NodeHarness) -> None:
    recorder = RefusalRecorder(node.writer)
    before = node.writer.transactions
    for number in range(2 * BATCH_EVENTS_MAX):
        recorder.note(pod(f"web-{number}"), "eth0", POOL_IS_FULL, Cause("agent"))

    await recorder.write_due()

    assert len(await refusals(node)) == 2 * BATCH_EVENTS_MAX
    assert node.writer.transactions == before + 2


async def test_run_writes_the_first_refusal_and_close_writes_the_second(
    node: NodeHarness,
) -> None:
    reader = LogReader(node.store, node.keys)
    _, cursor = await reader.catch_up(LOG_START)
    recorder = RefusalRecorder(node.writer)
    running = asyncio.ensure_future(recorder.run())
    recorder.note(pod("web-1"), "eth0", POOL_IS_FULL, Cause("agent"))
    async with asyncio.timeout(DEADLINE_S):
        async for segments, _ in reader.follow(cursor):
            if segments:
                break
    # The second refusal is not written before the window ends.
    recorder.note(pod("web-1"), "eth0", POOL_IS_FULL, Cause("agent"))
    running.cancel()
    await asyncio.wait({running})

    await recorder.close()

    assert await refusals(node) == [("web-1", 1), ("web-1", 1)]


class UnavailableStore(MemoryStore):
    """A store whose transactions fail while ``is_unavailable`` is set."""

    is_unavailable = False

    async def commit(
        self, guards: Sequence[Guard], writes: Sequence[Write], otherwise: Sequence[Get] = ()
    ) -> TxnResult:
        if self.is_unavailable:
            raise StoreUnavailable("simulated outage")
        return await super().commit(guards, writes, otherwise)


async def test_events_are_dropped_and_counted_if_the_store_is_unavailable() -> None:
    store, clock = UnavailableStore(), ManualTime()
    async with NodeHarness(store) as node:
        recorder = RefusalRecorder(node.writer, clock)
        store.is_unavailable = True
        recorder.note(pod("web-1"), "eth0", POOL_IS_FULL, Cause("agent"))
        await recorder.write_due()
        store.is_unavailable = False
        recorder.note(pod("web-2"), "eth0", POOL_IS_FULL, Cause("agent"))
        await recorder.write_due()

        assert await refusals(node) == [("web-2", 1)]
        assert recorder.dropped == 1


class PausedStore(MemoryStore):
    """A store whose transactions wait until ``continues`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.continues = asyncio.Event()
        self.continues.set()
        self.paused_commits = 0

    async def commit(
        self, guards: Sequence[Guard], writes: Sequence[Write], otherwise: Sequence[Get] = ()
    ) -> TxnResult:
        self.paused_commits += not self.continues.is_set()
        await self.continues.wait()
        return await super().commit(guards, writes, otherwise)


async def test_an_event_is_counted_as_dropped_if_its_write_is_cancelled() -> None:
    store = PausedStore()
    async with NodeHarness(store) as node:
        store.continues.clear()
        recorder = RefusalRecorder(node.writer)
        recorder.note(pod("web-1"), "eth0", POOL_IS_FULL, Cause("agent"))
        running = asyncio.ensure_future(recorder.run())
        await until(lambda: store.paused_commits)

        running.cancel()
        await asyncio.wait({running})
        store.continues.set()

        assert recorder.dropped == 1


async def test_events_are_dropped_and_counted_if_the_queue_is_full(
    memory_store: MemoryStore,
) -> None:
    async with NodeHarness(memory_store) as node:
        recorder = RefusalRecorder(node.writer)
        for number in range(QUEUE_EVENTS_MAX + 3):
            recorder.note(pod(f"web-{number}"), "eth0", POOL_IS_FULL, Cause("agent"))
        await recorder.write_due()

        assert len(await refusals(node)) == QUEUE_EVENTS_MAX
        assert recorder.dropped == 3
