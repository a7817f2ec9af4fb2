"""The shared objects of reclaim, and the interface of its source of Pod state.

The source is an informer, or records in standalone mode (``workflows.jobs.record_lookup``).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection
from typing import Final, NamedTuple, Protocol

from core.domain.evolution import Ledger
from core.domain.reclaim.evidence import ClusterLookup, Moment, Observer, PodState
from core.domain.reclaim.settings import ReclaimSettings
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from workflows.jobs.shard_writers import Releases

NAME_BYTES: Final = 8
"""Random bytes of an observer's name: a restarted process is another observer."""


def observer_of(
    now_s: Callable[[], float] = time.time, steady_s: Callable[[], float] = time.monotonic
) -> Observer:
    """An observer for this process."""
    return Observer(secrets.token_hex(NAME_BYTES), now_s, steady_s)


class PodChange(NamedTuple):
    """A change of a Pod or its Node, or the deletion of the Pod.

    ``deletion_report``: an authoritative report that the Pod was deleted, or "". With a report,
    ``pod`` is the last state of the Pod. ``trigger`` and ``traceparent``: the log event behind the
    change and the trace of this event, or "".
    """

    pod: PodState
    deletion_report: str = ""
    trigger: str = ""
    traceparent: str = ""


class ScanRequest(NamedTuple):
    """Requests a scan, because claims may have leaked without a change of a Pod."""

    why: str


Change = PodChange | ScanRequest


class ReclaimFactsSource(Protocol):
    """Source of Pod and Node state for reclaiming."""

    async def facts(self, ledger: Ledger, claims_read: Moment) -> ClusterLookup:
        """Read the cluster state. ``claims_read``: the earlier time at which the ledger was read.

        The cost depends on the ledger, not on the cluster.
        """
        ...

    async def deleted_nodes(self, nodes: Collection[str]) -> frozenset[str]:
        """Those of ``nodes`` that certainly do not exist."""
        ...

    def changes(self) -> AsyncIterator[Change]:
        """Yield changes from now on. Raises retryable errors.

        A change of a Node's readiness yields a PodChange for each Pod of the Node. A Pod that is
        only missing from a list yields nothing. Changes of running Pods may be omitted.
        """
        ...


class ReclaimContext(NamedTuple):
    """The shared objects of reclaim in one process."""

    store: KeyValueStore
    keys: Keys
    facts: ReclaimFactsSource
    settings: ReclaimSettings
    observer: Observer
    releases: Releases
