"""ADD and DEL through the framed socket return exact results and change the claims.

The default call is for eth0 of Pod shop/web-0, container c-web-0.
"""

from __future__ import annotations

import asyncio

import pytest

from core.domain.model import Route
from core.eventstore.memory_store import MemoryStore
from nodeagent.cni_protocol.failures import NO_POOL, USED_OUT
from nodeagent.settings.agent_settings import Settings
from tests.support.agent_harness import AgentHarness, running


async def test_an_add_returns_the_result_of_cni_version_1_1_0(agent: AgentHarness) -> None:
    await agent.pool("lan-4", "10.6.0.0/24", "10.6.0.10", gateway="10.6.0.1")

    reply = await agent.call("ADD")

    assert reply.status == 0
    assert reply.body.decode() == (
        "{\n"
        '    "cniVersion": "1.1.0",\n'
        '    "ips": [\n'
        "        {\n"
        '            "address": "10.6.0.10/24",\n'
        '            "gateway": "10.6.0.1"\n'
        "        }\n"
        "    ],\n"
        '    "routes": [\n'
        "        {\n"
        '            "dst": "0.0.0.0/0",\n'
        '            "gw": "10.6.0.1"\n'
        "        }\n"
        "    ],\n"
        '    "dns": {}\n'
        "}\n"
    )


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0"])
async def test_results_before_1_0_0_have_the_family_of_every_address(
    agent: AgentHarness, version: str
) -> None:
    await agent.pool("lan-4", "10.6.0.0/24", "10.6.0.10")
    await agent.pool("lan-6", "fd00:6::/64", "fd00:6::10", gateway="fd00:6::1")

    reply = await agent.call("ADD", conf=agent.netconf(version))

    assert reply.result == {
        "cniVersion": version,
        "ips": [
            {"version": "4", "address": "10.6.0.10/24"},
            {"version": "6", "address": "fd00:6::10/64", "gateway": "fd00:6::1"},
        ],
        "routes": [{"dst": "::/0", "gw": "fd00:6::1"}],
        "dns": {},
    }


async def test_an_add_uses_pools_and_clean_gateway_of_the_netconf(
    agent: AgentHarness,
) -> None:
    await agent.pool("other", "10.5.0.0/24", "10.5.0.10")
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10", gateway="10.6.0.1", default=False)
    conf = agent.netconf(ipam={"default_ipv4_ippool": ["lan"], "clean_gateway": True})

    result = (await agent.call("ADD", conf=conf)).result

    assert result["ips"] == [{"address": "10.6.0.10/24", "gateway": "10.6.0.1"}]
    assert "routes" not in result


async def test_routes_of_pool_annotation_and_gateway_come_in_this_order(
    agent: AgentHarness,
) -> None:
    pool_route = Route("10.20.0.0/16", "10.6.0.2")
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10", gateway="10.6.0.1", routes=(pool_route,))
    await agent.pod("web-0", {"routes": [{"dst": "10.30.0.0/16", "gw": "10.6.0.3"}]})

    first_routes = (await agent.call("ADD")).result["routes"]
    repeated_routes = (await agent.call("ADD")).result["routes"]

    assert first_routes == [
        {"dst": "10.20.0.0/16", "gw": "10.6.0.2"},
        {"dst": "10.30.0.0/16", "gw": "10.6.0.3"},
        {"dst": "0.0.0.0/0", "gw": "10.6.0.1"},
    ]
    assert repeated_routes == first_routes


async def test_a_route_that_no_nic_can_take_is_logged(
    agent: AgentHarness, caplog: pytest.LogCaptureFixture
) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10")
    await agent.pod("web-0", {"routes": [{"dst": "10.30.0.0/16", "gw": "10.7.0.3"}]})
    caplog.set_level("INFO", "nodeagent.handlers.add_handler")

    assert "routes" not in (await agent.call("ADD")).result

    (log_record,) = [
        record for record in caplog.records if record.name == "nodeagent.handlers.add_handler"
    ]
    assert log_record.__dict__["fields"] == {
        "pod": "shop/web-0",
        "route": "10.30.0.0/16 via 10.7.0.3",
    }


async def test_a_delete_releases_the_addresses_of_the_add(agent: AgentHarness) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10")
    await agent.add()

    await agent.delete()

    assert await agent.claims() == {}
    assert await agent.endpoint() is None


async def test_a_repeated_add_returns_the_same_result_and_writes_nothing(
    agent: AgentHarness,
) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.99")
    first = await agent.call("ADD")
    transactions = agent.process.parts.writer.transactions

    second = await agent.call("ADD")

    assert second == first
    assert len(await agent.claims()) == 1
    # The second ADD sends one transaction, which fails because the keys exist already.
    assert agent.process.parts.writer.transactions == transactions + 1


async def test_a_repeated_delete_and_a_delete_of_an_unknown_pod_succeed(
    agent: AgentHarness,
) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10")
    await agent.add()

    await agent.delete()
    await agent.delete()
    await agent.delete("never-seen")

    assert await agent.claims() == {}


@pytest.mark.parametrize("netns", ["", "/run/netns/vanished"])
async def test_a_delete_needs_no_network_namespace(agent: AgentHarness, netns: str) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10")
    await agent.add()

    await agent.delete(CNI_NETNS=netns)

    assert await agent.claims() == {}


async def test_a_late_delete_of_an_older_sandbox_releases_nothing(agent: AgentHarness) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.99")
    old_addresses = await agent.add(CNI_CONTAINERID="old")
    new_addresses = await agent.add(CNI_CONTAINERID="new")

    await agent.delete(CNI_CONTAINERID="old")

    assert new_addresses == old_addresses
    assert len(await agent.claims()) == 1


async def test_a_delete_with_the_uid_of_another_pod_releases_nothing(
    agent: AgentHarness,
) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.99")
    await agent.add()
    args = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=uid-of-its-predecessor"

    await agent.delete(CNI_ARGS=args)

    assert len(await agent.claims()) == 1


async def test_the_container_id_is_the_pod_name_without_cni_args(agent: AgentHarness) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10")
    await agent.add(CNI_ARGS="", CNI_CONTAINERID="box-7")

    (claim,) = (await agent.claims()).values()

    assert (claim.namespace, claim.pod, claim.holder) == ("default", "box-7", "pod/box-7")
    await agent.delete(CNI_ARGS="", CNI_CONTAINERID="box-7")
    assert await agent.claims() == {}


async def test_a_delete_without_uid_releases_only_its_own_container(agent: AgentHarness) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.99")
    await agent.add(CNI_CONTAINERID="new")
    args = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0"

    await agent.delete(CNI_CONTAINERID="old", CNI_ARGS=args)
    claims_after_old_delete = await agent.claims()
    await agent.delete(CNI_CONTAINERID="new", CNI_ARGS=args)

    assert len(claims_after_old_delete) == 1
    assert await agent.claims() == {}


async def test_the_error_of_a_full_pool_names_the_pool_and_a_remedy(agent: AgentHarness) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10")
    await agent.add("web-0")

    error = (await agent.call("ADD", "web-1")).error

    assert error["code"] == USED_OUT
    assert error["msg"] == (
        "spiderpool IP allocation error: failed to allocate IP addresses in standard mode: failed"
        " to allocate any IPv4 IP address to NIC eth0 from IPPools [lan]: all IP addresses used out"
    )
    assert "add addresses to one of these pools" in error["details"]
    assert len(await agent.claims()) == 1


async def test_a_failed_dual_stack_add_claims_no_address(
    agent: AgentHarness,
) -> None:
    await agent.pool("lan-4", "10.6.0.0/24", "10.6.0.10-10.6.0.99")
    await agent.pool("lan-6", "fd00:6::/64", "fd00:6::10")
    await agent.add("web-0")

    error = (await agent.call("ADD", "web-1")).error

    assert "failed to allocate any IPv6 IP address" in error["msg"]
    assert len(await agent.claims()) == 2, "the addresses of web-0"


async def test_an_add_without_any_pool_fails(agent: AgentHarness) -> None:
    error = (await agent.call("ADD")).error

    assert error["code"] == NO_POOL
    assert error["msg"].startswith("spiderpool IP allocation error: ")
    assert "no IPPool available, no pool selection rules of any type are specified" in error["msg"]


async def test_concurrent_adds_get_different_addresses(agent: AgentHarness) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.73")
    pool_size = 64

    answers = await asyncio.gather(*(agent.add(f"web-{number}") for number in range(pool_size)))

    assert len({address for (address,) in answers}) == pool_size
    assert len(await agent.claims()) == pool_size


async def test_netconf_keys_match_in_any_case_and_unknown_keys_are_ignored(
    agent: AgentHarness,
) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10", default=False)
    conf = agent.netconf("1.0.0", unknown={"a": [1]}, prevResult=None)
    conf["CNIVersion"] = conf.pop("cniVersion")
    conf["ipam"] |= {"Default_IPv4_IPPool": ["lan"], "default_ipv6_ippool": None, "other": 1}

    assert await agent.add(conf=conf) == ["10.6.0.10/24"]


async def test_version_returns_the_supported_versions_for_any_input(agent: AgentHarness) -> None:
    reply = await agent.call("VERSION", conf=b"", CNI_CONTAINERID="")

    assert reply.result == {
        "cniVersion": "1.1.0",
        "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    }


async def test_an_add_gets_the_lowest_free_address_in_sequential_order(
    settings: Settings, memory_store: MemoryStore
) -> None:
    async with running(settings._replace(address_order="sequential"), memory_store) as node:
        await node.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.20")

        answers = [await node.add(f"web-{number}") for number in range(3)]

    assert answers == [["10.6.0.10/24"], ["10.6.0.11/24"], ["10.6.0.12/24"]]


async def test_no_address_of_a_disabled_family_is_allocated(
    settings: Settings, memory_store: MemoryStore
) -> None:
    selection = settings.selection._replace(ipv6_enabled=False)
    async with running(settings._replace(selection=selection), memory_store) as node:
        await node.pool("lan-4", "10.6.0.0/24", "10.6.0.10")
        dual_stack_settings = settings._replace(
            node_name="node-2", socket_path=f"{settings.socket_path}2"
        )
        # An agent with both families creates the IPv6 pool.
        async with running(dual_stack_settings, memory_store) as other:
            await other.pool("lan-6", "fd00:6::/64", "fd00:6::10")

            assert await node.add() == ["10.6.0.10/24"]


async def test_an_add_fails_if_the_claims_of_the_pool_have_reached_records_max(
    settings: Settings, memory_store: MemoryStore
) -> None:
    async with running(settings._replace(records_max=2), memory_store) as node:
        await node.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.99")
        await node.add("web-0")
        await node.add("web-1")

        error = (await node.call("ADD", "web-2")).error

    assert "threshold of IP records(<=2) for IPPool lan exceeded" in error["msg"]
