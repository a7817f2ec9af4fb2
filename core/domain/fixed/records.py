"""Facts about owners from records, without Kubernetes: StatefulSets only.

A StatefulSet may exist without a record, so that a missing record proves nothing (I6).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from core.domain.events import RecordDefined
from core.domain.evolution import RecordKey
from core.domain.fixed.kinds import STATEFUL_SET
from core.domain.fixed.owners import MissingOwner, StatefulSetState, VmiState, VmState

UNLISTED: Final = MissingOwner(certain=False, why="owners are unknown in standalone mode")


class RecordOwners:
    """``OwnerFacts`` from records."""

    __slots__ = ("_records",)

    def __init__(self, records: Mapping[RecordKey, RecordDefined]) -> None:
        self._records = records

    def stateful_set(self, namespace: str, name: str) -> StatefulSetState | MissingOwner:
        """As its record says."""
        record = self._records.get((STATEFUL_SET, namespace, name))
        if record is None:
            return UNLISTED
        return StatefulSetState(namespace, name, record.replicas, record.ordinals_start)

    def vmi(self, namespace: str, name: str) -> VmiState | MissingOwner:
        """Always unknown."""
        return UNLISTED

    def vm(self, namespace: str, name: str) -> VmState | MissingOwner:
        """Always unknown."""
        return UNLISTED
