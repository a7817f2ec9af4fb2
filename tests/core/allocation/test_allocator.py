"""An ADD claims all its addresses in one transaction, or none; a repeated ADD changes nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest

from core.allocation.allocator import AllocatorSettings
from core.domain.configuration.commands import (
    ApplyReservation,
    LiftQuarantine,
    QuarantineAddress,
    RetirePool,
)
from core.domain.events import AddressesClaimed, EndpointChanged
from core.domain.model import Reservation
from core.domain.selection.selection_request import ADDRESSES_MAX, NICS_MAX, SelectionRequest
from core.errors import AddressesUsedOut, NoPoolAvailable, RetriesExhausted, WrongInput
from core.eventstore.kv import Get, Guard, KeyValueStore, Put, TxnResult, Write
from core.eventstore.memory_store import MemoryStore
from core.eventstore.retry_policies import retry_lost_races
from tests.support.node_harness import NodeHarness, addresses, check_everything, pod, pool

IPPOOLS = "ipam.spidernet.io/ippools"


async def test_an_add_claims_one_address_of_each_family_in_one_event(node: NodeHarness) -> None:
    await node.apply(pool("v4", "10.6.0.10-10.6.0.20"), pool("v6", "fd00:6::10-fd00:6::20"))

    added = await node.add(pod("web-0"))

    claimed = [
        recorded for recorded in await node.log() if isinstance(recorded.event, AddressesClaimed)
    ]
    assert len(claimed) == 1
    assert added.tries == 1
    nic = added.endpoint.nics[0]
    assert nic.ipv4.endswith("/16")
    assert nic.ipv6.endswith("/64")
    assert (nic.ipv4_pool, nic.ipv6_pool) == ("v4", "v6")
    assert set((await check_everything(node)).claims) == addresses(added)


async def test_a_repeated_add_writes_nothing_and_returns_the_endpoint(node: NodeHarness) -> None:
    await node.apply(pool("v4", "10.6.0.10-10.6.0.20"))
    first = await node.add(pod("web-0"))
    before = await node.log()

    repeated = await node.add(pod("web-0"))

    assert repeated.endpoint == first.endpoint
    assert not repeated.fresh
    assert await node.log() == before


async def test_a_new_sandbox_of_the_same_pod_keeps_the_address(node: NodeHarness) -> None:
    await node.apply(pool("v4", "10.6.0.10-10.6.0.20"))
    first = await node.add(pod("web-0"), container="old")

    second = await node.add(pod("web-0"), container="new")

    assert addresses(second) == addresses(first)
    assert second.endpoint.nics[0].container == "new"
    assert isinstance((await node.log())[-1].event, EndpointChanged)


async def test_a_pod_with_fixed_addresses_keeps_them_with_a_new_uid(node: NodeHarness) -> None:
    await node.apply(pool("v4", "10.6.0.10-10.6.0.20"))
    first = await node.add(pod("db-0", "uid-1", fixed="statefulset"))

    second = await node.add(pod("db-0", "uid-2", fixed="statefulset"))

    assert addresses(second) == addresses(first)
    assert second.endpoint.uid == "uid-2"
    await check_everything(node)


async def test_a_replica_exchanges_its_address_if_its_annotation_names_a_new_pool(
    node: NodeHarness,
) -> None:
    await node.apply(
        pool("old", "10.6.0.10-10.6.0.20", default=False),
        pool("new", "10.6.1.10-10.6.1.20", default=False),
    )
    key = "ipam.spidernet.io/ippool"
    await node.add(pod("db-0", fixed="statefulset", annotations={key: '{"ipv4":["old"]}'}))

    moved = await node.add(
        pod("db-0", "uid-2", fixed="statefulset", annotations={key: '{"ipv4":["new"]}'})
    )

    assert moved.endpoint.nics[0].ipv4_pool == "new"
    assert set((await check_everything(node)).claims) == addresses(moved)


async def test_a_replica_keeps_its_address_if_the_new_pool_is_full(node: NodeHarness) -> None:
    await node.apply(
        pool("old", "10.6.0.10-10.6.0.20", default=False), pool("new", "10.6.1.10", default=False)
    )
    key = "ipam.spidernet.io/ippool"
    await node.add(pod("other", annotations={key: '{"ipv4":["new"]}'}))
    first = await node.add(pod("db-0", fixed="statefulset", annotations={key: '{"ipv4":["old"]}'}))

    with pytest.raises(AddressesUsedOut):
        await node.add(
            pod("db-0", "uid-2", fixed="statefulset", annotations={key: '{"ipv4":["new"]}'})
        )

    assert addresses(first) <= set((await check_everything(node)).claims)


async def test_the_first_add_claims_for_all_nics_that_the_annotation_names(
    node: NodeHarness,
) -> None:
    await node.apply(
        pool("a", "10.6.0.10-10.6.0.20", default=False),
        pool("b", "10.6.1.10-10.6.1.20", default=False),
    )
    two_nics = {IPPOOLS: '[{"interface":"eth0","ipv4":["a"]},{"interface":"net1","ipv4":["b"]}]'}

    first = await node.add(pod("web-0", annotations=two_nics))
    second = await node.add(pod("web-0", annotations=two_nics), "net1")

    assert [nic.interface for nic in first.endpoint.nics] == ["eth0", "net1"]
    assert addresses(second) == addresses(first)
    claims = [
        recorded for recorded in await node.log() if isinstance(recorded.event, AddressesClaimed)
    ]
    assert len(claims) == 1
    await check_everything(node)


async def test_an_add_gives_its_interface_to_a_nic_if_the_annotation_names_none(
    node: NodeHarness,
) -> None:
    await node.apply(
        pool("a", "10.6.0.10-10.6.0.20", default=False),
        pool("b", "10.6.1.10-10.6.1.20", default=False),
    )
    two_nics = {IPPOOLS: '[{"ipv4":["a"]},{"ipv4":["b"]}]'}

    first = await node.add(pod("web-0", annotations=two_nics))
    second = await node.add(pod("web-0", annotations=two_nics), "net1")

    assert [nic.interface for nic in first.endpoint.nics] == ["eth0", ""]
    assert [nic.interface for nic in second.endpoint.nics] == ["eth0", "net1"]
    with pytest.raises(NoPoolAvailable):
        await node.add(pod("web-0", annotations=two_nics), "net2")
    await check_everything(node)


async def test_two_nics_with_the_same_pool_get_two_addresses(node: NodeHarness) -> None:
    await node.apply(pool("a", "10.6.0.10-10.6.0.11", default=False))
    two_nics = {IPPOOLS: '[{"interface":"eth0","ipv4":["a"]},{"interface":"net1","ipv4":["a"]}]'}

    added = await node.add(pod("web-0", annotations=two_nics))

    assert addresses(added) == {"10.6.0.10", "10.6.0.11"}
    await check_everything(node)


async def test_an_add_claims_nothing_if_the_pool_has_too_few_addresses(
    node: NodeHarness,
) -> None:
    await node.apply(pool("a", "10.6.0.10", default=False))
    two_nics = {IPPOOLS: '[{"interface":"eth0","ipv4":["a"]},{"interface":"net1","ipv4":["a"]}]'}

    with pytest.raises(AddressesUsedOut):
        await node.add(pod("web-0", annotations=two_nics))

    assert not (await check_everything(node)).claims
    await node.add(pod("web-1"), request=SelectionRequest("eth0", default_ipv4_pools=("a",)))


async def test_a_pod_with_the_maximum_of_addresses_can_be_replaced(
    node: NodeHarness,
) -> None:
    # One transaction must claim the new addresses and release the old ones.
    nics = range(ADDRESSES_MAX // 2)
    for number in nics:
        await node.apply(pool(f"v4-{number}", f"10.6.{number}.1-10.6.{number}.2", default=False))
        await node.apply(
            pool(f"v6-{number}", f"fd00:6::{number:x}:1-fd00:6::{number:x}:2", default=False)
        )
    items = [
        {"interface": f"eth{number}", "ipv4": [f"v4-{number}"], "ipv6": [f"v6-{number}"]}
        for number in nics
    ]
    all_nics = {IPPOOLS: json.dumps(items)}
    older = await node.add(pod("web-0", "uid-1", annotations=all_nics))

    newer = await node.add(pod("web-0", "uid-2", annotations=all_nics))

    assert len(addresses(newer)) == ADDRESSES_MAX
    assert addresses(newer).isdisjoint(addresses(older))
    assert len((await check_everything(node)).claims) == ADDRESSES_MAX


async def test_an_add_beyond_nics_max_fails_and_a_del_releases_all_nics(
    node: NodeHarness,
) -> None:
    await node.apply(pool("v4", "10.6.0.1-10.6.0.200"), pool("v6", "fd00:6::1-fd00:6::200"))
    web = pod("web-0")
    for number in range(NICS_MAX):
        await node.add(web, f"eth{number}")

    with pytest.raises(WrongInput, match=f"more than {NICS_MAX} NICs"):
        await node.add(web, "one-too-many")

    assert len((await node.delete(web)).addresses) == 2 * NICS_MAX
    assert not (await check_everything(node)).claims


async def test_no_ipv4_address_is_claimed_if_ipv6_addresses_are_used_out(node: NodeHarness) -> None:
    await node.apply(pool("v4", "10.6.0.10-10.6.0.20"), pool("v6", "fd00:6::10"))
    await node.add(pod("web-0"))

    with pytest.raises(AddressesUsedOut) as failure:
        await node.add(pod("web-1"))

    assert "all IP addresses used out" in str(failure.value)
    assert "[v6]" in str(failure.value)
    assert len((await check_everything(node)).claims) == 2


async def test_the_next_pool_is_used_if_a_pool_is_full(node: NodeHarness) -> None:
    await node.apply(pool("a", "10.6.0.10"), pool("b", "10.6.1.10-10.6.1.11"))

    pools = [
        (await node.add(pod(f"web-{number}"))).endpoint.nics[0].ipv4_pool for number in range(3)
    ]

    assert sorted(pools) == ["a", "b", "b"]
    with pytest.raises(AddressesUsedOut):
        await node.add(pod("web-3"))


async def test_all_addresses_of_a_pool_can_be_claimed_at_the_same_time(node: NodeHarness) -> None:
    await node.apply(pool("v4", "10.6.0.1-10.6.0.200"))

    added = await asyncio.gather(*(node.add(pod(f"web-{number}")) for number in range(200)))

    assert len({address for result in added for address in addresses(result)}) == 200
    with pytest.raises(AddressesUsedOut):
        await node.add(pod("one-too-many"))
    await check_everything(node)


async def test_several_nodes_can_claim_all_addresses_of_a_pool(
    store: KeyValueStore, cluster_name: str
) -> None:
    nodes = [NodeHarness(store, f"node-{number}", cluster=cluster_name) for number in range(4)]
    for node in nodes:
        await node.__aenter__()
    await nodes[0].apply(pool("v4", "10.6.0.1-10.6.0.40"))

    calls = [node.add(pod(f"{node.name}-{number}")) for node in nodes for number in range(10)]
    added = await asyncio.gather(*calls)

    assert len({address for result in added for address in addresses(result)}) == 40
    await check_everything(nodes[0])
    for node in nodes:
        await node.__aexit__(None, None, None)


async def test_sequential_order_takes_the_lowest_free_address(
    store: KeyValueStore, cluster_name: str
) -> None:
    settings = AllocatorSettings(order="sequential")
    async with NodeHarness(store, cluster=cluster_name, settings=settings, cool_down_s=0) as node:
        await node.apply(pool("v4", "10.6.0.10-10.6.0.20"))
        address_sets = [addresses(await node.add(pod(f"web-{number}"))) for number in range(3)]
        await node.delete(pod("web-1"))

        newest = await node.add(pod("web-9"))

        assert address_sets == [{"10.6.0.10"}, {"10.6.0.11"}, {"10.6.0.12"}]
        assert addresses(newest) == {"10.6.0.11"}


async def test_reserved_excluded_and_quarantined_addresses_are_never_claimed(
    node: NodeHarness,
) -> None:
    pool_v4 = pool("v4", "10.6.0.10-10.6.0.15")._replace(exclude_ips=("10.6.0.10",))
    await node.apply(
        pool_v4,
        ApplyReservation(Reservation("dns", 4, ("10.6.0.11-10.6.0.12",))),
        QuarantineAddress(
            "10.6.0.13", reason="in use by another host", evidence="02:00:00:00:00:01"
        ),
    )

    claimed = {
        address
        for number in range(2)
        for address in addresses(await node.add(pod(f"web-{number}")))
    }

    assert claimed == {"10.6.0.14", "10.6.0.15"}
    with pytest.raises(AddressesUsedOut):
        await node.add(pod("web-2"))
    await node.apply(LiftQuarantine("10.6.0.13"))
    assert addresses(await node.add(pod("web-2"))) == {"10.6.0.13"}
    await check_everything(node)


async def test_an_add_avoids_a_retired_pool_although_the_view_is_stale(
    store: KeyValueStore, cluster_name: str
) -> None:
    async with (
        NodeHarness(store, cluster=cluster_name) as agent,
        NodeHarness(store, "admin", cluster=cluster_name) as admin,
    ):
        await admin.apply(pool("a", "10.6.0.10-10.6.0.20"), pool("b", "10.6.1.10-10.6.1.20"))
        await agent.view.freshen()
        await agent.view.close()
        await admin.apply(RetirePool("a"))
        reopened = asyncio.create_task(_reopen_after_a_lost_race(agent))

        added = await agent.add(pod("web-0"))

        await reopened
        assert added.endpoint.nics[0].ipv4_pool == "b"
        await check_everything(agent)


async def _reopen_after_a_lost_race(agent: NodeHarness) -> None:
    """Reopen the view after the first transaction has failed."""
    transactions = agent.writer.transactions
    while agent.writer.transactions == transactions:
        await asyncio.sleep(0)
    await agent.view.start()


async def test_an_add_fails_if_the_pool_has_records_max_claims(
    store: KeyValueStore, cluster_name: str
) -> None:
    settings = AllocatorSettings(records_max=3)
    async with NodeHarness(store, cluster=cluster_name, settings=settings) as node:
        await node.apply(pool("v4", "10.6.0.1-10.6.0.200"))
        for number in range(3):
            await node.add(pod(f"web-{number}"))

        with pytest.raises(AddressesUsedOut) as failure:
            await node.add(pod("web-3"))

        assert "threshold of IP records(<=3) for IPPool v4 exceeded" in str(failure.value)


async def test_claims_between_the_ranges_of_a_pool_do_not_count_for_records_max(
    store: KeyValueStore, cluster_name: str
) -> None:
    settings = AllocatorSettings(records_max=3)
    async with NodeHarness(store, cluster=cluster_name, settings=settings) as node:
        await node.apply(pool("apart", "10.6.0.1-10.6.0.9", "10.6.9.1-10.6.9.9", default=False))
        await node.apply(pool("between", "10.6.5.1-10.6.5.3", default=False))
        for number in range(3):
            await node.add(
                pod(f"db-{number}"),
                request=SelectionRequest("eth0", default_ipv4_pools=("between",)),
            )

        for number in range(3):
            await node.add(
                pod(f"web-{number}"),
                request=SelectionRequest("eth0", default_ipv4_pools=("apart",)),
            )
        with pytest.raises(AddressesUsedOut):
            await node.add(
                pod("web-3"), request=SelectionRequest("eth0", default_ipv4_pools=("apart",))
            )


class _CompetingStore(MemoryStore):
    """A store where another agent claims every address just before a transaction does."""

    claim_keys: tuple[bytes, bytes] = (b"", b"")

    async def commit(
        self, guards: Sequence[Guard], writes: Sequence[Write], otherwise: Sequence[Get] = ()
    ) -> TxnResult:
        first, last = self.claim_keys
        copies = [write for write in writes if isinstance(write, Put) and first <= write.key < last]
        if copies:
            await super().commit([], copies)
        return await super().commit(guards, writes, otherwise)


async def test_an_add_that_loses_every_race_fails_and_claims_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "core.allocation.allocator.retry_lost_races", lambda: retry_lost_races(0.05)
    )
    store = _CompetingStore()
    async with NodeHarness(store) as node:
        await node.apply(pool("v4", "10.6.0.0-10.6.255.255"))
        store.claim_keys = node.keys.range_of("ip")

        with pytest.raises(RetriesExhausted, match=r"^exhaust all retries \(\d+ times\)"):
            await node.add(pod("web-0"))

        assert not (await node.read_ledger()).endpoints


async def test_concurrent_adds_in_a_huge_pool_take_at_most_two_tries(
    node: NodeHarness,
) -> None:
    await node.apply(pool("v6", "fd00:6::1-fd00:6::ffff:ffff:ffff:fffe"))

    added = await asyncio.gather(*(node.add(pod(f"web-{number}")) for number in range(20)))

    assert len({address for result in added for address in addresses(result)}) == 20
    assert max(result.tries for result in added) <= 2


async def test_a_repeated_add_succeeds_although_the_pool_is_disabled(
    node: NodeHarness,
) -> None:
    await node.apply(pool("pool-v4", "10.6.0.1-10.6.0.9"))
    first = await node.add(pod("web-0"))
    await node.apply(pool("pool-v4", "10.6.0.1-10.6.0.9")._replace(disabled=True))

    assert (await node.add(pod("web-0"))).endpoint == first.endpoint


async def test_a_repeated_add_succeeds_although_the_pool_is_full(node: NodeHarness) -> None:
    await node.apply(pool("pool-v4", "10.6.0.1"))
    first = await node.add(pod("web-0"))

    assert (await node.add(pod("web-0"))).endpoint == first.endpoint


async def test_an_add_claims_an_address_whose_quarantine_has_just_been_lifted(
    store: KeyValueStore, cluster_name: str
) -> None:
    async with (
        NodeHarness(store, cluster=cluster_name) as agent,
        NodeHarness(store, "admin", cluster=cluster_name) as admin,
    ):
        await admin.apply(
            pool("a", "10.6.0.10"),
            QuarantineAddress(
                "10.6.0.10", reason="a conflicting host", evidence="02:00:00:00:00:01"
            ),
        )
        await agent.view.freshen()
        await admin.apply(LiftQuarantine("10.6.0.10"))

        assert addresses(await agent.add(pod("web-0"))) == {"10.6.0.10"}


async def test_a_freshened_view_has_the_newest_quarantines(
    store: KeyValueStore, cluster_name: str
) -> None:
    async with (
        NodeHarness(store, cluster=cluster_name) as agent,
        NodeHarness(store, "admin", cluster=cluster_name) as admin,
    ):
        for _ in range(20):
            quarantine = QuarantineAddress(
                "10.6.0.10", reason="a conflicting host", evidence="02:00:00:00:00:01"
            )
            await admin.apply(quarantine)
            await agent.view.freshen()
            assert "10.6.0.10" in agent.view.current.quarantine
            await admin.apply(LiftQuarantine("10.6.0.10"))
            await agent.view.freshen()
            assert "10.6.0.10" not in agent.view.current.quarantine
