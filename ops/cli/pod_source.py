"""Who tells ``orbctl gc`` of Pods: records and the operator, or a cluster's API server.

In a cluster nobody's word is needed that a Pod is gone: the API server is asked, as the controllers
ask it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

from core.domain.evolution import Ledger
from core.domain.reclaim.cluster import ClusterFacts
from core.domain.reclaim.evidence import Moment
from core.domain.reclaim.settings import ReclaimSettings
from core.domain.reclaim.standalone import DeletionNotice
from core.errors import BadInput
from ops.cli.session import ClusterSession
from ops.kubernetes.settings import KubernetesSettings
from ops.kubernetes.watches.cluster_watch import watch_of
from workflows.jobs.reclaim.records import StandalonePodFacts

Ask = Callable[["Ledger", "Moment"], Awaitable["ClusterFacts"]]


@asynccontextmanager
async def witness(
    session: ClusterSession, kubeconfig: str | None, word: DeletionNotice, settings: ReclaimSettings
) -> AsyncIterator[Ask]:
    """Whom to ask; ``kubeconfig`` None: no cluster, "": this Pod's. Raises BadInput, NotReady."""
    if kubeconfig is None:
        yield partial(StandalonePodFacts(session.store, session.keys).facts, word=word)
        return
    if word.pods or word.nodes:
        raise BadInput(
            "in a cluster the API server says which Pods are gone",
            subject="gone",
            remedy="delete the Pods there, or leave --kubeconfig out",
        )

    watch = await watch_of(KubernetesSettings(kubeconfig), settings)
    assert watch is not None, "a cluster was named"
    watching = asyncio.ensure_future(watch.run())
    try:
        await watch.facts.listed()
        yield watch.facts.facts
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await watch.close()
