"""Writes a log fast: segments with their state keys, in transactions without guards.

The keys and values are those of the product's writers. No other process may write at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.domain.events import AddressesClaimed, Cause, Event, PoolDefined
from core.domain.evolution import claims_made
from core.domain.model import Pool
from core.eventstore.codec import (
    CLAIM_CODEC,
    ENDPOINT_CODEC,
    HEAD_CODEC,
    POOL_CODEC,
    EventDraft,
    WriterHead,
    encode_segment,
)
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore, Put

START_MS = 1_700_000_000_000

CLAIMS_PER_COMMIT = 63
"""etcd accepts 128 operations: two for each claim, the segment, and the writer's head."""

POOLS_PER_COMMIT = 100


class SeedWriter:
    """Writes consecutive segments under one writer name."""

    def __init__(self, store: KeyValueStore, keys: Keys, name: str) -> None:
        self.name = name
        self._store = store
        self._keys = keys
        self._seq = 0
        self._events = 0

    def draft(self, event: Event) -> EventDraft:
        """A draft of the event, with a cause as long as that of a real ADD."""
        self._events += 1
        number = self._events
        trace = f"00-{number:032x}-{number:016x}-01"
        cause = Cause("agent/node", correlation_id=f"{number:x}", traceparent=trace)
        return EventDraft(f"{self.name}.1.{number:x}", cause, event)

    async def append(self, drafts: Sequence[EventDraft], state: Sequence[Put] = ()) -> int:
        """Write one segment and its state keys; return the revision."""
        self._seq += 1
        segment = encode_segment(START_MS + self._events, drafts)
        head = HEAD_CODEC.encode(WriterHead(self._seq, 1))
        writes = [
            Put(self._keys.log(self.name, self._seq), segment),
            Put(self._keys.head(self.name), head),
            *state,
        ]
        return (await self._store.commit([], writes)).revision

    async def define(self, pools: Sequence[Pool]) -> None:
        """Write pools and the guard keys that change with them."""
        for first in range(0, len(pools), POOLS_PER_COMMIT):
            batch = pools[first : first + POOLS_PER_COMMIT]
            state = [Put(self._keys.pool(pool.name), POOL_CODEC.encode(pool)) for pool in batch]
            guards = {self._keys.guard("pools", pool.family) for pool in batch}
            state += [Put(guard, b"") for guard in guards]
            await self.append([self.draft(PoolDefined(pool)) for pool in batch], state)

    async def claim(self, events: Sequence[AddressesClaimed]) -> int:
        """Write at most ``CLAIMS_PER_COMMIT`` claims; return the revision."""
        drafts, state = [], []
        for event in events:
            draft = self.draft(event)
            drafts.append(draft)
            endpoint = event.endpoint
            state.append(Put(self._keys.endpoint(*endpoint.key), ENDPOINT_CODEC.encode(endpoint)))
            for address, claim in claims_made(event, draft.event_id):
                state.append(Put(self._keys.ip_of(address), CLAIM_CODEC.encode(claim)))
        return await self.append(drafts, state)
