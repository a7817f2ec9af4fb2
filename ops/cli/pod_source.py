"""Where ``orbctl gc`` learns which Pods exist: records and options, or a cluster's API server.

In a cluster no option says that a Pod is gone: orbctl asks the API server, as controllers do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from core.domain.evolution import Ledger
from core.domain.reclaim.cluster import ClusterFacts, DeletionNotice
from core.domain.reclaim.evidence import Moment
from core.domain.reclaim.settings import ReclaimSettings
from core.errors import BadInput
from ops.kubernetes.settings import KubernetesSettings
from ops.kubernetes.watches.cluster_watch import watch_of
from workflows.jobs.reclaim.records import StandalonePodFacts

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession

Ask = Callable[["Ledger", "Moment"], Awaitable["ClusterFacts"]]


@asynccontextmanager
async def pod_source(
    session: ClusterSession, kubeconfig: str | None, word: DeletionNotice, settings: ReclaimSettings
) -> AsyncIterator[Ask]:
    """The source of facts about Pods; ``kubeconfig`` None: records, "": this Pod's cluster.

    Raises BadInput, NotReady.
    """
    if kubeconfig is None:
        yield partial(StandalonePodFacts(session.store, session.keys).facts, notice=word)
        return
    if word.pods or word.nodes:
        raise BadInput(
            "--gone and --gone-node cannot be used with --kubeconfig",
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
