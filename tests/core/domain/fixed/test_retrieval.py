"""An ADD restores the claims that an endpoint has lost."""

from __future__ import annotations

import pytest

from core.domain.configuration.commands import ApplyReservation, QuarantineAddress
from core.domain.model import Claim, Reservation
from core.domain.request_facts import PodFacts
from core.errors import AddressesUsedOut
from core.eventstore.codec import CLAIM_CODEC
from core.eventstore.kv import Delete, Put
from tests.support.node_harness import NodeHarness, addresses, pod, pool

LOST_IPV4, KEPT_IPV6 = "10.6.0.1", "fd00:6::1"
OTHER_CLAIM = CLAIM_CODEC.encode(
    Claim(pool="four", holder="pod/other", namespace="shop", pod="other", event="dirty.0.0")
)


@pytest.fixture
async def damaged_node(node: NodeHarness) -> NodeHarness:
    """A node with the replica db-0, which has an IPv6 claim and has lost its IPv4 claim."""
    # The reservations leave only LOST_IPV4 and KEPT_IPV6 for the first ADD.
    await node.apply(pool("four", LOST_IPV4, "10.6.0.8"), pool("six", KEPT_IPV6, "fd00:6::8"))
    await node.apply(ApplyReservation(Reservation("ipv4", 4, ("10.6.0.8",))))
    await node.apply(ApplyReservation(Reservation("ipv6", 6, ("fd00:6::8",))))
    await node.add(replica("1"))
    await node.apply(
        ApplyReservation(Reservation("ipv4", 4)), ApplyReservation(Reservation("ipv6", 6))
    )
    await lose_claim(node, LOST_IPV4)
    return node


def replica(uid: str) -> PodFacts:
    return pod("db-0", uid, fixed="statefulset")


async def lose_claim(node: NodeHarness, address: str) -> None:
    await node.store.commit([], [Delete(node.keys.ip_of(address))])


async def test_an_add_restores_the_missing_claim_and_keeps_the_ipv6_claim(
    damaged_node: NodeHarness,
) -> None:
    added = await damaged_node.add(replica("2"))

    assert addresses(added) == {LOST_IPV4, KEPT_IPV6}
    ledger = await damaged_node.read_ledger()
    assert {revised.claim.holder for revised in ledger.claims.values()} == {"statefulset/shop/db-0"}
    assert ledger.claims.keys() == {LOST_IPV4, KEPT_IPV6}
    assert ledger.endpoints["shop", "db-0"].uid == "2"
    assert await damaged_node.violations() == []


async def test_an_add_replaces_a_lost_address_that_another_pod_claims_meanwhile(
    damaged_node: NodeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    freshen = damaged_node.view.freshen

    async def claim_and_freshen() -> bool:
        await damaged_node.store.commit([], [Put(damaged_node.keys.ip_of(LOST_IPV4), OTHER_CLAIM)])
        return await freshen()

    monkeypatch.setattr(damaged_node.view, "freshen", claim_and_freshen)

    added = await damaged_node.add(replica("2"))

    assert addresses(added) == {"10.6.0.8", KEPT_IPV6}
    claims = (await damaged_node.read_ledger()).claims
    assert claims[LOST_IPV4].claim.holder == "pod/other"
    assert claims[KEPT_IPV6].claim.holder == "statefulset/shop/db-0"
    assert claims.keys() == {LOST_IPV4, "10.6.0.8", KEPT_IPV6}


async def test_an_add_creates_a_fresh_endpoint_if_the_endpoint_is_released_meanwhile(
    damaged_node: NodeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    freshen = damaged_node.view.freshen

    async def release_and_freshen() -> bool:
        endpoint = Delete(damaged_node.keys.endpoint("shop", "db-0"))
        await damaged_node.store.commit([], [endpoint, Delete(damaged_node.keys.ip_of(KEPT_IPV6))])
        return await freshen()

    monkeypatch.setattr(damaged_node.view, "freshen", release_and_freshen)

    added = await damaged_node.add(replica("2"))

    ledger = await damaged_node.read_ledger()
    assert added.fresh
    assert ledger.claims.keys() == addresses(added)
    assert ledger.endpoints["shop", "db-0"].uid == "2"


async def test_an_add_replaces_a_lost_address_that_is_quarantined(
    damaged_node: NodeHarness,
) -> None:
    await damaged_node.apply(QuarantineAddress(LOST_IPV4, reason="another host answers"))

    added = await damaged_node.add(replica("2"))

    assert addresses(added) == {"10.6.0.8", KEPT_IPV6}
    assert (await damaged_node.read_ledger()).claims.keys() == addresses(added)


async def test_an_add_without_a_free_address_fails_and_keeps_the_ipv6_claim(
    damaged_node: NodeHarness,
) -> None:
    await damaged_node.apply(ApplyReservation(Reservation("ipv4", 4, (LOST_IPV4, "10.6.0.8"))))

    with pytest.raises(AddressesUsedOut, match="all IP addresses used out"):
        await damaged_node.add(replica("2"))

    ledger = await damaged_node.read_ledger()
    assert ledger.claims.keys() == {KEPT_IPV6}
    assert ledger.endpoints["shop", "db-0"].uid == "1"


async def test_nics_without_interface_names_keep_their_pools_if_an_address_is_lost(
    node: NodeHarness,
) -> None:
    await node.apply(pool("a", "10.6.0.1-10.6.0.2"), pool("b", "10.6.1.1-10.6.1.2"))
    annotations = {"ipam.spidernet.io/ippools": '[{"ipv4":["a"]},{"ipv4":["b"]}]'}
    before = addresses(await node.add(replica("1")._replace(annotations=annotations)))
    lost_address = next(address for address in before if address.startswith("10.6.0."))
    await node.store.commit([], [Put(node.keys.ip_of(lost_address), OTHER_CLAIM)])

    after = await node.add(replica("2")._replace(annotations=annotations))

    replacement = ({"10.6.0.1", "10.6.0.2"} - {lost_address}).pop()
    assert addresses(after) == (before - {lost_address}) | {replacement}
    assert [nic.ipv4_pool for nic in after.endpoint.nics] == ["a", "b"]
