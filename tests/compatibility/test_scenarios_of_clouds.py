"""Scenarios S10 and S12 of docs/contributing/compatibility-datapath.md: nodes in a cloud.

Each default pool is bound to one node and one network.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from core.domain.fixed.fixed_address_owners import FixedSettings
from core.eventstore.memory_store import MemoryStore
from nodeagent.settings.agent_settings import Settings
from tests.support.agent_harness import AgentHarness, running

DEFAULT_NETWORK = "v1.multus-cni.io/default-network"
NETWORKS = ("kube-system/ipvlan-eth0", "kube-system/ipvlan-eth1")
SUBNETS = {
    # (node, network) -> IPv4 subnet, IPv4 addresses, IPv6 subnet
    ("node-1", NETWORKS[0]): ("172.31.1.0/24", "172.31.1.2-172.31.1.6", "fd00:1:1::/80"),
    ("node-1", NETWORKS[1]): ("172.31.2.0/24", "172.31.2.2-172.31.2.6", "fd00:1:2::/80"),
    ("node-2", NETWORKS[0]): ("172.31.3.0/24", "172.31.3.2-172.31.3.6", "fd00:2:1::/80"),
    ("node-2", NETWORKS[1]): ("172.31.4.0/24", "172.31.4.2-172.31.4.6", "fd00:2:2::/80"),
}
POOL_SIZE = 5


@pytest.fixture
async def nodes(settings: Settings) -> AsyncIterator[dict[str, AgentHarness]]:
    """Node name -> agent; both agents use one store."""
    store = MemoryStore()
    settings_1 = settings._replace(
        fixed_addresses=FixedSettings(stateful_sets=False), cool_down_s=0
    )
    settings_2 = settings_1._replace(
        node_name="node-2",
        socket_path=f"{settings_1.socket_path}2",
        plugin_log_path=f"{settings_1.plugin_log_path}2",
    )
    async with running(settings_1, store) as first, running(settings_2, store) as second:
        for number, ((node, network), (v4, ips, v6)) in enumerate(SUBNETS.items()):
            bindings = {"node_names": (node,), "multus_names": (network,)}
            await first.pool(f"v4-{number}", v4, ips, **bindings)
            prefix = v6.partition("/")[0]
            await first.pool(f"v6-{number}", v6, f"{prefix}2-{prefix}9", **bindings)
        yield {"node-1": first, "node-2": second}


async def add_pod(nodes: dict[str, AgentHarness], name: str, network: str, node: str) -> list[str]:
    """Run the ADD of a Pod of the network on the node; return the addresses."""
    await nodes["node-1"].pod(name, {DEFAULT_NETWORK: network}, owner_kind="StatefulSet")
    await nodes[node].process.parts.view.freshen()  # reads the Pod
    return await nodes[node].add(name)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("node", ["node-1", "node-2"])
async def test_a_pod_gets_addresses_of_its_node_and_network(
    nodes: dict[str, AgentHarness], node: str, network: str
) -> None:
    v4, v6 = await add_pod(nodes, "web-0", network, node)

    v4_subnet, _, v6_subnet = SUBNETS[node, network]
    assert v4.rpartition(".")[0] == v4_subnet.rpartition(".")[0]
    assert v6.startswith(v6_subnet.partition("::")[0])
    assert v6.endswith("/80")
    assert len(await nodes[node].claims()) == 2, "only the addresses of the Pod may be claimed"


async def test_a_full_node_refuses_a_pod_that_the_other_node_accepts(
    nodes: dict[str, AgentHarness],
) -> None:
    for number in range(POOL_SIZE):
        await add_pod(nodes, f"web-{number}", NETWORKS[0], "node-1")
    await nodes["node-1"].pod("late", {DEFAULT_NETWORK: NETWORKS[0]})
    await nodes["node-2"].process.parts.view.freshen()

    refused = (await nodes["node-1"].call("ADD", "late")).error

    assert "all IP addresses used out" in refused["msg"] + refused["details"]
    assert (await nodes["node-2"].add("late"))[0].startswith("172.31.3.")


async def test_a_moved_replica_gets_an_address_of_its_new_node(
    nodes: dict[str, AgentHarness],
) -> None:
    """With ``enableStatefulSet: false`` a replica has no fixed address."""
    await add_pod(nodes, "web-0", NETWORKS[0], "node-1")
    await nodes["node-1"].delete("web-0")

    assert (await nodes["node-2"].add("web-0"))[0].startswith("172.31.3.")
    assert len(await nodes["node-1"].claims()) == 2
