"""Spiderpool's test cases about the addresses of a Pod, run against a complete agent.

Ids such as E00001 are those of docs/contributing/compatibility.md.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from core.domain.configuration.commands import ApplyReservation, DeleteReservation
from core.domain.model import Reservation, Route, pod_holder
from core.eventstore.memory_store import MemoryStore
from nodeagent.settings.agent_settings import Settings
from tests.support.agent_harness import AgentHarness, running

OWNER_FIELDS = {
    "Pod": {},
    "Deployment": {"owner_kind": "Deployment", "owner_name": "web"},
    "StatefulSet": {"owner_kind": "StatefulSet", "owner_name": "web"},
    "DaemonSet": {"owner_kind": "DaemonSet", "owner_name": "web"},
    "Job": {"owner_kind": "Job", "owner_name": "web", "owner_api_version": "batch/v1"},
    "ReplicaSet": {"owner_kind": "ReplicaSet", "owner_name": "web"},
}
"""Kind of the Pod's owner ("Pod": no owner) -> arguments of ``agent.pod``."""

IPV4_CIDR = "10.6.0.0/16"
POOLS = {"v4": (IPV4_CIDR, "10.6.0.10"), "v6": ("fd00:6::/64", "fd00:6::10")}
"""Address family -> the default pool's subnet and only address."""


async def pool_by_address(agent: AgentHarness) -> dict[str, str]:
    return {address: claim.pool for address, claim in (await agent.claims()).items()}


async def routes_of(agent: AgentHarness, pod: str) -> list[dict[str, str]]:
    """Return the routes in the result of an ADD, which may repeat an earlier ADD."""
    routes: list[dict[str, str]] = (await agent.call("ADD", pod)).result["routes"]
    return routes


@pytest.mark.parametrize("families", [("v4",), ("v6",), ("v4", "v6")], ids="-".join)
@pytest.mark.parametrize("kind", OWNER_FIELDS)
async def test_a_pod_of_any_kind_gets_addresses_of_the_default_pools(
    agent: AgentHarness, kind: str, families: tuple[str, ...]
) -> None:
    """E00001 to E00006."""
    for family in families:
        await agent.pool(f"default-{family}", *POOLS[family])
    owner: dict[str, Any] = OWNER_FIELDS[kind]
    await agent.pod("web-0", {}, **owner)

    added = await agent.add("web-0")

    assert len(added) == len(families)
    claims = await agent.claims()
    assert set(claims) == {address.partition("/")[0] for address in added}
    assert {claim.pool for claim in claims.values()} == {f"default-{family}" for family in families}


async def test_a_waiting_pod_gets_an_address_that_is_no_longer_excluded(
    agent: AgentHarness,
) -> None:
    """E00008, S00002."""
    ips = "10.6.0.10-10.6.0.11"
    await agent.pool("lan", IPV4_CIDR, ips, exclude_ips=("10.6.0.11",))
    await agent.add("web-0")

    refused = await agent.call("ADD", "web-1")
    await agent.pool("lan", IPV4_CIDR, ips)

    assert "all IP addresses used out" in refused.error["msg"] + refused.error["details"]
    assert await agent.add("web-1") == ["10.6.0.11/16"]


async def test_a_waiting_pod_gets_an_address_that_is_no_longer_reserved(
    agent: AgentHarness,
) -> None:
    """S00001."""
    await agent.pool("lan", IPV4_CIDR, "10.6.0.10")
    await agent.apply(ApplyReservation(Reservation("kept", 4, ("10.6.0.10",))))

    refused = await agent.call("ADD", "web-0")
    await agent.apply(DeleteReservation("kept"))

    assert "spiderpool IP allocation error" in refused.error["msg"]
    assert await agent.add("web-0") == ["10.6.0.10/16"]


async def test_each_pod_of_a_daemon_set_gets_an_address_of_its_nodes_pool(
    settings: Settings, agent: AgentHarness, memory_store: MemoryStore
) -> None:
    """L00007."""
    settings_of_node_2 = settings._replace(
        node_name="node-2",
        socket_path=f"{settings.socket_path}2",
        plugin_log_path=f"{settings.plugin_log_path}2",
    )
    await agent.pool("first", IPV4_CIDR, "10.6.1.1-10.6.1.9", default=False, node_names=("node-1",))
    await agent.pool(
        "second", IPV4_CIDR, "10.6.2.1-10.6.2.9", default=False, node_names=("node-2",)
    )
    annotations = {"ippool": {"ipv4": ["first", "second"]}}
    async with running(settings_of_node_2, memory_store) as agent_of_node_2:
        for pod in ("agent-a", "agent-b"):
            await agent.pod(pod, annotations, owner_kind="DaemonSet", owner_name="agent")
        await agent_of_node_2.process.parts.view.freshen()  # reads the pools

        (first_address,) = await agent.add("agent-a")
        (second_address,) = await agent_of_node_2.add("agent-b")
        await agent.delete("agent-a")
        await agent_of_node_2.delete("agent-b")

    assert first_address.startswith("10.6.1.")
    assert second_address.startswith("10.6.2.")
    assert not await agent.claims()


async def test_two_namespaces_share_a_pool_and_only_one_may_use_a_second_pool(
    agent: AgentHarness,
) -> None:
    """L00009."""
    await agent.pool("shared", IPV4_CIDR, "10.6.0.10-10.6.0.11", namespace_names=("shop", "bank"))
    await agent.pool("own", IPV4_CIDR, "10.6.0.20", namespace_names=("bank",))

    def cni_args(namespace: str, pod: str) -> str:
        names = f"IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={pod}"
        return f"{names};K8S_POD_UID={namespace}-{pod}"

    await agent.add("a", CNI_ARGS=cni_args("shop", "a"))
    for pod in ("b", "c"):
        await agent.add(pod, CNI_ARGS=cni_args("bank", pod))
    refused = await agent.call("ADD", "d", CNI_ARGS=cni_args("shop", "d"))

    assert sorted((await pool_by_address(agent)).values()) == ["own", "shared", "shared"]
    assert "from IPPools [shared]: all IP addresses used out" in refused.error["msg"]


async def test_a_deployment_moves_to_the_pool_in_its_changed_annotation(
    agent: AgentHarness,
) -> None:
    """A00009: in a rolling restart, a Pod with the new annotation replaces the old Pod."""
    await agent.pool("old", IPV4_CIDR, "10.6.1.1", default=False)
    await agent.pool("new", IPV4_CIDR, "10.6.2.1", default=False)
    owner = OWNER_FIELDS["Deployment"]
    await agent.pod("web-a", {"ippool": {"ipv4": ["old"]}}, **owner)
    await agent.add("web-a")

    await agent.pod("web-b", {"ippool": {"ipv4": ["new"]}}, **owner)
    moved = await agent.add("web-b")
    await agent.delete("web-a")

    endpoint = await agent.endpoint("web-b")
    assert moved == ["10.6.2.1/16"]
    assert await pool_by_address(agent) == {"10.6.2.1": "new"}
    assert endpoint is not None
    assert (endpoint.uid, endpoint.owner_kind) == ("uid-web-b", "Deployment")


async def test_a_retried_add_claims_no_address_if_the_pool_of_one_nic_is_full(
    agent: AgentHarness,
) -> None:
    """A00016."""
    await agent.pool("small", IPV4_CIDR, "10.6.1.1", default=False)
    await agent.pool("large", "10.7.0.0/16", "10.7.1.1-10.7.1.9", default=False)
    annotations = {
        "ippools": [
            {"interface": "eth0", "ipv4": ["small"]},
            {"interface": "net1", "ipv4": ["large"]},
        ]
    }
    for pod in ("web-0", "web-1"):
        await agent.pod(pod, annotations)
    await agent.add("web-0")

    for _ in range(5):
        refused = await agent.call("ADD", "web-1")
        assert "all IP addresses used out" in refused.error["msg"] + refused.error["details"]

    assert sorted((await pool_by_address(agent)).values()) == ["large", "small"]


async def test_a_changed_gateway_and_changed_routes_apply_only_to_later_pods(
    agent: AgentHarness,
) -> None:
    """D00002, I00005."""
    ips = "10.6.0.10-10.6.0.19"
    await agent.pool(
        "lan", IPV4_CIDR, ips, gateway="10.6.0.1", routes=(Route("10.20.0.0/16", "10.6.0.2"),)
    )
    before = await routes_of(agent, "web-0")
    await agent.pool(
        "lan", IPV4_CIDR, ips, gateway="10.6.0.3", routes=(Route("10.30.0.0/16", "10.6.0.4"),)
    )

    after = await routes_of(agent, "web-1")

    assert await routes_of(agent, "web-0") == before
    gateways = [{route["dst"]: route["gw"] for route in routes} for routes in (before, after)]
    assert gateways == [
        {"10.20.0.0/16": "10.6.0.2", "0.0.0.0/0": "10.6.0.1"},
        {"10.30.0.0/16": "10.6.0.4", "0.0.0.0/0": "10.6.0.3"},
    ]


async def test_forty_replicas_with_two_nics_start_restart_and_end(agent: AgentHarness) -> None:
    """P00002, without time limits."""
    await agent.pool("lan", IPV4_CIDR, "10.6.0.1-10.6.0.80", default=False)
    await agent.pool("wan", "10.7.0.0/16", "10.7.0.1-10.7.0.80", default=False)
    annotations = {
        "ippools": [
            {"interface": "eth0", "ipv4": ["lan"]},
            {"interface": "net1", "ipv4": ["wan"]},
        ]
    }

    async def attach(pod: str) -> None:
        await agent.pod(pod, annotations, **OWNER_FIELDS["Deployment"])
        for nic in ("eth0", "net1"):
            assert len(await agent.add(pod, CNI_IFNAME=nic)) == 1

    async def restart(number: int) -> None:
        await attach(f"new-{number}")
        await agent.delete(f"old-{number}")

    await asyncio.gather(*(attach(f"old-{number}") for number in range(40)))
    assert len(await agent.claims()) == 80
    await asyncio.gather(*(restart(number) for number in range(40)))
    holders = {claim.holder for claim in (await agent.claims()).values()}
    assert holders == {pod_holder(f"uid-new-{number}") for number in range(40)}
    await asyncio.gather(*(agent.delete(f"new-{number}") for number in range(40)))
    assert not await agent.claims()
