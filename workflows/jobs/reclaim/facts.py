"""Source of Pod and Node state for reclaiming: one small interface.

``facts`` returns the state at one moment, ``changes`` yields changes as they happen. Both come from
an informer, or without Kubernetes from records (``workflows.jobs.reclaim.records``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol

from core.domain.evolution import Ledger
from core.domain.reclaim.cluster import ClusterFacts, PodState
from core.domain.reclaim.evidence import Moment


class PodChange(NamedTuple):
    """A Pod was created or changed, or its Node was; or the Pod is gone.

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

    async def facts(self, ledger: Ledger, claims_read: Moment) -> ClusterFacts:
        """Cluster state, read after the ledger, which was read at ``claims_read``.

        The ledger may have one endpoint only. Cost is proportional to the ledger, not to the
        cluster.
        """
        ...

    def changes(self) -> AsyncIterator[Change]:
        """Yield changes from now on; a new call starts again. Raises retryable errors.

        A Node readiness change yields one PodChange per Pod on it. ``deletion_report`` is set only
        by an authoritative delete event; a Pod merely missing from a relist yields nothing: only a
        scan may find it (I6). Changes of Pods that keep running free nothing and may be omitted.
        """
        ...
