"""Where reclaiming gets its knowledge of Pods: one small interface.

Facts answer questions at one moment, changes are told as they happen. With Kubernetes both come
from what an informer has watched; without, from records (``workflows.jobs.reclaim.records``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol

from core.domain.evolution import Ledger
from core.domain.reclaim.cluster import ClusterFacts, PodState
from core.domain.reclaim.evidence import Moment


class PodChange(NamedTuple):
    """A Pod was created or changed, or its Node was; or the Pod is gone.

    ``deleted``: who has reported that its object is gone, in words; ``pod`` is then its last state.
    ``trigger`` and ``traceparent``: the event behind it and its trace, where there are any.
    """

    pod: PodState
    deleted: str = ""
    trigger: str = ""
    traceparent: str = ""


class ScanRequest(NamedTuple):
    """Something that no change of a Pod tells may have freed addresses: a scan finds out."""

    why: str


Change = PodChange | ScanRequest


class ReclaimFactsSource(Protocol):
    """Whoever knows the cluster."""

    async def facts(self, ledger: Ledger, claims_read: Moment) -> ClusterFacts:
        """What is so now, asked after the ledger was read at ``claims_read``.

        The ledger may be that of one endpoint alone; the answer costs what the ledger has, not
        what the cluster has.
        """
        ...

    def changes(self) -> AsyncIterator[Change]:
        """What happens from now on; a new call begins anew. Raises what a retry helps.

        A Node that becomes ready or not is told as a change of each Pod on it. ``deleted`` is the
        report of somebody who must know, as a delete event of the API is; a Pod that a new listing
        does not show any more is told by no change: only a scan may find it (I6). Changes that free
        nothing, those of Pods that live on, may be left out.
        """
        ...
