"""STATUS returns 50 if no ADD can succeed, and 51 if a Pod of the node has a quarantined address.

The default call is for eth0 of Pod shop/web-0, container c-web-0.
"""

from __future__ import annotations

from typing import Any

import pytest

from core.domain.configuration.commands import ApplyPool, ApplyRecord, QuarantineAddress
from core.domain.events import RecordDefined
from core.domain.model import Pool
from core.domain.patterns.labels import LabelSelector
from core.eventstore.memory_store import MemoryStore
from nodeagent.agent import Agent
from nodeagent.handlers.status_handler import ADD_RANGES, CHECK_POOLS, STATUS_CACHED_S
from nodeagent.settings.agent_settings import Settings
from tests.support.agent_harness import AgentHarness, ManualClock, running
from tests.support.faulty_store import FaultyStore


async def status(agent: AgentHarness, **ipam: Any) -> tuple[int, str]:
    """Code and message of a STATUS; code 0 if an ADD can be served."""
    reply = await agent.call("STATUS", conf=agent.netconf(ipam=ipam))
    if reply.status == 0:
        assert reply.body == b""
        return 0, ""
    return reply.error["code"], reply.error["msg"]


async def test_status_succeeds_with_a_free_address(agent: AgentHarness) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.11")
    await agent.add()

    assert await status(agent) == (0, "")


async def test_status_returns_50_for_a_full_pool(agent: AgentHarness) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10")
    await agent.add()

    assert await status(agent) == (50, "all IP addresses used out: IPv4 IPPools [lan]")


async def test_status_returns_50_when_one_family_is_full(agent: AgentHarness) -> None:
    await agent.pool("lan-4", "10.6.0.0/24", "10.6.0.10-10.6.0.20")
    await agent.pool("lan-6", "fd00:6::/64", "fd00:6::10")
    await agent.add()

    assert await status(agent) == (50, "all IP addresses used out: IPv6 IPPools [lan-6]")


async def test_status_succeeds_if_one_of_several_pools_has_a_free_address(
    agent: AgentHarness,
) -> None:
    await agent.pool("a", "10.6.0.0/24", "10.6.0.10")
    await agent.pool("b", "10.7.0.0/24", "10.7.0.10-10.7.0.11")
    await agent.add()

    assert await status(agent) == (0, "")


async def test_default_pools_do_not_count_if_the_netconf_names_pools(
    agent: AgentHarness,
) -> None:
    await agent.pool("a", "10.6.0.0/24", "10.6.0.10-10.6.0.20")
    await agent.pool("tiny-1", "10.7.0.0/24", "10.7.0.10", default=False)
    await agent.add(conf=agent.netconf(ipam={"default_ipv4_ippool": ["tiny-*"]}))

    full_status = await status(agent, default_ipv4_ippool=["tiny-*"])
    free_status = await status(agent)

    assert full_status == (50, "all IP addresses used out: IPv4 IPPools [tiny-1]")
    assert free_status == (0, "")


async def test_status_returns_50_without_a_pool(agent: AgentHarness) -> None:
    assert await status(agent) == (
        50,
        "no IPPool available, no IPPool can be used on this node",
    )


async def test_status_succeeds_with_only_a_pool_that_is_not_default(agent: AgentHarness) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.20", default=False)

    assert await status(agent) == (0, "")


async def test_status_returns_50_for_a_pattern_that_matches_no_pool(agent: AgentHarness) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.20")

    code, text = await status(agent, default_ipv4_ippool=["absent-*"])

    assert (code, "no IPPool available" in text) == (50, True)


@pytest.mark.parametrize(
    "fields",
    [
        {"disabled": True},
        {"node_names": ("node-9",)},
        {"node_affinity": LabelSelector({"rack": "b"})},
    ],
)
async def test_status_returns_50_for_a_pool_that_this_node_cannot_use(
    agent: AgentHarness, fields: dict[str, Any]
) -> None:
    await agent.apply(ApplyRecord(RecordDefined("Node", "", "node-1", labels={"rack": "a"})))
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10", **fields)

    code, text = await status(agent)

    assert code == 50
    assert text == "no IPPool available, none of the IPv4 IPPools [lan] can be used on this node"


async def test_the_details_of_status_50_differ_for_no_pool_and_for_a_full_pool(
    agent: AgentHarness, clock: ManualClock
) -> None:
    without_pools = (await agent.call("STATUS")).error["details"]
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10")
    await agent.add()
    clock.now += STATUS_CACHED_S

    with_a_full_pool = (await agent.call("STATUS")).error["details"]

    assert without_pools == CHECK_POOLS
    assert with_a_full_pool == ADD_RANGES


async def test_the_status_is_cached_for_a_short_time(
    agent: AgentHarness, clock: ManualClock
) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10")
    await agent.add()
    full_status = await status(agent)
    pool = Pool("b", family=4, subnet="10.7.0.0/24", ips=("10.7.0.10",), default=True)
    await agent.apply(ApplyPool(pool))

    cached_status = await status(agent)
    clock.now += STATUS_CACHED_S
    later_status = await status(agent)

    assert (full_status[0], cached_status[0], later_status[0]) == (50, 50, 0)


async def test_status_returns_50_if_the_claims_of_the_pool_have_reached_records_max(
    settings: Settings, memory_store: MemoryStore
) -> None:
    async with running(settings._replace(records_max=1), memory_store) as node:
        await node.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.99")
        await node.add()

        assert (await status(node))[0] == 50


async def test_status_returns_51_for_a_quarantined_address_in_use_on_this_node(
    agent: AgentHarness,
) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.20")
    (address,) = await agent.add()
    plain_address = address.partition("/")[0]
    await agent.apply(QuarantineAddress(plain_address, "seen on the wire", "aa:bb:cc:dd:ee:ff"))

    code, text = await status(agent)

    assert code == 51
    assert text == f"Pods of this node hold quarantined addresses: {plain_address}"


async def test_status_ignores_quarantined_addresses_that_this_node_does_not_use(
    agent: AgentHarness, settings: Settings, memory_store: MemoryStore
) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.20")
    await agent.apply(QuarantineAddress("10.6.0.19", "seen on the wire"))
    other_settings = settings._replace(node_name="node-2", socket_path=f"{settings.socket_path}2")
    async with running(other_settings, memory_store) as other:
        (address,) = await other.add("web-9")
    await agent.apply(QuarantineAddress(address.partition("/")[0], "seen on the wire"))

    assert await status(agent) == (0, "")


async def test_status_returns_50_when_the_agent_is_not_ready(
    settings: Settings, memory_store: MemoryStore
) -> None:
    agent = Agent(settings, memory_store)
    await agent.open_servers()

    code, text = await status(AgentHarness(agent))

    await agent.stop()
    assert (code, text) == (50, "the agent has not opened its event writer yet")


async def test_status_returns_50_when_etcd_does_not_answer(
    settings: Settings, memory_store: MemoryStore
) -> None:
    store = FaultyStore(memory_store)
    async with running(settings, store) as node:
        await node.pool("lan", "10.6.0.0/24", "10.6.0.10")
        store.is_unavailable = True

        code, text = await status(node)
        store.is_unavailable = False

    assert code == 50
    assert "etcd did not answer the last call" in text
