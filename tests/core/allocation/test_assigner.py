"""``Assigner`` claims or refuses the addresses that ``orbctl assign`` or an import names."""

from __future__ import annotations

import pytest

from core.allocation.assigner import Assigned, Assigner
from core.domain.configuration.commands import ApplyReservation, QuarantineAddress, RetirePool
from core.domain.model import Endpoint, Nic, Reservation, pod_holder
from core.errors import Refused
from tests.support.emulation import needs_real_time
from tests.support.node_harness import (
    TEST_CAUSE,
    NodeHarness,
    addresses,
    check_everything,
    gather_outcomes,
    pod,
    pool,
)


def endpoint_with(name: str, *addresses: str, uid: str = "", interface: str = "eth0") -> Endpoint:
    uid = uid or f"uid-{name}"
    nic = Nic(interface, container=f"box-{uid}")
    for address in addresses:
        if ":" in address:
            nic = nic._replace(ipv6=f"{address}/64", ipv6_pool="pool-v6")
        else:
            nic = nic._replace(ipv4=f"{address}/16", ipv4_pool="pool-v4")
    return Endpoint(
        "shop",
        name,
        uid,
        "node-a",
        holder=pod_holder(uid),
        owner_kind="Pod",
        owner_name=name,
        nics=(nic,),
    )


async def define_pools(node: NodeHarness) -> None:
    await node.apply(pool("pool-v4", "10.6.0.1-10.6.0.9"), pool("pool-v6", "fd00:6::1-fd00:6::9"))


async def assign(node: NodeHarness, endpoint: Endpoint) -> Assigned:
    assigner = Assigner(node.store, node.keys, node.writer, node.view)
    return await assigner.assign(endpoint, TEST_CAUSE)


async def refusing_rules(node: NodeHarness, endpoint: Endpoint) -> list[str]:
    with pytest.raises(Refused) as refused:
        await assign(node, endpoint)
    return [refusal.rule for refusal in refused.value.refusals]


async def test_an_assignment_claims_addresses_of_both_families(node: NodeHarness) -> None:
    await define_pools(node)
    assignment = await assign(node, endpoint_with("web-0", "10.6.0.5", "fd00:6::5"))

    ledger = await check_everything(node)
    assert set(ledger.claims) == {"10.6.0.5", "fd00:6::5"}
    assert ledger.endpoints["shop", "web-0"] == assignment.endpoint


async def test_an_add_of_the_pod_finds_the_assigned_addresses(node: NodeHarness) -> None:
    await define_pools(node)
    await assign(node, endpoint_with("web-0", "10.6.0.5", "fd00:6::5"))

    assert addresses(await node.add(pod("web-0"))) == {"10.6.0.5", "fd00:6::5"}
    assert set((await check_everything(node)).claims) == {"10.6.0.5", "fd00:6::5"}


async def test_a_repeated_assignment_writes_nothing(node: NodeHarness) -> None:
    await define_pools(node)
    await assign(node, endpoint_with("web-0", "10.6.0.5"))
    before = len(await node.log())

    assert (await assign(node, endpoint_with("web-0", "10.6.0.5"))).revision == 0
    assert len(await node.log()) == before


async def test_an_assignment_adds_another_nic_to_the_endpoint(node: NodeHarness) -> None:
    await define_pools(node)
    await assign(node, endpoint_with("web-0", "10.6.0.5"))
    second_assignment = await assign(node, endpoint_with("web-0", "10.6.0.6", interface="net1"))

    assert [nic.interface for nic in second_assignment.endpoint.nics] == ["eth0", "net1"]
    await check_everything(node)


async def test_an_address_that_another_pod_holds_is_refused(node: NodeHarness) -> None:
    await define_pools(node)
    await assign(node, endpoint_with("web-0", "10.6.0.5"))

    assert await refusing_rules(node, endpoint_with("web-1", "10.6.0.5")) == ["address-in-use"]
    assert set((await check_everything(node)).endpoints) == {("shop", "web-0")}


async def test_no_address_is_claimed_if_one_of_two_is_in_use(
    node: NodeHarness,
) -> None:
    await define_pools(node)
    await assign(node, endpoint_with("web-0", "10.6.0.5"))

    assert await refusing_rules(node, endpoint_with("web-1", "10.6.0.5", "fd00:6::5")) == [
        "address-in-use"
    ]
    assert set((await check_everything(node)).claims) == {"10.6.0.5"}


async def test_one_address_for_two_nics_is_refused(node: NodeHarness) -> None:
    await define_pools(node)
    first_nic = endpoint_with("web-0", "10.6.0.5")
    second_nic = endpoint_with("web-0", "10.6.0.5", interface="net1")

    assert await refusing_rules(
        node, first_nic._replace(nics=first_nic.nics + second_nic.nics)
    ) == ["address-twice"]


async def test_an_assignment_is_refused_if_the_nic_or_the_pod_name_is_in_use(
    node: NodeHarness,
) -> None:
    await define_pools(node)
    await assign(node, endpoint_with("web-0", "10.6.0.5"))

    assert await refusing_rules(node, endpoint_with("web-0", "10.6.0.6")) == ["nic-in-use"]
    assert await refusing_rules(node, endpoint_with("web-0", "10.6.0.6", uid="new")) == [
        "endpoint-in-use"
    ]


async def test_an_address_that_is_not_usable_in_its_pool_is_refused(node: NodeHarness) -> None:
    await define_pools(node)
    await node.apply(
        ApplyReservation(Reservation("kept", 4, ("10.6.0.7",))),
        QuarantineAddress("10.6.0.8", reason="another host"),
    )

    for address in ("10.6.0.7", "10.6.0.8", "10.6.0.10"):  # reserved; quarantined; in no pool
        assert await refusing_rules(node, endpoint_with("web-0", address)) == ["address-not-usable"]
    assert not (await check_everything(node)).claims


async def test_an_assignment_from_a_retired_or_absent_pool_is_refused(node: NodeHarness) -> None:
    assert await refusing_rules(node, endpoint_with("web-0", "10.6.0.5")) == ["no-pool"]
    await define_pools(node)
    await node.add(pod("holder"))
    await node.apply(RetirePool("pool-v4"))

    assert await refusing_rules(node, endpoint_with("web-0", "10.6.0.5")) == ["pool-closed"]


async def test_an_address_in_cool_down_can_be_assigned(node: NodeHarness) -> None:
    await define_pools(node)
    await assign(node, endpoint_with("web-0", "10.6.0.5"))
    await node.delete(pod("web-0"))

    assert (await assign(node, endpoint_with("web-1", "10.6.0.5"))).revision
    await check_everything(node)


@needs_real_time
async def test_only_one_of_many_assignments_of_an_address_succeeds(node: NodeHarness) -> None:
    await define_pools(node)
    results = await gather_outcomes(
        *(assign(node, endpoint_with(f"web-{number}", "10.6.0.5")) for number in range(20))
    )

    assert sum(isinstance(result, Assigned) for result in results) == 1
    assert sum(isinstance(result, Refused) for result in results) == 19
    await check_everything(node)
