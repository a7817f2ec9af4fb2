"""The objects that all parts of reclaim in one process use, such as the source of Pod state.

``ReclaimFactsSource.facts`` returns the state at one instant, ``changes`` yields changes as they
happen. Both come from an informer, or without Kubernetes from records
(``workflows.jobs.record_lookup``).
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
    """An observer of this process, by its clocks."""
    return Observer(secrets.token_hex(NAME_BYTES), now_s, steady_s)


class PodChange(NamedTuple):
    """A Pod or its Node was created or changed, or the Pod was deleted.

    ``deletion_report``: the text of an authoritative report that the Pod was deleted, such as a
    delete event, and "" without one; ``pod`` is then its last state.
    ``trigger`` and ``traceparent``: the log event behind the change and its trace, "" without one.
    """

    pod: PodState
    deletion_report: str = ""
    trigger: str = ""
    traceparent: str = ""


class ScanRequest(NamedTuple):
    """Requests a scan of all claims, because addresses may be free without a change of a Pod."""

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
        """Those of the Nodes that certainly do not exist; a Node is left out if that is unknown."""
        ...

    def changes(self) -> AsyncIterator[Change]:
        """Yield changes from now on; a new call starts again. Raises retryable errors.

        A Node readiness change yields one PodChange per Pod on it. ``deletion_report`` is set only
        by an authoritative delete event; a Pod merely missing from a relist yields nothing: only a
        scan may find it. Changes of Pods that keep running free nothing and may be omitted.
        """
        ...


class ReclaimContext(NamedTuple):
    """The objects that all parts of reclaim in one process use.

    ``releases``: makes the releases, and counts them.
    """

    store: KeyValueStore
    keys: Keys
    facts: ReclaimFactsSource
    settings: ReclaimSettings
    observer: Observer
    releases: Releases
