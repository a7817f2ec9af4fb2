"""A DEL can be repeated and never releases another Pod's address; released addresses cool down.

Keys under the prefix ``rest`` mark addresses in cool-down.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from core.allocation.releaser import ENDPOINTS_MAX, Released, ReleaseRequest
from core.configuration.configurator import RANGE_GUARDS_MAX
from core.domain.claims.claim_decisions import ReleaseDecision
from core.domain.configuration.commands import ApplyPool, DeletePool, RetirePool
from core.errors import Refused
from core.eventstore.kv import (
    Delete,
    Get,
    Guard,
    KeyValueStore,
    Put,
    ReadResult,
    TxnResult,
    Write,
)
from core.eventstore.memory_store import MemoryStore
from core.eventstore.retry_policies import retry_lost_races
from tests.support.node_harness import (
    TEST_CAUSE,
    NodeHarness,
    addresses,
    check_everything,
    gather_outcomes,
    pod,
    pool,
)


async def test_a_del_releases_every_address_of_the_endpoint(node: NodeHarness) -> None:
    await node.apply(pool("v4", "10.6.0.10-10.6.0.20"), pool("v6", "fd00:6::10-fd00:6::20"))
    added = await node.add(pod("web-0"))

    released = await node.delete(pod("web-0"))

    assert set(released.addresses) == addresses(added)
    state = await check_everything(node)
    assert not state.claims
    assert not state.endpoints


async def test_a_repeated_del_is_a_success_that_does_nothing(node: NodeHarness) -> None:
    await node.apply(pool("v4", "10.6.0.10-10.6.0.20"))
    await node.add(pod("web-0"))
    await node.delete(pod("web-0"))
    before = await node.log()

    repeated = await node.delete(pod("web-0"))

    assert repeated.addresses == ()
    assert await node.log() == before


class _ReadCountingStore(MemoryStore):
    reads = 0

    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        self.reads += 1
        return await super().read(gets, revision=revision)


async def test_a_del_reads_nothing_if_this_agent_claimed_the_addresses() -> None:
    store = _ReadCountingStore()
    async with NodeHarness(store) as node:
        await node.apply(pool("v4", "10.6.0.10-10.6.0.20"), pool("v6", "fd00:6::10-fd00:6::20"))
        added = await node.add(pod("web-0"))
        store.reads = 0

        released = await node.delete(pod("web-0"))

        assert store.reads == 0
        assert set(released.addresses) == addresses(added)
        state = await check_everything(node)
        assert not state.claims
        assert not state.endpoints


async def test_a_release_after_an_undecided_release_reads_nothing() -> None:
    store = _ReadCountingStore()
    async with NodeHarness(store, "node-a") as claiming_node:
        await claiming_node.apply(pool("v4", "10.6.0.10-10.6.0.20"))
        added = await claiming_node.add(pod("web-0"))
    decisions = [
        ReleaseDecision(ends=False, why="the API server has to be asked", needs_check=True),
        ReleaseDecision(ends=True, why="the Pod has ended"),
    ]
    async with NodeHarness(store, "node-b") as node:  # has no cache, like a restarted agent
        request = ReleaseRequest("deleted", "CNI DEL", TEST_CAUSE)
        undecided = await node.releaser.release(added.endpoint.key, lambda _: decisions[0], request)
        store.reads = 0

        released = await node.releaser.release(added.endpoint.key, lambda _: decisions[1], request)

        assert (undecided.addresses, undecided.why) == ((), "the API server has to be asked")
        assert store.reads == 0
        assert set(released.addresses) == addresses(added)
        assert not (await check_everything(node)).claims


async def test_a_del_releases_the_newer_claim_of_the_pod_if_the_cache_is_stale(
    node: NodeHarness,
) -> None:
    await node.apply(pool("v4", "10.6.0.10-10.6.0.20"))
    await node.add(pod("web-0"))
    async with NodeHarness(node.store, "node-b", cluster=node.keys.cluster) as other_node:
        await other_node.delete(pod("web-0"))
        newer = await other_node.add(pod("web-0"))

        released = await node.delete(pod("web-0"))

    assert set(released.addresses) == addresses(newer)
    assert not (await check_everything(node)).claims


async def test_a_late_del_of_an_older_pod_is_a_no_op_although_the_cache_is_stale(
    node: NodeHarness,
) -> None:
    await node.apply(pool("v4", "10.6.0.10-10.6.0.20"))
    await node.add(pod("web-0", "uid-old"))
    async with NodeHarness(node.store, "node-b", cluster=node.keys.cluster) as other_node:
        newer = await other_node.add(pod("web-0", "uid-new"))

        late_del = await node.delete(pod("web-0", "uid-old"))

    assert late_del.addresses == ()
    assert set((await check_everything(node)).claims) == addresses(newer)


async def test_a_del_of_the_next_pod_releases_its_addresses_if_the_cache_is_stale(
    node: NodeHarness,
) -> None:
    await node.apply(pool("v4", "10.6.0.10-10.6.0.20"))
    await node.add(pod("web-0", "uid-old"))
    async with NodeHarness(node.store, "node-b", cluster=node.keys.cluster) as other_node:
        newer = await other_node.add(pod("web-0", "uid-new"))

        released = await node.delete(pod("web-0", "uid-new"))

    assert set(released.addresses) == addresses(newer)
    assert not (await check_everything(node)).claims


async def test_the_cache_of_endpoints_is_bounded(node: NodeHarness) -> None:
    await node.apply(pool("v4", "10.6.0.0-10.6.15.255"))
    names = [f"web-{number}" for number in range(ENDPOINTS_MAX + 1)]
    for name in names:
        await node.add(pod(name))

    cached = [name for name in names if node.releaser.cache.pop(("shop", name)) is not None]

    assert cached == names[1:]


async def test_a_late_del_of_an_older_sandbox_is_a_no_op(node: NodeHarness) -> None:
    await node.apply(pool("v4", "10.6.0.10-10.6.0.20"))
    await node.add(pod("web-0"), container="old")
    newer = await node.add(pod("web-0"), container="new")

    late_del = await node.delete(pod("web-0"), container="old")

    assert late_del.addresses == ()
    assert set((await check_everything(node)).claims) == addresses(newer)


async def test_a_late_del_of_an_older_pod_is_a_no_op(node: NodeHarness) -> None:
    await node.apply(pool("v4", "10.6.0.10-10.6.0.20"))
    await node.add(pod("web-0", "uid-old"))
    newer = await node.add(pod("web-0", "uid-new"))

    late_del = await node.delete(pod("web-0", "uid-old"))

    assert late_del.addresses == ()
    assert set((await check_everything(node)).claims) == addresses(newer)


async def test_a_del_of_a_living_pod_is_a_no_op(node: NodeHarness) -> None:
    await node.apply(pool("v4", "10.6.0.10-10.6.0.20"))
    newer = await node.add(pod("web-0"))

    released = await node.delete(pod("web-0", alive=True))

    assert released.why == "the Pod is alive"
    assert set((await check_everything(node)).claims) == addresses(newer)


async def test_a_release_deletes_the_endpoint_although_its_claim_is_missing(
    node: NodeHarness,
) -> None:
    await node.apply(pool("v4", "10.6.0.10-10.6.0.20"))
    added = await node.add(pod("web-0"))
    (address,) = addresses(added)
    await node.store.commit([], [Delete(node.keys.ip_of(address))])  # corrupt the state

    released = await node.delete(pod("web-0"))

    assert released.addresses == ()
    assert not (await node.read_ledger()).endpoints


async def test_a_released_address_is_not_claimed_while_other_addresses_are_free(
    node: NodeHarness,
) -> None:
    await node.apply(pool("v4", "10.6.0.10-10.6.0.12"))
    cooling_down = addresses(await node.add(pod("web-0")))
    await node.delete(pod("web-0"))

    new_addresses = [addresses(await node.add(pod(f"new-{number}"))) for number in range(2)]

    assert all(cooling_down.isdisjoint(addresses) for addresses in new_addresses)


async def test_a_pod_gets_its_released_address_again_during_the_cool_down(
    node: NodeHarness,
) -> None:
    await node.apply(pool("v4", "10.6.0.10-10.6.0.250"), pool("v6", "fd00:6::10-fd00:6::ffff"))
    old_addresses = addresses(await node.add(pod("web-0")))
    await node.delete(pod("web-0"))

    new_addresses = addresses(await node.add(pod("web-0")))

    assert new_addresses == old_addresses
    cool_down_keys = await node.store.read([Get(*node.keys.range_of("rest"))])
    assert not cool_down_keys.ranges[0].kvs
    await check_everything(node)


async def test_a_pod_gets_another_address_in_cool_down_if_its_old_one_is_claimed(
    node: NodeHarness,
) -> None:
    await node.apply(pool("v4", "10.6.0.10-10.6.0.11"))
    old_addresses = addresses(await node.add(pod("web-0")))
    await node.delete(pod("web-0"))
    of_web_1, of_web_2 = [addresses(await node.add(pod(f"web-{number}"))) for number in (1, 2)]
    await node.delete(pod("web-1"))

    new_addresses = addresses(await node.add(pod("web-0")))

    assert of_web_2 == old_addresses
    assert new_addresses == of_web_1
    await check_everything(node)


async def test_an_address_in_cool_down_is_used_if_no_other_is_free(node: NodeHarness) -> None:
    await node.apply(pool("v4", "10.6.0.10-10.6.0.11"))
    released_addresses = addresses(await node.add(pod("web-0")))
    await node.add(pod("web-1"))
    await node.delete(pod("web-0"))

    new_addresses = addresses(await node.add(pod("web-2")))

    assert new_addresses == released_addresses
    cool_down_keys = await node.store.read([Get(*node.keys.range_of("rest"))])
    assert not cool_down_keys.ranges[0].kvs
    await check_everything(node)


async def test_a_pool_in_use_cannot_be_shrunk_or_deleted(node: NodeHarness) -> None:
    await node.apply(pool("v4", "10.6.0.10-10.6.0.11"))
    claimed = addresses(await node.add(pod("web-0"))) | addresses(await node.add(pod("web-1")))
    removed, remaining = sorted(claimed)

    with pytest.raises(Refused) as shrinking:
        await node.configurator.apply(ApplyPool(pool("v4", remaining)), TEST_CAUSE)
    with pytest.raises(Refused):
        await node.configurator.apply(DeletePool("v4"), TEST_CAUSE)

    assert removed in str(shrinking.value)
    assert "used by Pod shop/web-" in str(shrinking.value)
    await check_everything(node)


class _BusyStore(MemoryStore):
    """A store that writes ``key`` before each commit."""

    key = b""

    async def commit(
        self, guards: Sequence[Guard], writes: Sequence[Write], otherwise: Sequence[Get] = ()
    ) -> TxnResult:
        if self.key:
            await super().commit([], [Put(self.key, b"")])
        return await super().commit(guards, writes, otherwise)


async def test_claims_between_the_ranges_of_a_pool_do_not_prevent_deleting_the_pool(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "core.configuration.configurator.retry_lost_races", lambda: retry_lost_races(0.05)
    )
    # There are too many ranges for one guard each: some guards also cover gaps between ranges.
    scattered = [f"10.6.0.{2 * number}" for number in range(3 * (RANGE_GUARDS_MAX // 2))]
    store = _BusyStore()
    async with NodeHarness(store) as node:
        await node.apply(pool("holes", *scattered, "10.6.200.1"), pool("b", "10.6.100.1"))
        store.key = node.keys.ip_of("10.6.100.1")

        await node.apply(DeletePool("holes"))

        assert set(node.view.current.pools) == {"b"}


async def test_a_retired_pool_gives_no_address_and_can_be_deleted_when_empty(
    node: NodeHarness,
) -> None:
    await node.apply(pool("v4", "10.6.0.10-10.6.0.11"), pool("b", "10.6.1.10-10.6.1.20"))
    await node.add(pod("web-0", annotations={"ipam.spidernet.io/ippool": '{"ipv4":["v4"]}'}))
    await node.apply(RetirePool("v4"))

    other = await node.add(pod("web-1"))
    await node.delete(pod("web-0"))
    await node.apply(DeletePool("v4"))

    assert other.endpoint.nics[0].ipv4_pool == "b"
    assert set((await check_everything(node)).pools) == {"b"}


async def test_concurrent_commands_create_only_one_of_several_overlapping_pools(
    store: KeyValueStore, cluster_name: str
) -> None:
    nodes = [NodeHarness(store, f"admin-{number}", cluster=cluster_name) for number in range(5)]
    for admin in nodes:
        await admin.__aenter__()

    results = await gather_outcomes(
        *(
            admin.configurator.apply(
                ApplyPool(pool(f"p-{admin.name}", "10.6.0.10-10.6.0.20")), TEST_CAUSE
            )
            for admin in nodes
        )
    )

    assert sum(not isinstance(result, BaseException) for result in results) == 1
    assert sum(isinstance(result, Refused) for result in results) == 4
    await check_everything(nodes[0])
    for admin in nodes:
        await admin.__aexit__(None, None, None)


async def test_a_del_of_the_current_sandbox_ends_all_claims_even_for_an_unknown_nic(
    node: NodeHarness,
) -> None:
    await node.apply(pool("a", "10.6.0.10", default=False), pool("b", "10.6.1.10", default=False))
    two_nics = {"ipam.spidernet.io/ippools": '[{"ipv4":["a"]},{"ipv4":["b"]}]'}
    web = pod("web-0", annotations=two_nics)
    await node.add(web)

    of_older_sandbox = await node.delete(web, "net1", container="older")
    of_current_sandbox = await node.delete(web, "net1")

    assert of_older_sandbox == Released((), "the endpoint has no NIC net1")
    assert set(of_current_sandbox.addresses) == {"10.6.0.10", "10.6.1.10"}
    assert not (await check_everything(node)).claims


@pytest.mark.parametrize("releasing_command", ["DEL", "ADD"])
async def test_a_release_replaces_an_expired_lease(
    node: NodeHarness, releasing_command: str
) -> None:
    # A lease can expire while the machine is suspended.
    await node.apply(pool("v4", "10.6.0.10-10.6.0.20"))
    for cooldown in (node.cooldown, node.cooldown.of_older_pods):
        await node.store.revoke_lease(await cooldown.lease())
    old = await node.add(pod("web-0", "uid-old"))

    if releasing_command == "DEL":
        assert set((await node.delete(pod("web-0", "uid-old"))).addresses) == addresses(old)
    else:
        await node.add(pod("web-0", "uid-new"))

    cool_down_keys = await node.store.read([Get(*node.keys.range_of("rest"))])
    assert [kv.value for kv in cool_down_keys.ranges[0].kvs] == [b"pod/uid-old"]
    await check_everything(node)
