"""A small cluster with a real API server, an agent, and a controller.

Several measures share the cluster, because its start takes longer than most measures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from bench.measures.calls import UNLIMITED_ALLOCATIONS
from bench.rig.agent import AgentProcess
from bench.rig.controller import ControllerProcess
from bench.rig.daemon import wait_all_idle
from bench.rig.frames import FIRST_NEW_SERIAL
from bench.rig.kubernetes import (
    NODE,
    api_server,
    define_kinds,
    require_programs,
    terminate_pods,
    write_cluster,
    write_pods,
    write_pools,
)
from bench.rig.lab import Lab
from bench.rig.seed_writer import SeedWriter
from bench.rig.seeding import wide_pool
from core.domain.model import Pool
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.process.environment import KUBECONFIG_VARIABLE
from tests.support.etcd import EtcdCluster
from tests.support.kubernetes import ApiServer

NAME: Final = "kubernetes"
"""The name of this cluster in ``Measure.rig``."""


class Cluster:
    """One cluster. The agent and the controller use ``log_etcd``."""

    def __init__(
        self,
        lab: Lab,
        server: ApiServer,
        agent: AgentProcess,
        api_etcd: EtcdCluster,
        log_etcd: EtcdCluster,
    ) -> None:
        self.server = server
        self.agent = agent
        self.api_etcd = api_etcd
        self.log_etcd = log_etcd
        self._lab = lab
        self._next_pod = FIRST_NEW_SERIAL
        self._controller: ControllerProcess | None = None

    def controller(self) -> ControllerProcess:
        """Return the controller, after starting it if necessary."""
        if self._controller is None:
            variables = {KUBECONFIG_VARIABLE: str(self.server.kubeconfig)}
            directory = self._lab.new_directory("controller")
            self._controller = ControllerProcess(directory, self.log_etcd.endpoints[0], variables)
            self._controller.start()
        return self._controller

    def stop_controller(self) -> None:
        """Stop the controller, if it runs."""
        controller, self._controller = self._controller, None
        if controller is not None:
            controller.stop()

    def new_pods(self, count: int) -> range:
        """Create Pods; return their numbers when all daemons are idle."""
        pods = range(self._next_pod, self._next_pod + count)
        self._next_pod += count
        self._lab.fill(self.api_etcd, lambda store, _: write_pods(store, pods))
        self.wait_idle()
        return pods

    def wait_idle(self) -> None:
        """Wait until the agent and a running controller are idle at the same time."""
        controller = [self._controller] if self._controller is not None else []
        wait_all_idle([self.agent, *controller])

    def terminate(self, pods: Sequence[int]) -> None:
        """Set the Pods' deletion timestamp, as the API server does before a DEL."""
        self._lab.fill(self.api_etcd, lambda store, _: terminate_pods(store, pods))


@contextmanager
def kubernetes_cluster(lab: Lab) -> Iterator[Cluster]:
    """Start a cluster without Pods. Raises NotTaken."""
    require_programs()
    pools: list[Pool] = []

    async def fill(store: KeyValueStore, _: Keys) -> None:
        pools.extend(await write_pools(store, [wide_pool()]))
        await write_cluster(store, ())

    async def define(store: KeyValueStore, keys: Keys) -> None:
        await SeedWriter(store, keys, "operator").define(pools)

    api_etcd = lab.etcd(lab.seed("kube", fill))
    log_etcd = lab.etcd(lab.seed("kube-log", define))
    with log_etcd, api_server(lab.new_directory("kube"), api_etcd) as server:
        define_kinds(server)  # an agent becomes ready only if it can read the SpiderCoordinator
        variables = {**UNLIMITED_ALLOCATIONS, KUBECONFIG_VARIABLE: str(server.kubeconfig)}
        with lab.agent(log_etcd, NODE, variables) as agent:
            cluster = Cluster(lab, server, agent, api_etcd, log_etcd)
            try:
                yield cluster
            finally:
                cluster.stop_controller()
