"""ADD and DEL of a Pod with several interfaces.

The default call is for eth0 of Pod shop/web-0, container c-web-0.
"""

from __future__ import annotations

from typing import Any

from core.domain.configuration.commands import DeleteRecord
from nodeagent.cni_protocol.failures import WRONG_INPUT
from tests.support.agent_harness import AgentHarness


async def create_two_pools(agent: AgentHarness) -> None:
    await agent.pool("a", "10.6.0.0/24", "10.6.0.10-10.6.0.20", default=False)
    await agent.pool("b", "10.7.0.0/24", "10.7.0.10-10.7.0.20", default=False, gateway="10.7.0.1")


def annotation_items(*interfaces: str) -> list[dict[str, Any]]:
    """Items for two interfaces in pools a and b; "" means no name."""
    pools = ("a", "b")
    return [
        {"ipv4": [pool]} | ({"interface": name} if name else {})
        for name, pool in zip(interfaces, pools, strict=True)
    ]


async def test_the_first_add_claims_the_addresses_of_all_named_items(
    agent: AgentHarness,
) -> None:
    await create_two_pools(agent)
    await agent.pod("web-0", {"ippools": annotation_items("eth0", "net1")})

    first = await agent.call("ADD")
    claimed_addresses = set(await agent.claims())
    second = await agent.call("ADD", CNI_IFNAME="net1")

    (eth0,), (net1,) = first.result["ips"], second.result["ips"]
    assert eth0["address"].startswith("10.6.0.")
    assert net1["address"].startswith("10.7.0.")
    assert "routes" not in first.result
    assert second.result["routes"] == [{"dst": "0.0.0.0/0", "gw": "10.7.0.1"}]
    assert set(await agent.claims()) == claimed_addresses
    assert len(claimed_addresses) == 2


async def test_unnamed_items_go_to_interfaces_in_the_order_of_their_adds(
    agent: AgentHarness,
) -> None:
    await create_two_pools(agent)
    await agent.pod("web-0", {"ippools": annotation_items("", "")})

    eth0 = await agent.add()
    net1 = await agent.add(CNI_IFNAME="net1")
    endpoint = await agent.endpoint()

    assert eth0[0].startswith("10.6.0.")
    assert net1[0].startswith("10.7.0.")
    assert endpoint is not None
    assert [nic.interface for nic in endpoint.nics] == ["eth0", "net1"]


async def test_an_interface_beyond_the_items_of_the_annotation_is_refused(
    agent: AgentHarness,
) -> None:
    await create_two_pools(agent)
    await agent.pod("web-0", {"ippools": annotation_items("", "")})
    await agent.add()
    await agent.add(CNI_IFNAME="net1")

    error = (await agent.call("ADD", CNI_IFNAME="net2")).error

    assert "no IPPool available" in error["msg"]
    assert len(await agent.claims()) == 2


async def test_an_interface_that_the_annotation_does_not_name_is_refused(
    agent: AgentHarness,
) -> None:
    await create_two_pools(agent)
    await agent.pod("web-0", {"ippools": annotation_items("eth0", "net1")})

    error = (await agent.call("ADD", CNI_IFNAME="net9")).error

    assert error["code"] == WRONG_INPUT
    assert "interface net9 must be specified" in error["msg"]
    assert await agent.claims() == {}


async def test_each_interface_uses_the_pools_of_its_netconf(agent: AgentHarness) -> None:
    await create_two_pools(agent)
    eth0_conf = agent.netconf(ipam={"default_ipv4_ippool": ["a"]})
    net1_conf = agent.netconf(ipam={"default_ipv4_ippool": ["b"]}, name="lan-2")

    eth0 = await agent.add(conf=eth0_conf)
    net1 = await agent.add(conf=net1_conf, CNI_IFNAME="net1")
    endpoint = await agent.endpoint()

    assert endpoint is not None
    assert [nic.ipv4 for nic in endpoint.nics] == [*eth0, *net1]
    assert [nic.network for nic in endpoint.nics] == ["lan", "lan-2"]


async def test_the_first_delete_of_a_sandbox_releases_the_addresses_of_all_interfaces(
    agent: AgentHarness,
) -> None:
    await create_two_pools(agent)
    await agent.pod("web-0", {"ippools": annotation_items("eth0", "net1")})
    await agent.add()
    await agent.add(CNI_IFNAME="net1")

    await agent.delete(CNI_IFNAME="net1")
    remaining = await agent.claims()
    await agent.delete()

    assert remaining == {}


async def test_a_late_delete_of_one_interface_keeps_the_interfaces_of_the_new_sandbox(
    agent: AgentHarness,
) -> None:
    await create_two_pools(agent)
    await agent.pod("web-0", {"ippools": annotation_items("eth0", "net1")})
    await agent.add(CNI_CONTAINERID="old")
    await agent.add(CNI_CONTAINERID="old", CNI_IFNAME="net1")
    eth0 = await agent.add(CNI_CONTAINERID="new")

    await agent.delete(CNI_CONTAINERID="old", CNI_IFNAME="net1")

    assert [f"{address}/24" for address in await agent.claims()] == eth0
    assert (await agent.add(CNI_CONTAINERID="new")) == eth0
    net1 = await agent.add(CNI_CONTAINERID="new", CNI_IFNAME="net1")
    assert set(await agent.claims()) == {address.partition("/")[0] for address in eth0 + net1}


async def test_a_late_delete_of_an_interface_that_was_never_added_releases_nothing(
    agent: AgentHarness,
) -> None:
    await create_two_pools(agent)
    await agent.pod("web-0", {"ippools": annotation_items("eth0", "net1")})
    await agent.add(CNI_CONTAINERID="new")
    endpoint_before = await agent.endpoint()

    await agent.delete(CNI_CONTAINERID="old", CNI_IFNAME="net1")

    assert await agent.endpoint() == endpoint_before


async def test_a_replica_keeps_its_addresses_while_a_record_names_its_statefulset(
    agent: AgentHarness,
) -> None:
    """Only the Pod's record names the StatefulSet."""
    await create_two_pools(agent)
    owner = {"owner_kind": "StatefulSet", "owner_name": "web", "owner_api_version": "apps/v1"}
    await agent.pod("web-0", {"ippool": {"ipv4": ["a"]}}, **owner)
    args = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID="

    first = await agent.add(CNI_ARGS=f"{args}one", CNI_CONTAINERID="one")
    await agent.delete(CNI_ARGS=f"{args}one", CNI_CONTAINERID="one")
    second = await agent.add(CNI_ARGS=f"{args}two", CNI_CONTAINERID="two")
    endpoint = await agent.endpoint()
    await agent.apply(DeleteRecord("Pod", "shop", "web-0"))
    await agent.delete(CNI_ARGS=f"{args}two", CNI_CONTAINERID="two")

    assert second == first
    assert endpoint is not None
    assert (endpoint.holder, endpoint.uid) == ("statefulset/shop/web-0", "two")
    assert await agent.claims() == {}


async def test_only_a_replica_of_an_apps_v1_stateful_set_keeps_its_address(
    agent: AgentHarness,
) -> None:
    await create_two_pools(agent)
    owner = {"owner_kind": "StatefulSet", "owner_name": "web"}
    for api_version in ("apps.kruise.io/v1beta1", "apps/v1"):
        for name in ("web-0", "web-x", "other-0"):
            annotations = {"ippool": {"ipv4": ["a"]}}
            await agent.pod(name, annotations, owner_api_version=api_version, **owner)
            await agent.add(name)
            await agent.delete(name)

    # web-x and other-0 are not names of replicas of web.
    holders = {claim.holder for claim in (await agent.claims()).values()}
    assert holders == {"statefulset/shop/web-0"}
