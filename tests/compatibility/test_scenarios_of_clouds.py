"""Scenarios S10 and S12: a cloud, where each node has its own addresses.

See docs/contributing/compatibility-datapath.md.

Pools are default and bound to a node and a network; nobody annotates pools. The datapath of such
Pods, ipvlan, is tested in ``tests/nodeagent/coordinator/test_other_links.py``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from core.domain.fixed.owners import FixedSettings
from core.eventstore.memory import MemoryStore
from nodeagent.settings.values import Settings
from tests.support.agent_harness import AgentHarness, running

DEFAULT_NETWORK = "v1.multus-cni.io/default-network"
NETWORKS = ("kube-system/ipvlan-eth0", "kube-system/ipvlan-eth1")
SUBNETS = {
    # As in the documents: networks of different nodes and NICs; a prefix of each for IPv6.
    ("node-1", NETWORKS[0]): ("172.31.1.0/24", "172.31.1.2-172.31.1.6", "fd00:1:1::/80"),
    ("node-1", NETWORKS[1]): ("172.31.2.0/24", "172.31.2.2-172.31.2.6", "fd00:1:2::/80"),
    ("node-2", NETWORKS[0]): ("172.31.3.0/24", "172.31.3.2-172.31.3.6", "fd00:2:1::/80"),
    ("node-2", NETWORKS[1]): ("172.31.4.0/24", "172.31.4.2-172.31.4.6", "fd00:2:2::/80"),
}
POOL_SIZE = 5


@pytest.fixture
async def nodes(settings: Settings) -> AsyncIterator[dict[str, AgentHarness]]:
    store = MemoryStore()
    plain = settings._replace(fixed=FixedSettings(stateful_sets=False), cool_down_s=0)
    other = plain._replace(
        node_name="node-2",
        socket_path=f"{plain.socket_path}2",
        plugin_log_path=f"{plain.plugin_log_path}2",
    )
    async with running(plain, store) as first, running(other, store) as second:
        for number, ((node, network), (v4, ips, v6)) in enumerate(SUBNETS.items()):
            bound = {"node_names": (node,), "multus_names": (network,)}
            await first.pool(f"v4-{number}", v4, ips, **bound)
            await first.pool(f"v6-{number}", v6, f"{v6.partition('/')[0]}2-{v6[:9]}:9", **bound)
        yield {"node-1": first, "node-2": second}


async def placed(nodes: dict[str, AgentHarness], name: str, network: str, where: str) -> list[str]:
    """Record a Pod of a network and run an ADD for it on a node; return its addresses."""
    await nodes["node-1"].pod(name, {DEFAULT_NETWORK: network}, owner_kind="StatefulSet")
    await nodes[where].process.parts.view.freshen()
    return await nodes[where].add(name)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("where", ["node-1", "node-2"])
async def test_a_pods_addresses_are_those_of_its_node_and_network(
    nodes: dict[str, AgentHarness], where: str, network: str
) -> None:
    v4, v6 = await placed(nodes, "web-0", network, where)

    subnet, _, six = SUBNETS[where, network]
    assert v4.rpartition(".")[0] == subnet.rpartition(".")[0]
    assert v6.startswith(six.partition("::")[0])
    assert v6.endswith("/80")
    assert len(await nodes[where].claims()) == 2, "of the other pools nothing is held"


async def test_a_node_that_has_no_more_refuses_and_the_other_does_not(
    nodes: dict[str, AgentHarness],
) -> None:
    for number in range(POOL_SIZE):
        await placed(nodes, f"web-{number}", NETWORKS[0], "node-1")
    await nodes["node-1"].pod("late", {DEFAULT_NETWORK: NETWORKS[0]})
    await nodes["node-2"].process.parts.view.freshen()

    refused = (await nodes["node-1"].call("ADD", "late")).error

    assert "all IP addresses used out" in refused["msg"] + refused["details"]
    assert (await nodes["node-2"].add("late"))[0].startswith("172.31.3.")


async def test_a_replica_that_moves_gets_an_address_of_its_new_node(
    nodes: dict[str, AgentHarness],
) -> None:
    """enableStatefulSet: false, because no address can follow a Pod there."""
    await placed(nodes, "web-0", NETWORKS[0], "node-1")
    await nodes["node-1"].delete("web-0")

    assert (await nodes["node-2"].add("web-0"))[0].startswith("172.31.3.")
    assert len(await nodes["node-1"].claims()) == 2
