"""One cluster for all tests of this folder, started once and cleaned after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.nodes.kubernetes_cluster import KubernetesCluster
from tests.support.kubernetes import ASSETS, missing_programs
from tests.support.parts import KUBELET, needs, require_containers

PROGRAMS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kubectl",
)


@pytest.fixture(scope="session")
def cluster_can_run() -> None:
    """Skip the tests, with the reason, where a cluster cannot run on this machine."""
    require_containers()
    if absent := missing_programs(*PROGRAMS):
        pytest.skip(needs(KUBELET, f"no {' and no '.join(absent)} in {ASSETS}"))


@pytest.fixture(scope="session")
def running(cluster_can_run: None) -> Iterator[KubernetesCluster]:
    with KubernetesCluster() as cluster:
        yield cluster
        cluster.check()


@pytest.fixture
def cluster(running: KubernetesCluster) -> Iterator[KubernetesCluster]:
    yield running
    running.restore_nodes()
    running.delete_objects()
