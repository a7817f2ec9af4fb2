"""Lost claims of an endpoint are claimed again, guarded by every claim (I2)."""

from __future__ import annotations

import pytest

from core.domain.configuration.commands import ApplyReservation, QuarantineAddress
from core.domain.facts import PodFacts
from core.domain.model import Claim, Reservation
from core.errors import AddressesUsedOut
from core.eventstore.codec import CLAIM
from core.eventstore.kv import Delete, Put
from tests.support.node_harness import NodeHarness, addresses, pod, pool

V4, V6 = "10.6.0.1", "fd00:6::1"
STRANGER = CLAIM.encode(Claim("four", "pod/other", "shop", "other", "dirty.0.0"))


@pytest.fixture
async def damaged_node(node: NodeHarness) -> NodeHarness:
    """A replica with an address of each family, its IPv4 claim lost."""
    await node.apply(pool("four", V4, "10.6.0.8"), pool("six", V6, "fd00:6::8"))
    await node.apply(ApplyReservation(Reservation("later", 4, ("10.6.0.8",))))
    await node.apply(ApplyReservation(Reservation("too", 6, ("fd00:6::8",))))
    await node.add(replica("1"))
    await node.apply(
        ApplyReservation(Reservation("later", 4)), ApplyReservation(Reservation("too", 6))
    )
    await lose(node, V4)
    return node


def replica(uid: str) -> PodFacts:
    return pod("db-0", uid, fixed="statefulset")


async def lose(node: NodeHarness, address: str) -> None:
    await node.store.commit([], [Delete(node.keys.ip_of(address))])


async def test_a_missing_claim_is_made_again_and_the_other_family_stays(
    damaged_node: NodeHarness,
) -> None:
    added = await damaged_node.add(replica("2"))

    assert addresses(added) == {V4, V6}
    truth = await damaged_node.truth()
    assert {held.claim.holder for held in truth.claims.values()} == {"statefulset/shop/db-0"}
    assert truth.claims.keys() == {V4, V6}
    assert truth.endpoints["shop", "db-0"].uid == "2"
    assert await damaged_node.violations() == []


async def test_an_address_that_another_pod_claims_meanwhile_is_not_taken_away(
    damaged_node: NodeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Change claims after the read: the guards fail, and the next attempt succeeds."""
    freshen = damaged_node.view.freshen

    async def meanwhile() -> bool:
        await damaged_node.store.commit([], [Put(damaged_node.keys.ip_of(V4), STRANGER)])
        return await freshen()

    monkeypatch.setattr(damaged_node.view, "freshen", meanwhile)

    added = await damaged_node.add(replica("2"))

    assert addresses(added) == {"10.6.0.8", V6}
    claims = (await damaged_node.truth()).claims
    assert claims[V4].claim.holder == "pod/other"
    assert claims[V6].claim.holder == "statefulset/shop/db-0"
    assert claims.keys() == {V4, "10.6.0.8", V6}


async def test_an_endpoint_that_is_released_meanwhile_is_created_again(
    damaged_node: NodeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reclaim the endpoint meanwhile: the next attempt has no claims to restore."""
    freshen = damaged_node.view.freshen

    async def meanwhile() -> bool:
        endpoint = Delete(damaged_node.keys.endpoint("shop", "db-0"))
        await damaged_node.store.commit([], [endpoint, Delete(damaged_node.keys.ip_of(V6))])
        return await freshen()

    monkeypatch.setattr(damaged_node.view, "freshen", meanwhile)

    added = await damaged_node.add(replica("2"))

    truth = await damaged_node.truth()
    assert added.fresh
    assert truth.claims.keys() == addresses(added)
    assert truth.endpoints["shop", "db-0"].uid == "2"


async def test_an_address_that_was_reserved_or_quarantined_meanwhile_is_not_claimed_again(
    damaged_node: NodeHarness,
) -> None:
    await damaged_node.apply(QuarantineAddress(V4, "a stranger answers"))

    added = await damaged_node.add(replica("2"))

    assert addresses(added) == {"10.6.0.8", V6}
    assert (await damaged_node.truth()).claims.keys() == addresses(added)


async def test_an_add_that_gets_nothing_in_its_place_keeps_the_rest(
    damaged_node: NodeHarness,
) -> None:
    await damaged_node.apply(ApplyReservation(Reservation("later", 4, (V4, "10.6.0.8"))))

    with pytest.raises(AddressesUsedOut, match="all IP addresses used out"):
        await damaged_node.add(replica("2"))

    truth = await damaged_node.truth()
    assert truth.claims.keys() == {V6}
    assert truth.endpoints["shop", "db-0"].uid == "1"


async def test_an_unnamed_list_keeps_its_order_when_one_address_is_lost(node: NodeHarness) -> None:
    """Its NICs are identified by index, so all are written again; existing claims stay."""
    await node.apply(pool("a", "10.6.0.1-10.6.0.2"), pool("b", "10.6.1.1-10.6.1.2"))
    notes = {"ipam.spidernet.io/ippools": '[{"ipv4":["a"]},{"ipv4":["b"]}]'}
    before = addresses(await node.add(replica("1")._replace(annotations=notes)))
    lost = next(address for address in before if address.startswith("10.6.0."))
    await node.store.commit([], [Put(node.keys.ip_of(lost), STRANGER)])

    after = await node.add(replica("2")._replace(annotations=notes))

    other = ({"10.6.0.1", "10.6.0.2"} - {lost}).pop()
    assert addresses(after) == (before - {lost}) | {other}
    assert [nic.ipv4_pool for nic in after.endpoint.nics] == ["a", "b"]
