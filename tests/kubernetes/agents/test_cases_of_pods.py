"""Spiderpool's end-to-end cases about Pods; ids are from docs/contributing/compatibility.md.

The agent reads Pods from a real API server, the fixture ``shop``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from core.eventstore.memory_store import MemoryStore
from nodeagent.kubernetes.cluster_connection import Cluster
from nodeagent.settings.agent_settings import Settings
from tests.kubernetes.agents.test_facts import (
    NODE_NAME,
    cluster,
    shop,
    until_uncached,
)
from tests.kubernetes.objects import Object
from tests.kubernetes.workload_objects import (
    ONE_CONTAINER,
    PODS_PATH,
    cni_args_of,
    create_pod,
    delete_pod,
)
from tests.support.agent_harness import AgentHarness, running
from tests.support.kubernetes import ApiServer

__all__ = ("cluster", "shop")
"""Imported fixtures."""

IPPOOL = "ipam.spidernet.io/ippool"
IPPOOLS = "ipam.spidernet.io/ippools"
NETWORKS = "k8s.v1.cni.cncf.io/networks"
DEFAULT_NETWORK = "v1.multus-cni.io/default-network"
ANNOTATIONS_BYTES = 200_000
"""The annotations of one Pod; an API server accepts at most 256 KiB."""

LAN_AND_WAN: Any = [{"name": "lan", "namespace": "shop"}, {"name": "wan", "namespace": "shop"}]


@pytest.fixture
async def agent(cluster: Cluster, settings: Settings) -> AsyncIterator[AgentHarness]:
    """An agent with three pools: ``lan`` serves only network ``lan``; ``any`` is the default."""
    async with running(settings, MemoryStore(), facts=cluster.facts) as harness:
        await harness.pool(
            "lan", "10.6.0.0/16", "10.6.1.1-10.6.1.9", default=False, multus_names=("shop/lan",)
        )
        await harness.pool("wan", "10.7.0.0/16", "10.7.1.1-10.7.1.9", default=False)
        await harness.pool("any", "10.8.0.0/16", "10.8.1.1-10.8.1.9")
        yield harness


async def test_a_pod_with_very_long_annotations_gets_and_releases_an_address(
    shop: ApiServer, cluster: Cluster, agent: AgentHarness
) -> None:
    """E00007."""
    annotations_by_key = {
        f"team/{number:03}": "x" * (ANNOTATIONS_BYTES // 100) for number in range(100)
    }
    labels = {f"label-{number}": "y" * 60 for number in range(100)}
    pod = create_pod(shop, "long", NODE_NAME, annotations=annotations_by_key, labels=labels)

    (address,) = await agent.add("long", CNI_ARGS=cni_args_of(pod))
    delete_pod(shop, "long")
    await until_uncached(cluster, "long")
    await agent.delete("long", CNI_ARGS=cni_args_of(pod))

    assert address.startswith("10.8.1.")
    assert pod["metadata"]["annotations"] == annotations_by_key
    assert not await agent.claims()


async def test_a_pod_of_several_containers_has_one_address(
    shop: ApiServer, agent: AgentHarness
) -> None:
    """A00008."""
    containers = [{"name": f"c-{number}", "image": "none"} for number in range(4)]
    body = {
        "metadata": {"name": "many", "annotations": {IPPOOL: '{"ipv4":["wan"]}'}},
        "spec": ONE_CONTAINER | {"containers": containers, "nodeName": NODE_NAME},
    }
    answer = await asyncio.to_thread(shop.request, "POST", PODS_PATH, body)

    added = await agent.add("many", CNI_ARGS=cni_args_of(answer.body))

    assert [address[:7] for address in added] == ["10.7.1."]
    assert len(await agent.claims()) == 1


def create_pod_with(server: ApiServer, name: str, **annotations: str) -> Object:
    keys = {"ippool": IPPOOL, "ippools": IPPOOLS, "networks": NETWORKS, "default": DEFAULT_NETWORK}
    annotations_by_key = {keys[key]: text for key, text in annotations.items()}
    return create_pod(server, name, NODE_NAME, annotations=annotations_by_key)


async def test_a_pool_serves_the_network_that_its_multus_name_lists(
    shop: ApiServer, agent: AgentHarness
) -> None:
    """D00009."""
    lan = '{"ipv4":["lan"]}'
    first = create_pod_with(shop, "first", ippool=lan, default="shop/lan")
    named = [{"interface": "eth0", "ipv4": ["any"]}, {"interface": "net1", "ipv4": ["lan"]}]
    second = create_pod_with(shop, "second", ippools=json.dumps(named), networks="shop/lan")
    unnamed = [{"ipv4": ["any"]}, {"ipv4": ["lan"]}]
    third = create_pod_with(shop, "third", ippools=json.dumps(unnamed), networks="shop/lan")

    (address,) = await agent.add("first", CNI_ARGS=cni_args_of(first))
    assert address.startswith("10.6.1.")
    for name, pod in (("second", second), ("third", third)):
        await agent.add(name, CNI_ARGS=cni_args_of(pod))
        (address,) = await agent.add(name, CNI_ARGS=cni_args_of(pod), CNI_IFNAME="net1")
        assert address.startswith("10.6.1.")


@pytest.mark.parametrize("pools", ["named", "unnamed", "single"])
async def test_an_add_is_refused_when_its_pool_is_for_another_network(
    shop: ApiServer, agent: AgentHarness, pools: str
) -> None:
    """D00010."""
    items = [{"interface": "eth0", "ipv4": ["any"]}, {"interface": "net1", "ipv4": ["lan"]}]
    if pools == "unnamed":
        items = [{"ipv4": item["ipv4"]} for item in items]
    if pools == "single":
        pod = create_pod_with(shop, "web", ippool='{"ipv4":["lan"]}', default="shop/wan")
    else:
        pod = create_pod_with(shop, "web", ippools=json.dumps(items), networks="shop/wan")

    # The ADD of eth0 checks the pools of all interfaces.
    refused = await agent.call("ADD", "web", CNI_ARGS=cni_args_of(pod))

    # The error calls an unnamed interface by its index in the list.
    nic = {"named": "net1", "unnamed": "1", "single": "eth0"}[pools]
    message = refused.error["msg"] + refused.error["details"]
    text = f"the spec.multusName [shop/lan] in the IPPool lan used by the Pod interface {nic}"
    assert f"{text} is not matched" in message
    assert "shop/wan" in message
    assert not await agent.claims()


@pytest.mark.parametrize(
    "networks",
    [json.dumps(LAN_AND_WAN, separators=(",", ":")), json.dumps(LAN_AND_WAN, indent=2)],
    ids=["M00036 compact", "M00037 indented"],
)
async def test_a_list_of_networks_is_read_from_compact_and_indented_json(
    shop: ApiServer, agent: AgentHarness, networks: str
) -> None:
    """The pool of net1 serves only the first network, so the order matters."""
    items = [
        {"interface": "eth0", "ipv4": ["any"]},
        {"interface": "net1", "ipv4": ["lan"]},
        {"interface": "net2", "ipv4": ["wan"]},
    ]
    pod = create_pod_with(shop, "web", ippools=json.dumps(items), networks=networks)

    added = [
        await agent.add("web", CNI_ARGS=cni_args_of(pod), CNI_IFNAME=nic)
        for nic in ("eth0", "net1", "net2")
    ]

    assert [address[:7] for (address,) in added] == ["10.8.1.", "10.6.1.", "10.7.1."]
