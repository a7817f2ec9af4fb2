"""The source of Pod and Node state, the clocks and the releases of reclaim.

``ReclaimFactsSource.facts`` returns the state at one moment, ``changes`` yields changes as they
happen. Both come from an informer, or without Kubernetes from records
(``workflows.jobs.records``).

Releases are made by the writer of the current execution, and counted. Several controllers reclaim
at once; the fence of each release keeps them from ending a claim twice (I3). Addresses that a
network provider has bound are handed over to be unbound.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection
from typing import Final, NamedTuple, Protocol

from core.allocation.cooldown import COOL_DOWN_S, CoolDown
from core.allocation.guid_registry import GuidRegistry
from core.allocation.handover import Handover
from core.allocation.releaser import Released, Releaser
from core.domain.evolution import Ledger
from core.domain.reclaim.cluster import ClusterLookup, PodState
from core.domain.reclaim.evidence import Moment
from core.domain.reclaim.reclaim_plan import ReclaimStep
from core.domain.reclaim.settings import ReclaimSettings
from core.errors import OrbweaverError
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from workflows.jobs.writers import ShardWriters

NAME_BYTES: Final = 8
"""Random bytes of the name: a process that was restarted is another observer."""


class Observer:
    """The observer of reclaim observations: a process with a wall clock and a monotonic clock.

    The time between two observations is measured by the monotonic clock of one observer, so that
    neither a clock that is set nor another machine's clock can shorten it. ``now_s`` returns Unix
    seconds, ``steady_s`` monotonic seconds.
    """

    def __init__(
        self,
        now_s: Callable[[], float] = time.time,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = secrets.token_hex(NAME_BYTES)
        self.now_s = now_s
        self._steady_s = steady_s

    def moment(self) -> Moment:
        """The current time by both clocks."""
        return Moment(self.now_s(), self.name, self._steady_s())


class PodChange(NamedTuple):
    """A Pod or its Node was created or changed, or the Pod was deleted.

    ``deletion_report``: the text of an authoritative report that the Pod was deleted, such as a
    delete event, and "" without one; ``pod`` is then its last state.
    ``trigger`` and ``traceparent``: the event behind it and its trace, where there are any.
    """

    pod: PodState
    deletion_report: str = ""
    trigger: str = ""
    traceparent: str = ""


class ScanRequest(NamedTuple):
    """Requests a full scan, because addresses may be free without any Pod event."""

    why: str


Change = PodChange | ScanRequest


class ReclaimFactsSource(Protocol):
    """Source of Pod and Node state for reclaiming."""

    async def facts(self, ledger: Ledger, claims_read: Moment) -> ClusterLookup:
        """Cluster state, read after the ledger, which was read at ``claims_read``.

        The ledger may have only one endpoint. The cost depends on the size of the ledger, not of
        the cluster.
        """
        ...

    async def deleted_nodes(self, nodes: Collection[str]) -> frozenset[str]:
        """Those of these Nodes that certainly do not exist now; none where that is unknown."""
        ...

    def changes(self) -> AsyncIterator[Change]:
        """Yield changes from now on; a new call starts again. Raises retryable errors.

        A Node readiness change yields one PodChange per Pod on it. ``deletion_report`` is set only
        by an authoritative delete event; a Pod merely missing from a relist yields nothing: only a
        scan may find it (I6). Changes of Pods that keep running free nothing and may be omitted.
        """
        ...


class Releases:
    """Makes the releases of reclaim, and counts them since the start of the process.

    ``released``: addresses; ``failed``: releases; ``lost``: lost races.
    """

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        writers: ShardWriters,
        handover: Handover | None = None,
        *,
        cool_down_s: int = COOL_DOWN_S,
    ) -> None:
        self._store = store
        self._keys = keys
        self._writers = writers
        self._handover = handover
        self._cooldown = CoolDown(store, cool_down_s)
        self.released = 0
        self.failed = 0
        self.lost = 0

    async def make(self, step: ReclaimStep) -> Released:
        """Make a release for the current activity. Raises as ``Releaser``, and WriterFenced."""
        provider = None if self._handover is None else self._handover.hand_over
        try:
            async with self._writers.current_writer() as (writer, cause):
                releaser = Releaser(self._store, self._keys, writer, self._cooldown, provider)
                try:
                    done = await releaser.reclaim(step, cause)
                finally:
                    self.lost += releaser.lost_races
        except OrbweaverError:
            self.failed += 1
            raise
        self.released += len(done.addresses)
        return done

    async def release_guids(self, node: str) -> int:
        """Release all GUIDs of a deleted node. Returns their number. Raises as ``make``."""
        async with self._writers.current_writer() as (writer, cause):
            registry = GuidRegistry(self._store, self._keys, writer, node, cause)
            guids = await registry.held()
            await registry.release([(guid, "node-deleted") for guid in guids])
        return len(guids)


class ReclaimContext(NamedTuple):
    """The objects that all parts of reclaim in one process use."""

    store: KeyValueStore
    keys: Keys
    facts: ReclaimFactsSource
    settings: ReclaimSettings
    observer: Observer
    releases: Releases
