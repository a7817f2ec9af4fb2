"""A ClusterIP harness and its attached programs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import DatapathError
from nodeagent.clusterip.bpf_installation import Installation
from nodeagent.clusterip.bpf_programs import DesiredPrograms
from nodeagent.clusterip.pod_cgroups import cgroup2_mounts
from nodeagent.clusterip.program_loader import try_loading
from tests.nodeagent.clusterip.clusterip_harness import ClusterIPHarness
from tests.support.parts import CGROUPS, needs, require_namespaces


@pytest.fixture(scope="session")
def cluster_ip_can_run() -> None:
    """Skip the test if this machine cannot run the programs."""
    require_namespaces()
    why = ""
    if not cgroup2_mounts():
        why = "cgroup v2 is not mounted"
    if not why and not os.access(cgroup2_mounts()[0], os.W_OK):
        why = "this process cannot create cgroups"
    if not why:
        try:
            try_loading(DesiredPrograms(skipped_netns=0))
        except DatapathError as error:
            why = str(error)
    if why:
        pytest.skip(needs(CGROUPS, why))


@pytest.fixture
def harness(cluster_ip_can_run: None, tmp_path: Path) -> Iterator[ClusterIPHarness]:
    harness = ClusterIPHarness(tmp_path)
    yield harness
    harness.close()


@pytest.fixture
def installation(harness: ClusterIPHarness) -> Installation:
    """Programs that are attached but not pinned."""
    return harness.install()
