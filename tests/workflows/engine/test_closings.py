"""Waiting for executions to close, whatever happens to the watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from core.errors import Compacted
from core.store.keys import Keys
from core.store.kv import Get, IsWhole, Put, ReadResult, WatchBatch
from core.store.memory import MemoryStore
from tests.workflows.engine.stage import within
from workflows.engine.closings import Closings
from workflows.engine.keys import WorkflowKeys
from workflows.engine.records import HEAD, Head
from workflows.model.policies import Status

KEYS = WorkflowKeys(Keys("test"))
RUN = "0" * 32
ENDED = Head("one", RUN, "Basket", Status.COMPLETED)


class ForgetfulStore(MemoryStore):
    """Its first watch has fallen behind, and the run ends right after all was read anew."""

    def __init__(self) -> None:
        super().__init__()
        self._is_behind = True
        self._is_waited_for = asyncio.Event()

    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        found = await super().read(gets, revision=revision)
        if gets == [Get(*KEYS.room("closed"))]:
            await self.commit([], [Put(KEYS.closed("one", RUN), HEAD.encode(ENDED))])
        elif Get(KEYS.closed("one", RUN)) in gets:
            self._is_waited_for.set()
        return found

    async def watch(
        self,
        ranges: Sequence[tuple[bytes, bytes]],
        *,
        after: int,
        is_whole: IsWhole | None = None,
    ) -> AsyncIterator[WatchBatch]:
        if self._is_behind:
            await self._is_waited_for.wait()
            self._is_behind = False
            raise Compacted(after)
        async for batch in super().watch(ranges, after=after, is_whole=is_whole):
            yield batch


async def test_a_run_that_ends_while_the_watch_begins_anew_is_heard_of() -> None:
    store = ForgetfulStore()
    closings = Closings(store, KEYS)

    assert await within(closings.of("one", RUN)) == ENDED
    closings.close()
    await store.close()
