"""Tests that were killed leave sandboxes that still run: the next laboratory removes those too."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.lab.identity import Identity
from ops.lab.leftovers import Traces, remove, remove_dead, traces_of

pytestmark = [pytest.mark.etcd, pytest.mark.netns, pytest.mark.containerd]

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 90.0
KILLED = """
import os, signal
from ops.lab.laboratory import Laboratory
from tests.runtime.cluster import POOLS, Cluster
from tests.runtime.containerd import Containerd
with Laboratory() as laboratory:
    node = laboratory.node("node-a")
    laboratory.orbctl("apply", "-f", "-", stdin=POOLS)
    containerd = Containerd(laboratory, node)
    containerd.create()
    Cluster(laboratory, node, containerd).run("web-0")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def killed(possible: None) -> Iterator[Identity]:
    with subprocess.Popen([sys.executable, "-c", KILLED], cwd=ROOT) as process:
        assert process.wait(DEADLINE_S) == -signal.SIGKILL
    identity = Identity(process.pid, 1)
    yield identity
    remove(identity)


def test_sandboxes_that_outlived_their_test_are_removed_with_all_they_had(
    killed: Identity,
) -> None:
    left = traces_of(killed)
    assert left.processes, "a sandbox outlives its runtime"
    assert left.control_groups

    assert killed in remove_dead()

    assert traces_of(killed) == Traces()
