"""The tests of this folder share one cluster, which a fixture cleans after each test.

The cluster ends before a test of another folder, because an idle cluster takes a tenth of a core.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.nodes.kubernetes_cluster import KubernetesCluster
from tests.support.kubernetes import KUBERNETES_PROGRAMS, missing_programs
from tests.support.parts import KUBELET, needs, require_containers

CLUSTER_PROGRAMS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kubectl",
)


@pytest.fixture(scope="session")
def cluster_can_run() -> None:
    require_containers()
    if absent := missing_programs(*CLUSTER_PROGRAMS):
        pytest.skip(needs(KUBELET, f"no {' and no '.join(absent)} in {KUBERNETES_PROGRAMS}"))


class SharedCluster:
    """Starts the cluster on first use, and ends it on request."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._running: KubernetesCluster | None = None

    def started(self) -> KubernetesCluster:
        """The running cluster, started if necessary."""
        if self._running is None:
            self._running = self._stack.enter_context(KubernetesCluster())
            self._stack.callback(self._running.verify)
        return self._running

    def end(self) -> None:
        """Verify and stop the cluster; do nothing if none runs."""
        self._running = None
        self._stack.close()


SHARED: Final = SharedCluster()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if nextitem is None or nextitem.path.parent != Path(__file__).parent:
        SHARED.end()


@pytest.fixture(scope="module")
def running_cluster(cluster_can_run: None) -> KubernetesCluster:
    """The running cluster, for fixtures of a module; nothing is cleaned up."""
    return SHARED.started()


@pytest.fixture
def cluster(running_cluster: KubernetesCluster) -> Iterator[KubernetesCluster]:
    """The running cluster, which is cleaned after the test."""
    yield running_cluster
    running_cluster.restore_nodes()
    running_cluster.delete_objects()
