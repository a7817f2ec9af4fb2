"""The reserve: one key whose only purpose is its size, so that a full etcd can be archived.

A full etcd refuses every put, and archiving puts its cursor. Deleting the reserve, compacting and
defragmenting gives that room. A controller makes the reserve; ``core.archive.nospace`` deletes it.
"""

from __future__ import annotations

from typing import Final

from core.eventstore.keys import Keys
from core.eventstore.kinds import KeyKind
from core.eventstore.kv import Absent, Delete, Get, KeyValueStore, Put

RESERVE_BYTES: Final = 1 << 20
"""Value of the key: the archive cursor of 5,000 nodes takes 0.2 MB; etcd accepts requests of
1.5 MiB."""

RESERVES: Final[KeyKind[bytes]] = KeyKind(
    *("reserve", "meta/reserve", bytes, ("orbctl",)),
    "nothing: its value is never read",
)


async def make_reserve(store: KeyValueStore, keys: Keys) -> None:
    """Make the reserve where there is none.

    Raises StoreUnavailable, StoreFull, OutcomeUnknown (calling again is harmless).
    """
    key = keys.meta("reserve")
    if not (await store.read([Get(key, keys_only=True)])).ranges[0].kvs:
        await store.commit([Absent(key)], [Put(key, bytes(RESERVE_BYTES))])


async def delete_reserve(store: KeyValueStore, keys: Keys) -> int:
    """Delete the reserve, which a full etcd allows; returns the revision after it."""
    return (await store.commit([], [Delete(keys.meta("reserve"))])).revision
