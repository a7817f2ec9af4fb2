"""Sandboxes of a killed test continue to run until the next laboratory removes them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ops.lab.leftovers import LabResources, remove_dead, resources_of
from tests.support.laboratories import KilledLaboratory, killed_laboratory

pytestmark = [pytest.mark.etcd, pytest.mark.netns, pytest.mark.containerd]

KILLED_PROGRAM = """
import os, signal
from ops.lab.laboratory import Laboratory
from tests.runtime.containerd_harness import POOLS_YAML, ContainerdHarness
from tests.runtime.containerd import Containerd
with Laboratory() as laboratory:
    node = laboratory.node("node-a")
    laboratory.orbctl("apply", "-f", "-", stdin=POOLS_YAML)
    containerd = Containerd(laboratory, node)
    containerd.create()
    ContainerdHarness(laboratory, node, containerd).run("web-0")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def killed_lab(containers_can_run: None) -> Iterator[KilledLaboratory]:
    with killed_laboratory(KILLED_PROGRAM) as killed_lab:
        yield killed_lab


def test_remove_dead_removes_all_resources_of_a_killed_test(
    killed_lab: KilledLaboratory,
) -> None:
    leftovers = resources_of(killed_lab.identity)
    assert leftovers.processes, "expected a sandbox that still runs"
    assert leftovers.control_groups

    killed_lab.reap()
    assert killed_lab.identity in remove_dead()

    assert resources_of(killed_lab.identity) == LabResources()
