"""Nodes of the laboratory serve CNI commands, and can lose their network."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ops.demo.demo_state import PROJECT_ROOT
from ops.lab.laboratory import Laboratory
from ops.lab.runtime import CniFailed

pytestmark = [pytest.mark.etcd, pytest.mark.netns]

PLUGIN_NOT_AVAILABLE_CODE = 50


@pytest.fixture
def laboratory() -> Iterator[Laboratory]:
    with Laboratory() as lab:
        lab.node("node-a")
        applied = lab.orbctl("apply", "-f", "ops/demo/pools.yaml", directory=PROJECT_ROOT)
        assert applied.returncode == 0, applied.stderr
        yield lab


def test_a_disconnected_node_is_unhealthy_and_serves_again_when_reconnected(
    laboratory: Laboratory,
) -> None:
    node = laboratory.nodes["node-a"]
    sandbox = laboratory.sandbox("web-0")
    laboratory.fabric.disconnect("node-a")
    node.wait_unhealthy()

    with pytest.raises(CniFailed) as refused:
        node.runtime.status()

    assert refused.value.code == PLUGIN_NOT_AVAILABLE_CODE
    laboratory.fabric.reconnect("node-a")
    node.agent.wait_until(node.is_healthy)
    node.runtime.add(sandbox)
    assert sandbox.reaches("10.6.0.1")


def test_check_fails_after_the_addresses_of_a_pod_are_removed(
    laboratory: Laboratory,
) -> None:
    node = laboratory.nodes["node-a"]
    sandbox = laboratory.sandbox("web-0")

    node.runtime.add(sandbox)
    node.runtime.check(sandbox)

    assert sorted(sandbox.kernel_addresses()) == sorted(sandbox.addresses)
    sandbox.namespace.ip("address", "flush", "dev", "eth0")
    with pytest.raises(CniFailed):
        node.runtime.check(sandbox)


def test_a_repeated_delete_succeeds_after_the_sandbox_is_destroyed(
    laboratory: Laboratory,
) -> None:
    node = laboratory.nodes["node-a"]
    sandbox = laboratory.sandbox("web-0")
    node.runtime.add(sandbox)

    node.runtime.delete(sandbox)
    sandbox.destroy()
    node.runtime.delete(sandbox)

    listed = laboratory.orbctl("get", "endpoints", "-A", "-o", "name")
    assert (listed.returncode, listed.stdout.strip()) == (0, "")
