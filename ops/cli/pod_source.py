"""Reads facts about Pods for ``orbctl gc``: from records and options, or from an API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from core.domain.evolution import Ledger
from core.domain.reclaim.evidence import ClusterLookup, DeletionNotice, Moment
from core.domain.reclaim.settings import ReclaimSettings
from core.errors import BadInput
from ops.kubernetes.settings import KubernetesSettings
from ops.kubernetes.watches.cluster_watch import watch_of
from workflows.jobs.record_lookup import StandaloneReclaimFactsSource

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession

ReadPodFacts = Callable[["Ledger", "Moment"], Awaitable["ClusterLookup"]]
"""Takes a ledger and the time when it was read; returns facts about the ledger's Pods."""


@asynccontextmanager
async def pod_source(
    session: ClusterSession,
    kubeconfig: str | None,
    notice: DeletionNotice,
    settings: ReclaimSettings,
) -> AsyncIterator[ReadPodFacts]:
    """Open the source of facts about Pods. Raises BadInput, NotReady.

    If ``kubeconfig`` is None, the source is stored records; if "", the cluster of this process.
    ``notice``: Pods and nodes that options declare deleted; allowed only with stored records.
    """
    if kubeconfig is None:
        yield partial(
            StandaloneReclaimFactsSource(session.store, session.keys).facts, notice=notice
        )
        return
    if notice.pods or notice.nodes:
        raise BadInput(
            "--gone and --gone-node cannot be used with --kubeconfig",
            subject="gone",
            remedy="delete the Pods in the cluster, or leave out --kubeconfig",
        )

    watch = await watch_of(KubernetesSettings(kubeconfig), settings)
    assert watch is not None, "the settings name a cluster"
    watch_task = asyncio.ensure_future(watch.run())
    try:
        await watch.facts.listed()
        yield watch.facts.facts
    finally:
        watch_task.cancel()
        await asyncio.gather(watch_task, return_exceptions=True)
        await watch.close()
