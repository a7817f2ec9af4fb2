"""What a controller knows of its cluster: one connection, the two sources, and their end.

Every replica watches Pods, Nodes and owners, because any of them may carry out any look; the one
that leads watches applications too, because it alone compares them with their pools.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from core.domain.fixed.kinds import FixedAddressSwitches
from core.kubernetes.api import Api
from core.kubernetes.connection import open_connection
from ops.kubernetes.settings import KubernetesSettings
from ops.kubernetes.watches.applications import KubernetesApplications
from ops.kubernetes.watches.collection import Collection
from ops.kubernetes.watches.facts import ApiServerFacts

_log: Final = logging.getLogger(__name__)


class Watched(NamedTuple):
    """Objects of one kind that are watched for a purpose; ``reads``: asked of the server itself."""

    purpose: str
    kind: str
    objects: int
    reads: int
    fault: str


class ClusterWatch:
    """``facts`` and ``applications`` are the sources of the jobs."""

    def __init__(self, api: Api, switches: FixedAddressSwitches) -> None:
        self.facts = ApiServerFacts(api, switches)
        self.applications = KubernetesApplications(api)
        self._api = api

    async def run(self) -> None:
        """What every replica watches, until cancelled."""
        _log.info("watching Pods, Nodes and owners of fixed addresses")
        await self.facts.run()

    async def lead(self) -> None:
        """Run the additional watches of the leader until cancelled."""
        await self.applications.run()

    def watched(self) -> Iterator[Watched]:
        """Status of the watches of built-in kinds."""
        facts, owners = self.facts, self.facts.owners
        known: list[Collection[Any]] = [facts.pods, facts.nodes]
        known += [owners.sets, owners.vmis, owners.vms]
        for one in known:
            if one.watching:
                yield _standing("reclaim", one)
        for each in self.applications.kinds.values():
            if each.watching:
                yield _standing("pools", each)

    async def close(self) -> None:
        """Close every connection; after ``run`` has ended."""
        await self._api.close()


def _standing(purpose: str, one: Collection[Any]) -> Watched:
    return Watched(purpose, one.kind, len(one.seen.objects), one.reads, one.fault)


async def watch_of(
    settings: KubernetesSettings | None, switches: FixedAddressSwitches
) -> ClusterWatch | None:
    """The cluster of the settings; None: standalone. Raises BadInput without credentials.

    Nothing is waited for: while the API server is away nothing is freed, and all else goes on.
    """
    if settings is None:
        return None
    return ClusterWatch(Api(await open_connection(settings.kubeconfig)), switches)
