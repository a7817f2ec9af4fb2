"""A full etcd: its alarms as errors, and a reserve of space for archiving.

The reserve is one large key. A full etcd rejects every put, also that of the archive's cursor.
Deleting the reserve, compacting and defragmenting frees space for the cursor. A controller creates
the reserve; ``core.archive.nospace`` deletes it.
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
    """The error of a request that wrote nothing because the database of etcd is full."""
    text = f"etcd's database is full (alarm {NOSPACE}) and rejects every write"
    return StoreFull(text, subject=subject, remedy=FULL_REMEDY)


def alarm_error(alarms: Sequence[str]) -> StoreError:
    """The error for the active alarms."""
    if NOSPACE in alarms:
        return store_full()
    return StoreUnavailable(
        f"etcd has raised the alarm {', '.join(alarms)}",
        subject="etcd",
        remedy="replace the member that `etcdctl alarm list` names, then disarm the alarm",
    )


RESERVE_BYTES: Final = 1 << 20
"""Bytes of the reserve. The archive cursor of 5,000 nodes takes 0.2 MB; etcd accepts 1.5 MiB."""

RESERVE_KEYS: Final[KeyKind[bytes]] = KeyKind(
    name="reserve",
    prefix="meta/reserve",
    decode=bytes,
    readers=("orbctl",),  # `orbctl verify` decodes the value of every key
    remedy="leave the key: nothing depends on its value",
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
