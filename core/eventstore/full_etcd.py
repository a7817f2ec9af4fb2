"""Errors for a full etcd, and a reserve of space for archiving.

The reserve is one large key, which a controller creates. The archive stores a cursor in etcd, but a
full etcd rejects every put. ``core.archive.nospace`` deletes the reserve, compacts and defragments
to free space for the cursor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from core.errors import StoreError, StoreFull, StoreUnavailable
from core.eventstore.codec import KeyKind
from core.eventstore.keys import Keys
from core.eventstore.kv import Absent, Delete, Get, KeyValueStore, Put

NOSPACE: Final = "NOSPACE"
FULL_REMEDY: Final = (
    "run `orbctl archive`, which frees space and moves old events to the archive"
    " (docs/how-to/recover-a-full-etcd.md)"
)


def store_full(subject: str = "etcd") -> StoreFull:
    """The error for a request that a full etcd rejected."""
    text = f"etcd's database is full (alarm {NOSPACE}) and rejects every write"
    return StoreFull(text, subject=subject, remedy=FULL_REMEDY)


def alarm_error(alarms: Sequence[str]) -> StoreError:
    """The error for active alarms."""
    if NOSPACE in alarms:
        return store_full()
    return StoreUnavailable(
        f"etcd has raised the alarm {', '.join(alarms)}",
        subject="etcd",
        remedy="replace the member that `etcdctl alarm list` names, then disarm the alarm",
    )


RESERVE_BYTES: Final = 1 << 20
"""Space for the archive's cursor: 0.2 MB for 5,000 nodes. A request has at most 1.5 MiB."""

RESERVE_KEYS: Final[KeyKind[bytes]] = KeyKind(
    name="reserve",
    prefix="meta/reserve",
    decode=bytes,
    readers=("orbctl",),  # `orbctl verify` decodes the value of every key
    remedy="leave the key: nothing depends on its value",
)


async def make_reserve(store: KeyValueStore, keys: Keys) -> None:
    """Create the reserve if it is missing. Raises StoreUnavailable, StoreFull, OutcomeUnknown."""
    key = keys.meta("reserve")
    if not (await store.read([Get(key, keys_only=True)])).ranges[0].kvs:
        await store.commit([Absent(key)], [Put(key, bytes(RESERVE_BYTES))])


async def delete_reserve(store: KeyValueStore, keys: Keys) -> int:
    """Delete the reserve, which a full etcd permits. Returns the revision."""
    return (await store.commit([], [Delete(keys.meta("reserve"))])).revision
