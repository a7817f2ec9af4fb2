"""The reserve: one large key, deleted to free the space that archiving a full etcd needs.

A full etcd rejects every put, and archiving puts its cursor. Deleting the reserve, compacting and
defragmenting frees the space for it. A controller creates the reserve; ``core.archive.nospace``
deletes it.
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
    """Create the reserve if it does not exist.

    Raises StoreUnavailable, StoreFull, OutcomeUnknown (calling again is harmless).
    """
    key = keys.meta("reserve")
    if not (await store.read([Get(key, keys_only=True)])).ranges[0].kvs:
        await store.commit([Absent(key)], [Put(key, bytes(RESERVE_BYTES))])


async def delete_reserve(store: KeyValueStore, keys: Keys) -> int:
    """Delete the reserve, which a full etcd allows; returns the revision after it."""
    return (await store.commit([], [Delete(keys.meta("reserve"))])).revision
