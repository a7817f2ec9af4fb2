"""The watches of a controller.

Every replica watches Pods, Nodes and owners, because each can run reclaim scans. Only the leader
watches applications.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from core.domain.fixed.fixed_address_owners import FixedAddressSwitches
from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from ops.kubernetes.settings import KubernetesSettings
from ops.kubernetes.watches.applications import KubernetesApplications
from ops.kubernetes.watches.collection import Collection
from ops.kubernetes.watches.facts import ApiServerFactsSource

_log: Final = logging.getLogger(__name__)


class WatchStatus(NamedTuple):
    """The status of a watch of one kind.

    ``purpose``: "reclaim" or "pools". ``reads``: the number of direct reads. ``fault``: why the
    watch fails, or "".
    """

    purpose: str
    kind: str
    objects: int
    reads: int
    fault: str


class ClusterWatch:
    """Runs the watches. Reclaim scans need ``facts``; automatic pools need ``applications``."""

    def __init__(self, api: Api, switches: FixedAddressSwitches) -> None:
        self.facts = ApiServerFactsSource(api, switches)
        self.applications = KubernetesApplications(api)
        self.api = api

    async def run(self) -> None:
        """Run the watches of every replica until cancelled."""
        _log.info("watching Pods, Nodes and owners of fixed addresses")
        await self.facts.run()

    async def lead(self) -> None:
        """Run the additional watches of the leader until cancelled."""
        await self.applications.run()

    def watched(self) -> Iterator[WatchStatus]:
        """The status of each running watch of a built-in kind."""
        facts, owners = self.facts, self.facts.owners
        reclaim_collections: list[Collection[Any]] = [facts.pods, facts.nodes]
        reclaim_collections += [owners.stateful_sets, owners.vmis, owners.vms, owners.ipam_claims]
        for collection in reclaim_collections:
            if collection.watching:
                yield _status("reclaim", collection)
        for collection in self.applications.kinds.values():
            if collection.watching:
                yield _status("pools", collection)

    async def close(self) -> None:
        """Close every connection, after ``run`` has ended."""
        await self.api.close()


def _status(purpose: str, collection: Collection[Any]) -> WatchStatus:
    return WatchStatus(
        purpose, collection.kind, len(collection.seen.objects), collection.reads, collection.fault
    )


async def watch_of(
    settings: KubernetesSettings | None, switches: FixedAddressSwitches
) -> ClusterWatch | None:
    """The watches of the cluster that ``settings`` names; None in standalone mode.

    Raises BadInput for unusable credentials. Does not wait for the API server.
    """
    if settings is None:
        return None
    return ClusterWatch(Api(await open_connection(settings.kubeconfig)), switches)
