"""Joining a cluster: credentials, and facts that are kept up to date in the background."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from core.kubernetes.api import Api
from core.kubernetes.connection import open_connection
from core.kubernetes.informer import following
from core.process.supervision import Supervisor
from nodeagent.kubernetes.coordinators import KubernetesCoordinator
from nodeagent.kubernetes.facts import KubernetesFacts
from nodeagent.kubernetes.services import KubernetesServices
from nodeagent.settings.values import Settings

if TYPE_CHECKING:
    from nodeagent.kubernetes.networks import KubernetesNetworks
    from nodeagent.kubernetes.tenants import KubernetesTenants

_log: Final = logging.getLogger(__name__)


class Cluster:
    """A cluster that was joined. ``facts`` and ``services`` are its; leave it at the end.

    ``networks`` None: no network provider binds anything; ``tenants`` None: RDMA is not counted;
    ``coordinator`` None: the SpiderCoordinator is switched off.
    """

    def __init__(self, api: Api, settings: Settings, supervisor: Supervisor | None = None) -> None:
        self.facts = KubernetesFacts(api, settings.node_name, settings.fixed)
        self.services = KubernetesServices(api, settings.node_name)
        self.networks: KubernetesNetworks | None = None
        self._api = api
        self._supervisor = supervisor or Supervisor()
        facts, services = self.facts, self.services
        self._watches = [following("watch-pods", facts.run, facts.followers)]
        self.coordinator: KubernetesCoordinator | None = None
        if settings.coordinator_name:
            self.coordinator = coordinator = KubernetesCoordinator(
                api, settings.coordinator_name, settings.coordinator
            )
            watched = [coordinator.coordinators]
            self._watches.append(following("watch-coordinator", coordinator.run, watched))
        if settings.cluster_ip.enabled:
            self._watches.append(following("watch-services", services.run, services.followers))
        if settings.provider is not None:
            # Here, because only those with a provider need the models of networks.
            from nodeagent.kubernetes.networks import KubernetesNetworks  # noqa: PLC0415

            self.networks = networks = KubernetesNetworks(api, settings.selection)
            self._watches.append(following("watch-networks", networks.run, [networks.configs]))
        self.tenants: KubernetesTenants | None = None
        if settings.metrics_enabled and settings.rdma_metrics_enabled:
            from nodeagent.kubernetes.tenants import KubernetesTenants  # noqa: PLC0415  # as above

            self.tenants = tenants = KubernetesTenants(api, settings.node_name)
            self._watches.append(following("watch-tenants", tenants.run, [tenants.pods]))
        for watch in self._watches:
            self._supervisor.start(watch)

    async def stop_watching(self) -> None:
        """What was seen so far is all that is seen."""
        for watch in self._watches:
            await self._supervisor.end(watch.name)

    async def leave(self) -> None:
        """Watch no more, and close every connection."""
        try:
            await self.stop_watching()
        finally:
            await self._api.close()


async def joined(settings: Settings, supervisor: Supervisor | None = None) -> Cluster | None:
    """The cluster of the settings; None: standalone. Raises BadInput without credentials.

    Its watches run under ``supervisor``, by default one of its own. Nothing is waited for: the
    agent serves what it can while the API server is away.
    """
    if settings.kubeconfig is None:
        return None
    api = Api(await open_connection(settings.kubeconfig))
    _log.info("facts come from the API server")
    return Cluster(api, settings, supervisor)
