"""Joining a cluster: credentials, and facts that are kept up to date in the background."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from core.kubernetes.api import Api
from core.kubernetes.connection import open_connection
from nodeagent.background import tell_end
from nodeagent.kubernetes.facts import KubernetesFacts
from nodeagent.kubernetes.services import KubernetesServices
from nodeagent.settings.values import Settings

if TYPE_CHECKING:
    from nodeagent.kubernetes.networks import KubernetesNetworks
    from nodeagent.kubernetes.tenants import KubernetesTenants

_log: Final = logging.getLogger(__name__)


class Cluster:
    """A cluster that was joined. ``facts`` and ``services`` are its; leave it at the end.

    ``networks`` None: no network provider binds anything; ``tenants``: nobody counts RDMA.
    """

    def __init__(self, api: Api, settings: Settings) -> None:
        self.facts = KubernetesFacts(api, settings.node_name, settings.fixed)
        self.services = KubernetesServices(api, settings.node_name)
        self.networks: KubernetesNetworks | None = None
        self._api = api
        watched = [self.facts.run()]
        if settings.cluster_ip.enabled:
            watched.append(self.services.run())
        if settings.provider is not None:
            # Here, because only those with a provider need the models of networks.
            from nodeagent.kubernetes.networks import KubernetesNetworks  # noqa: PLC0415

            self.networks = KubernetesNetworks(api, settings.selection)
            watched.append(self.networks.run())
        self.tenants: KubernetesTenants | None = None
        if settings.metrics_enabled and settings.rdma_metrics_enabled:
            from nodeagent.kubernetes.tenants import KubernetesTenants  # noqa: PLC0415  # as above

            self.tenants = KubernetesTenants(api, settings.node_name)
            watched.append(self.tenants.run())
        self._watching = asyncio.gather(*watched)
        tell_end(self._watching, "not everything of the API server is followed any more")

    async def stop_watching(self) -> None:
        """What was seen so far is all that is seen."""
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)

    async def leave(self) -> None:
        """Watch no more, and close every connection."""
        await self.stop_watching()
        await self._api.close()


async def joined(settings: Settings) -> Cluster | None:
    """The cluster of the settings; None: standalone. Raises BadInput without credentials.

    Nothing is waited for: the agent serves what it can while the API server is away.
    """
    if settings.kubeconfig is None:
        return None
    api = Api(await open_connection(settings.kubeconfig))
    _log.info("facts come from the API server")
    return Cluster(api, settings)
