"""The store that a contract test uses, and functions that read a watch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from core.eventstore.kv import KeyChange, KeyValueStore, WatchBatch
from core.eventstore.memory_store import MemoryStore

DEADLINE_S = 60.0


class SettableClock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class Subject(NamedTuple):
    """A store under test, the prefix of the test's keys, and the clock of a memory store."""

    store: KeyValueStore
    prefix: bytes
    clock: SettableClock | None = None

    def key(self, name: str | bytes) -> bytes:
        return self.prefix + (name.encode() if isinstance(name, str) else name)

    @property
    def whole_range(self) -> tuple[bytes, bytes]:
        """The range of all keys of this test."""
        return self.prefix, self.prefix[:-1] + bytes([self.prefix[-1] + 1])

    def range(self, start: str, end: str) -> tuple[bytes, bytes]:
        return self.key(start), self.key(end)

    def let_leases_end(self, seconds: float) -> None:
        """Advance the clock of a memory store. In etcd, real time ends the leases."""
        if self.clock is not None:
            assert isinstance(self.store, MemoryStore)
            self.clock.now_s += seconds
            self.store.expire()


async def watched_batches(
    store: KeyValueStore, ranges: Sequence[tuple[bytes, bytes]], *, after: int, upto: int
) -> list[WatchBatch]:
    batches = []
    async with asyncio.timeout(DEADLINE_S):
        async for batch in store.watch(ranges, after=after):
            batches.append(batch)
            if batch.revision >= upto:
                break
    return batches


async def watched_changes(
    store: KeyValueStore, ranges: Sequence[tuple[bytes, bytes]], *, after: int, upto: int
) -> list[KeyChange]:
    batches = await watched_batches(store, ranges, after=after, upto=upto)
    return [change for batch in batches for change in batch.changes]
