"""The agent's connection to a Kubernetes cluster, with watches in the background."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from core.kubernetes.informer import reflector_task
from core.process.supervision import Supervisor
from nodeagent.kubernetes.cluster_pod_facts import KubernetesFactsSource
from nodeagent.kubernetes.coordinator_watch import KubernetesCoordinator
from nodeagent.kubernetes.service_watch import KubernetesServices
from nodeagent.settings.agent_settings import Settings

if TYPE_CHECKING:
    from nodeagent.kubernetes.multus_config_watch import KubernetesNetworks
    from nodeagent.kubernetes.rdma_pods import RdmaPodWatch
    from nodeagent.kubernetes.sriov_watch import KubernetesSriov

_log: Final = logging.getLogger(__name__)


class Cluster:
    """The watches of one cluster.

    A watch that the settings do not enable is None, except ``services``, which then does not run.
    """

    def __init__(self, api: Api, settings: Settings, supervisor: Supervisor | None = None) -> None:
        self.facts = KubernetesFactsSource(api, settings.node_name, settings.fixed_addresses)
        self.services = KubernetesServices(api, settings.node_name)
        self.networks: KubernetesNetworks | None = None
        self.server = api.server
        self._api = api
        self._supervisor = supervisor or Supervisor()
        facts, services = self.facts, self.services
        self._watches = [reflector_task("watch-pods", facts.run, facts.reflectors)]
        self.coordinator: KubernetesCoordinator | None = None
        if settings.coordinator_name:
            self.coordinator = coordinator = KubernetesCoordinator(
                api, settings.coordinator_name, settings.coordinator
            )
            watched = [coordinator.coordinators]
            self._watches.append(reflector_task("watch-coordinator", coordinator.run, watched))
        if settings.cluster_ip.enabled:
            self._watches.append(
                reflector_task("watch-services", services.run, services.reflectors)
            )
        if settings.provider is not None:
            from nodeagent.kubernetes.multus_config_watch import KubernetesNetworks  # noqa: PLC0415  # if needed

            self.networks = networks = KubernetesNetworks(api, settings.selection)
            self._watches.append(reflector_task("watch-networks", networks.run, [networks.configs]))
        self.rdma_pods: RdmaPodWatch | None = None
        if settings.metrics_enabled and settings.rdma_metrics_enabled:
            from nodeagent.kubernetes.rdma_pods import RdmaPodWatch  # noqa: PLC0415  # if needed

            self.rdma_pods = rdma_pods = RdmaPodWatch(api, settings.node_name)
            self._watches.append(reflector_task("watch-rdma-pods", rdma_pods.run, [rdma_pods.pods]))
        self.sriov = self._watch_sriov(settings)
        for watch in self._watches:
            self._supervisor.start(watch)

    def _watch_sriov(self, settings: Settings) -> KubernetesSriov | None:
        if settings.sriov is None:
            return None
        from nodeagent.kubernetes.sriov_watch import KubernetesSriov  # noqa: PLC0415  # if needed

        namespace = settings.selection.agent_namespace
        sriov = KubernetesSriov(self._api, settings.node_name, namespace, self.facts.pods)
        self._watches.append(reflector_task("watch-sriov", sriov.run, sriov.reflectors))
        return sriov

    async def stop_watching(self) -> None:
        """Stop all watches; cached objects remain."""
        for watch in self._watches:
            await self._supervisor.end(watch.name)

    async def close(self) -> None:
        """Stop all watches and close all connections."""
        try:
            await self.stop_watching()
        finally:
            await self._api.close()


async def connect_cluster(
    settings: Settings, supervisor: Supervisor | None = None
) -> Cluster | None:
    """None if no cluster is configured. Raises BadInput if credentials are missing.

    Does not wait for an answer of the API server.
    """
    if settings.kubeconfig is None:
        return None
    api = Api(await open_connection(settings.kubeconfig))
    _log.info("reading Pods from the API server")
    return Cluster(api, settings, supervisor)
