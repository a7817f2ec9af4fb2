"""If a Pod got no DEL, the ADD of the next Pod of its name releases the old addresses."""

from __future__ import annotations

import asyncio

import pytest

from core.allocation.allocator import AllocatorSettings
from core.domain.events import AddressesReleased
from core.errors import AddressesUsedOut
from core.eventstore.kv import KeyValueStore
from tests.support.node_harness import NodeHarness, addresses, check_everything, pod, pool

IPPOOLS = "ipam.spidernet.io/ippools"


async def test_a_new_pod_of_the_same_name_supersedes_the_old_pod(node: NodeHarness) -> None:
    await node.apply(pool("v4", "10.6.0.10-10.6.0.20"))
    old = await node.add(pod("web-0", "uid-old"))

    new = await node.add(pod("web-0", "uid-new"))

    assert addresses(new).isdisjoint(addresses(old))
    state = await check_everything(node)
    assert set(state.claims) == addresses(new)
    released = [
        recorded.event
        for recorded in await node.log()
        if isinstance(recorded.event, AddressesReleased)
    ]
    assert [event.reason for event in released] == ["superseded"]


async def test_a_new_pod_gets_the_old_pods_address_if_the_pool_is_full(
    node: NodeHarness,
) -> None:
    await node.apply(pool("v4", "10.6.0.10"), pool("v6", "fd00:6::10"))
    old = await node.add(pod("web-0", "uid-old"))

    new = await node.add(pod("web-0", "uid-new"))

    assert addresses(new) == addresses(old)
    assert new.endpoint.uid == "uid-new"
    state = await check_everything(node)
    assert {revised.claim.holder for revised in state.claims.values()} == {"pod/uid-new"}
    with pytest.raises(AddressesUsedOut):
        await node.add(pod("web-1"))


async def test_concurrent_new_pods_get_the_old_pods_addresses_if_the_pool_is_full(
    node: NodeHarness,
) -> None:
    await node.apply(pool("v4", "10.6.0.1-10.6.0.40"))
    old = await asyncio.gather(
        *(node.add(pod(f"web-{number}", f"old-{number}")) for number in range(40))
    )

    new = await asyncio.gather(
        *(node.add(pod(f"web-{number}", f"new-{number}")) for number in range(40))
    )

    assert [addresses(added) for added in new] == [addresses(added) for added in old]
    await check_everything(node)


async def test_both_nics_of_a_new_pod_get_addresses_of_the_old_pod(
    node: NodeHarness,
) -> None:
    await node.apply(pool("a", "10.6.0.10-10.6.0.11", default=False))
    two_nics = {IPPOOLS: '[{"interface":"eth0","ipv4":["a"]},{"interface":"net1","ipv4":["a"]}]'}
    await node.add(pod("web-0", "uid-old", annotations=two_nics))

    new = await node.add(pod("web-0", "uid-new", annotations=two_nics))

    assert addresses(new) == {"10.6.0.10", "10.6.0.11"}
    await check_everything(node)


async def test_a_new_pod_gets_the_old_pods_address_if_the_pool_has_records_max_claims(
    store: KeyValueStore, cluster_name: str
) -> None:
    settings = AllocatorSettings(records_max=1)
    async with NodeHarness(store, cluster=cluster_name, settings=settings) as node:
        await node.apply(pool("v4", "10.6.0.1-10.6.0.200"))
        old = await node.add(pod("web-0", "uid-old"))

        assert addresses(await node.add(pod("web-0", "uid-new"))) == addresses(old)


async def test_the_address_of_a_superseded_pod_cools_down_although_cool_down_is_off(
    store: KeyValueStore, cluster_name: str
) -> None:
    settings = AllocatorSettings(order="sequential")
    async with NodeHarness(store, cluster=cluster_name, settings=settings, cool_down_s=0) as node:
        await node.apply(pool("v4", "10.6.0.10-10.6.0.12"))
        old = await node.add(pod("web-0", "uid-old"))
        new = await node.add(pod("web-0", "uid-new"))

        other = await node.add(pod("web-1"))

        assert (addresses(old), addresses(new)) == ({"10.6.0.10"}, {"10.6.0.11"})
        assert addresses(other) == {"10.6.0.12"}
        assert addresses(await node.add(pod("web-2"))) == addresses(old)  # no other address is free
        await check_everything(node)
