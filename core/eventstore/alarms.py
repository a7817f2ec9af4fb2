"""The alarms of etcd as errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from core.errors import StoreError, StoreFull, StoreUnavailable

NOSPACE: Final = "NOSPACE"
FULL_REMEDY: Final = (
    "run `orbctl archive`, which frees space and moves old events to the archive"
    " (docs/how-to/recover-a-full-etcd.md)"
)


def full(subject: str = "etcd") -> StoreFull:
    """The error of a request that wrote nothing because the database of etcd is full."""
    text = f"etcd's database is full (alarm {NOSPACE}) and rejects every write"
    return StoreFull(text, subject=subject, remedy=FULL_REMEDY)


def alarmed(alarms: Sequence[str]) -> StoreError:
    """The error for the active alarms."""
    if NOSPACE in alarms:
        return full()
    return StoreUnavailable(
        f"etcd has raised the alarm {', '.join(alarms)}",
        subject="etcd",
        remedy="replace the member that `etcdctl alarm list` names, then disarm the alarm",
    )
