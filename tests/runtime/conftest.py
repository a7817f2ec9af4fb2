"""One containerd for all tests of a file; all sandboxes are removed after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ops.lab.laboratory import Laboratory
from tests.runtime.containerd import Containerd
from tests.runtime.containerd_harness import POOLS_YAML, ContainerdHarness
from tests.support.parts import require_containers


@pytest.fixture(scope="session")
def containers_can_run() -> None:
    require_containers()


@pytest.fixture(scope="module")
def shared_cluster(containers_can_run: None) -> Iterator[ContainerdHarness]:
    with Laboratory() as laboratory:
        node = laboratory.node("node-a")
        applied = laboratory.orbctl("apply", "-f", "-", stdin=POOLS_YAML)
        assert applied.returncode == 0, applied.stderr
        containerd = Containerd(laboratory, node)
        try:
            containerd.create()
            cluster = ContainerdHarness(laboratory, node, containerd)
            yield cluster
            cluster.close()
        finally:
            containerd.close()


@pytest.fixture
def cluster(shared_cluster: ContainerdHarness) -> Iterator[ContainerdHarness]:
    yield shared_cluster
    shared_cluster.restart_stopped_programs()
    shared_cluster.end_all()
    assert shared_cluster.claims() == {}, "a test has left claims"
    shared_cluster.check_event_log()
