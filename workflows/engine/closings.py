"""Waiting for executions to close: one watch for all waiters of a client.

A waiter is registered before the store is read, so nothing is missed in between.
"""

from __future__ import annotations

import asyncio

from core.errors import Compacted
from core.store.kv import TXN_OPERATIONS_MAX, Get, KeyValueStore
from workflows.engine.keys import WorkflowKeys
from workflows.engine.records import HEAD, Head


class Closings:
    """Closed heads as they come, by run."""

    def __init__(self, store: KeyValueStore, keys: WorkflowKeys) -> None:
        self._store = store
        self._keys = keys
        self._waiting: dict[str, list[asyncio.Future[Head]]] = {}
        self._watching: asyncio.Task[None] | None = None
        self._since = asyncio.Event()
        self._asked: list[bytes] = []
        self._looking: asyncio.Task[None] | None = None

    async def of(self, workflow_id: str, run_id: str) -> Head:
        """The closed head of a run, once it is there. Raises StoreUnavailable."""
        future: asyncio.Future[Head] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(run_id, []).append(future)
        try:
            await self._watched()
            await self._look(self._keys.closed(workflow_id, run_id))
            return await future
        finally:
            waiting = self._waiting.get(run_id, [])
            if future in waiting:
                waiting.remove(future)
            if not waiting:
                self._waiting.pop(run_id, None)

    async def _look(self, key: bytes) -> None:
        """See whether it is closed already; those who ask at the same time share one read."""
        self._asked.append(key)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look_for_all())
        await asyncio.shield(self._looking)

    async def _look_for_all(self) -> None:
        while self._asked:
            await asyncio.sleep(0)
            asked, self._asked = (
                self._asked[:TXN_OPERATIONS_MAX],
                self._asked[TXN_OPERATIONS_MAX:],
            )
            result = await self._store.read([Get(key) for key in asked])
            for answer in result.ranges:
                for kv in answer.kvs:
                    self._see(kv.key, kv.value)

    def tell(self, head: Head) -> None:
        """A run is closed."""
        for future in self._waiting.pop(head.run_id, []):
            if not future.done():
                future.set_result(head)

    def close(self) -> None:
        """Stop watching; waiters wait in vain."""
        if self._watching is not None:
            self._watching.cancel()

    async def _watched(self) -> None:
        if self._watching is None or self._watching.done():
            self._since.clear()
            self._watching = asyncio.ensure_future(self._watch())
        since = asyncio.ensure_future(self._since.wait())
        await asyncio.wait({since, self._watching}, return_when=asyncio.FIRST_COMPLETED)
        since.cancel()
        if self._watching.done():
            self._watching.result()

    async def _watch(self) -> None:
        room = self._keys.room("closed")
        after = (await self._store.read([Get(*room, count_only=True)])).revision
        self._since.set()
        while True:
            try:
                async for batch in self._store.watch([room], after=after):
                    for change in batch.changes:
                        if change.value is not None and self._waiting:
                            self._see(change.key, change.value)
            except Compacted:
                after = await self._look_again()

    def _see(self, key: bytes, value: bytes) -> None:
        if self._keys.closed_name(key)[1] in self._waiting:
            self.tell(HEAD.decode(value))

    async def _look_again(self) -> int:
        """The watch fell too far behind: read all that is closed; as of which revision."""
        found = await self._store.read([Get(*self._keys.room("closed"))])
        for kv in found.ranges[0].kvs:
            self._see(kv.key, kv.value)
        return found.revision
