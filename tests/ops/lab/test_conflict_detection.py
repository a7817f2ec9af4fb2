"""Conflict detection on a laboratory node with an agent, the executables and the macvlan plugin."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ops.demo.demo_state import PROJECT_ROOT
from ops.lab.laboratory import Laboratory
from ops.lab.node import Node
from ops.lab.runtime import CniFailed

pytestmark = [pytest.mark.etcd, pytest.mark.netns]

CONF = "enableIPConflictDetection: true\nenableGatewayDetection: true\n"
GATEWAY_UNREACHABLE_CODE = 117


@pytest.fixture
def laboratory() -> Iterator[Laboratory]:
    with Laboratory(settings={"ORBWEAVER_ADDRESS_ORDER": "sequential"}) as lab:
        node = lab.node("node-a")
        node.agent.stop()
        (node.directory / "conf.yml").write_text(CONF)
        node.start_agent()
        applied = lab.orbctl("apply", "-f", "ops/demo/pools.yaml", directory=PROJECT_ROOT)
        assert applied.returncode == 0, applied.stderr
        yield lab


@pytest.fixture
def node(laboratory: Laboratory) -> Node:
    return laboratory.nodes["node-a"]


def test_a_pod_gets_addresses_that_no_other_host_has_and_reaches_its_gateway(
    laboratory: Laboratory, node: Node
) -> None:
    # The fabric becomes a host that has the first address of each pool.
    laboratory.fabric.add_gateway("10.6.0.10/24")
    laboratory.fabric.add_gateway("fd00:6::10/64")
    sandbox = laboratory.sandbox("web-0")

    node.runtime.add(sandbox)

    assert sandbox.addresses == ["10.6.0.11", "fd00:6::11"]
    assert sorted(sandbox.kernel_addresses()) == sorted(sandbox.addresses)
    assert sandbox.reaches("10.6.0.1")
    assert sandbox.reaches("fd00:6::1")
    listed = laboratory.orbctl("quarantine", "list").stdout
    assert "10.6.0.10" in listed
    assert "fd00:6::10" in listed
    assert laboratory.orbctl("verify").returncode == 0


def test_a_pod_with_an_unreachable_gateway_gets_an_error_and_no_address(
    laboratory: Laboratory, node: Node
) -> None:
    laboratory.fabric.namespace.ip("address", "del", "10.6.0.1/24", "dev", "br0")
    sandbox = laboratory.sandbox("web-0")

    with pytest.raises(CniFailed) as failed:
        node.runtime.add(sandbox)

    assert failed.value.code == GATEWAY_UNREACHABLE_CODE
    assert "gateway 10.6.0.1 is unreachable" in str(failed.value)
    assert laboratory.orbctl("get", "endpoints", "-A", "-o", "name").stdout.strip() == ""
