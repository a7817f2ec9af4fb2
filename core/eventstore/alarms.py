"""Alarms of the store as errors, for whatever reports that it does not work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from core.errors import StoreError, StoreFull, StoreUnavailable

NOSPACE: Final = "NOSPACE"
FULL_REMEDY: Final = (
    "run `orbctl archive`, which makes room and moves old events to the archive"
    " (docs/how-to/recover-a-full-etcd.md)"
)


def full(subject: str = "etcd") -> StoreFull:
    """The error of a request that certainly wrote nothing because there is no room."""
    text = f"etcd's database is full (alarm {NOSPACE}): it refuses every write"
    return StoreFull(text, subject=subject, remedy=FULL_REMEDY)


def alarmed(alarms: Sequence[str]) -> StoreError:
    """What alarms that are on mean."""
    if NOSPACE in alarms:
        return full()
    return StoreUnavailable(
        f"etcd has raised the alarm {', '.join(alarms)}",
        subject="etcd",
        remedy="replace the member that `etcdctl alarm list` names, then disarm the alarm",
    )
