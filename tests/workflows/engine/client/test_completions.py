"""A wait ends when the run closes, even if the watch fails or lags."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from core.errors import Compacted
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, IsWhole, Put, ReadResult, WatchBatch
from core.eventstore.memory_store import MemoryStore
from tests.support.engine_harness import within
from workflows.engine.client.completions import Completions
from workflows.engine.store.keys import WorkflowKeys
from workflows.engine.store.records import HEAD_CODEC, RunHead
from workflows.model.policies import ExecutionStatus

KEYS = WorkflowKeys(Keys("test"))
RUN = "0" * 32
ENDED = RunHead("one", RUN, "Basket", ExecutionStatus.COMPLETED)


class CompactedStore(MemoryStore):
    """A store whose first watch raises Compacted instead of delivering the end of the run.

    The store closes the run right after a read of all closed runs.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_first_watch = True
        self._run_was_read = asyncio.Event()

    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        result = await super().read(gets, revision=revision)
        if gets == [Get(*KEYS.range_of("closed"))]:
            await self.commit([], [Put(KEYS.closed("one", RUN), HEAD_CODEC.encode(ENDED))])
        elif Get(KEYS.closed("one", RUN)) in gets:
            self._run_was_read.set()
        return result

    async def watch(
        self,
        ranges: Sequence[tuple[bytes, bytes]],
        *,
        after: int,
        is_whole: IsWhole | None = None,
    ) -> AsyncIterator[WatchBatch]:
        if self._is_first_watch:
            self._is_first_watch = False
            yield WatchBatch((await super().read([])).revision, ())
            await self._run_was_read.wait()
            raise Compacted(after)
        async for batch in super().watch(ranges, after=after, is_whole=is_whole):
            yield batch


async def test_a_wait_ends_if_the_run_closes_while_the_watch_restarts() -> None:
    store = CompactedStore()
    completions = Completions(store, KEYS)

    assert await within(completions.of("one", RUN)) == ENDED
    completions.close()
    await store.close()


class CountingStore(MemoryStore):
    """A store that counts reads; its watch waits while ``may_deliver`` is cleared."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.delivered_revision = 0
        self.may_deliver = asyncio.Event()
        self.may_deliver.set()

    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        self.reads += 1
        return await super().read(gets, revision=revision)

    async def watch(
        self,
        ranges: Sequence[tuple[bytes, bytes]],
        *,
        after: int,
        is_whole: IsWhole | None = None,
    ) -> AsyncIterator[WatchBatch]:
        async for batch in super().watch(ranges, after=after, is_whole=is_whole):
            await self.may_deliver.wait()
            self.delivered_revision = batch.revision
            yield batch


async def _write_closed_head(store: MemoryStore, run_id: str) -> RunHead:
    ended = ENDED._replace(run_id=run_id)
    await store.commit([], [Put(KEYS.closed("one", run_id), HEAD_CODEC.encode(ended))])
    return ended


async def _write_open_head(store: MemoryStore) -> int:
    """Return the revision of the write."""
    return (
        await store.commit([], [Put(KEYS.open("one"), HEAD_CODEC.encode(RunHead("one", RUN, "")))])
    ).revision


async def test_a_wait_needs_no_read_if_the_watch_has_not_reached_the_start_of_the_run() -> None:
    store = CountingStore()
    completions = Completions(store, KEYS)
    first = await _write_closed_head(store, "1" * 32)
    assert await within(completions.of("one", "1" * 32)) == first
    reads_before = store.reads
    store.may_deliver.clear()

    completion = asyncio.ensure_future(completions.of("one", RUN, await _write_open_head(store)))
    await asyncio.sleep(0)
    closed_head = await _write_closed_head(store, RUN)
    store.may_deliver.set()
    assert await within(completion) == closed_head
    assert store.reads == reads_before
    completions.close()
    await store.close()


async def test_a_wait_finds_a_closed_run_even_if_the_watch_lags() -> None:
    for is_delayed in (False, True):
        store = CountingStore()
        completions = Completions(store, KEYS)
        first = await _write_closed_head(store, "1" * 32)
        assert await within(completions.of("one", "1" * 32)) == first
        if is_delayed:
            store.may_deliver.clear()
        opened_at = await _write_open_head(store)
        closed_head = await _write_closed_head(store, RUN)
        while not is_delayed and store.delivered_revision <= opened_at:
            await asyncio.sleep(0)

        completion = asyncio.ensure_future(completions.of("one", RUN, opened_at))
        await asyncio.sleep(0)
        store.may_deliver.set()
        assert await within(completion) == closed_head
        completions.close()
        await store.close()


async def test_only_the_watch_task_remains_after_callers_time_out() -> None:
    store = CountingStore()
    store.may_deliver.clear()
    completions = Completions(store, KEYS)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(completions.of("one", RUN), 0.01)
    await asyncio.sleep(0)

    tasks = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
    assert len(tasks) == 1
    completions.close()
    await store.close()
