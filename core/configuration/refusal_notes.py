"""Notes about pools that exist in Kubernetes, but that the rules refuse.

Agents read only etcd, where a refused pool does not exist; they take the reason from the note.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.errors import AllocationError, LogCorrupt
from core.eventstore.codec import KeyKind, StateCodec
from core.eventstore.keys import Keys
from core.eventstore.kv import Delete, Get, KeyValueStore, Put

KEY_PREFIX: Final = "refused"
TEXT_CHARS_MAX: Final = 1_000


class RefusedPool(NamedTuple):
    """A refused pool. ``why``: the refusals as text."""

    name: str
    why: str


REFUSED_POOL_CODEC: Final = StateCodec(RefusedPool)
REFUSED_POOL_KEYS: Final[KeyKind[RefusedPool]] = KeyKind(
    name="refused pool",
    prefix=KEY_PREFIX,
    decode=REFUSED_POOL_CODEC.decode,
    readers=("agent", "controller"),
    remedy="delete the key; then an ADD reports that the pool does not exist",
    key_of=lambda keys, pool: keys.refused(pool.name),
)


class RefusalNotes:
    """The notes of one cluster; every method raises StoreError."""

    def __init__(self, store: KeyValueStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys

    async def add(self, name: str, why: str) -> None:
        """Write a note."""
        value = REFUSED_POOL_CODEC.encode(RefusedPool(name, why[:TEXT_CHARS_MAX]))
        await self._store.commit([], [Put(self._keys.refused(name), value)])

    async def remove(self, name: str) -> None:
        """Delete the note."""
        await self._store.commit([], [Delete(self._keys.refused(name))])

    async def names(self) -> set[str]:
        """The pools that have a note, even an undecodable note."""
        result = await self._store.read([Get(*self._keys.range_of(KEY_PREFIX), keys_only=True)])
        return {kv.key.rpartition(b"/")[2].decode(errors="replace") for kv in result.ranges[0].kvs}

    async def with_reason(self, error: AllocationError, name: str) -> AllocationError:
        """The error about a missing pool, with the reason if the pool was refused."""
        kv = (await self._store.read([Get(self._keys.refused(name))])).ranges[0].first
        if kv is None:
            return error
        try:
            why = REFUSED_POOL_KEYS.decode(self._keys, kv.key, kv.value).why
        except LogCorrupt:
            return error
        return error.with_message(
            error.message.replace(
                f'SpiderIPPool "{name}" not found', f'SpiderIPPool "{name}" was refused: {why}'
            ),
            remedy=f"correct SpiderIPPool {name}; its condition Ready has the same reason",
        )
