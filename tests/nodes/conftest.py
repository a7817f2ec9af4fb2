"""One cluster for all tests of this folder, started once; no test leaves it anything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from ops.lab.programs import why_impossible
from tests.nodes.cluster import Cluster
from tests.support.kubernetes import ASSETS, missing_programs

PROGRAMS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kubectl",
)


@pytest.fixture(scope="session")
def possible() -> None:
    """A cluster can be run on this machine, or the reason why not."""
    missing = [name for name in ("containerd", "runc", "ctr") if not shutil.which(name)]
    why = why_impossible() or (f"not installed: {', '.join(missing)}" if missing else "")
    if why:
        # In CI a green run means that everything was tried.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
    if absent := missing_programs(*PROGRAMS):
        pytest.skip(
            f"no {' and no '.join(absent)} in {ASSETS}: not tried with kubelets were Pods of"
            " Deployments, StatefulSets and Jobs, rolling restarts, eviction, lost nodes"
            " (these programs are in no envtest archive: build or download Kubernetes 1.34)"
        )


@pytest.fixture(scope="session")
def running(possible: None) -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster
        cluster.check()


@pytest.fixture
def cluster(running: Cluster) -> Iterator[Cluster]:
    yield running
    running.revive()
    running.sweep()
