"""UPDATE and deletion of a SpiderSubnet.

See docs/reference/admission.md, "SpiderSubnet", docs/reference/automatic-pool-rules.md, "Subnets".
"""

from __future__ import annotations

import pytest

from core.domain.addresses.ip_address import V4, V6
from core.domain.configuration.commands import DeletePool, DeleteSubnet, RetireSubnet
from core.domain.events import PoolDefined, PoolRetired, SubnetDeleted, SubnetRetired
from core.domain.model import Pool, Subnet
from core.domain.subnets.subnet_decisions import must_repeat
from core.domain.subnets.subnet_model import POOLS_PER_TRANSACTION_MAX
from tests.core.domain.subnets.samples import BLUE_POOL, SUBNET4, ConfigurationHarness, as_command

CHANGES: dict[str, tuple[Subnet, list[tuple[str, str, str]]]] = {
    "a larger set of addresses": (SUBNET4._replace(ips=("10.7.0.5-10.7.0.200",)), []),
    "a smaller set that still contains the pool": (
        SUBNET4._replace(ips=("10.7.0.10-10.7.0.20",)), [],
    ),
    "a smaller set that lacks an address of the pool": (
        SUBNET4._replace(ips=("10.7.0.11-10.7.0.99",)), [("Forbidden", "spec.ips", "share-in-use")],
    ),
    "an address of the pool becomes excluded": (
        SUBNET4._replace(exclude_ips=("10.7.0.20",)), [("Forbidden", "spec.ips", "share-in-use")],
    ),
    "another gateway": (SUBNET4._replace(gateway="10.7.0.3"), []),
    "no routes": (SUBNET4._replace(routes=None), []),
    "another CIDR": (
        SUBNET4._replace(subnet="10.7.0.0/24"), [("Forbidden", "spec.subnet", "immutable")],
    ),
    "another family": (
        SUBNET4._replace(family=V6), [("Forbidden", "spec.ipVersion", "immutable")],
    ),
    "a bad item": (
        SUBNET4._replace(ips=("10.7.0.10-10.7.0.99", "x")),
        [("Invalid", "spec.ips[1]", "item-syntax")],
    ),
    "a bad gateway": (
        SUBNET4._replace(gateway="10.9.0.1"), [("Invalid", "spec.gateway", "gateway-syntax")],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("subnet", "refusals"), CHANGES.values(), ids=CHANGES)
def test_a_change_is_allowed_or_refused_with_kind_field_and_rule(
    subnet: Subnet, refusals: list[tuple[str, str, str]]
) -> None:
    assert ConfigurationHarness(SUBNET4, BLUE_POOL).refusal_summaries(subnet) == refusals


def test_a_refusal_to_remove_addresses_names_the_ranges_and_the_pool() -> None:
    (refusal,) = ConfigurationHarness(SUBNET4, BLUE_POOL).refusals(
        SUBNET4._replace(ips=("10.7.0.12-10.7.0.99",))
    )

    assert refusal.message == "remove some IP ranges 10.7.0.10-10.7.0.11 used by IPPool blue"


def test_retiring_a_subnet_retires_its_pools_once() -> None:
    state = ConfigurationHarness(SUBNET4, BLUE_POOL)

    assert state.apply(RetireSubnet("net")) == [SubnetRetired("net"), PoolRetired("blue")]
    assert state.apply(RetireSubnet("net")) == []
    assert state.ledger.subnets["net"].retiring
    assert state.ledger.pools["blue"].retiring


def test_only_labels_and_annotations_of_a_retiring_subnet_can_change() -> None:
    state = ConfigurationHarness(SUBNET4, RetireSubnet("net"))

    assert state.refusal_summaries(SUBNET4._replace(gateway="")) == [
        ("Forbidden", "spec", "retiring")
    ]
    assert state.refusal_summaries(SUBNET4._replace(annotations={"a": "b"})) == []


def test_a_subnet_with_pools_is_not_deleted_and_the_refusal_names_the_pools() -> None:
    state = ConfigurationHarness(SUBNET4, BLUE_POOL)

    (refusal,) = state.refusals(DeleteSubnet("net"))

    assert (refusal.kind, refusal.rule) == ("Forbidden", "subnet-in-use")
    assert refusal.message == "the subnet still has pools: blue"


def test_a_subnet_without_pools_is_deleted_even_if_it_is_not_retiring() -> None:
    assert ConfigurationHarness(SUBNET4).apply(DeleteSubnet("net")) == [SubnetDeleted("net")]
    state = ConfigurationHarness(SUBNET4, BLUE_POOL, RetireSubnet("net"), DeletePool("blue"))
    assert state.apply(DeleteSubnet("net")) == [SubnetDeleted("net")]
    assert state.ledger.subnets == {}


@pytest.mark.parametrize("command", [RetireSubnet("missing"), DeleteSubnet("missing")])
def test_an_unknown_subnet_is_not_found(command: RetireSubnet | DeleteSubnet) -> None:
    assert ConfigurationHarness().refusal_summaries(command) == [("NotFound", "", "unknown-name")]


def test_a_new_subnet_adopts_pools_that_have_its_cidr_and_no_subnet() -> None:
    state = ConfigurationHarness(SUBNET4, DeleteSubnet("net"), BLUE_POOL)

    state.apply(SUBNET4._replace(name="second"))

    owner = state.ledger.pools["blue"].labels["ipam.spidernet.io/owner-spider-subnet"]
    assert owner == "second"


def test_a_repeated_command_adopts_pools_that_do_not_fit_into_one_step() -> None:
    pools = [
        Pool(f"p{index:03}", V4, SUBNET4.subnet, (f"10.7.0.{index + 10}",))
        for index in range(POOLS_PER_TRANSACTION_MAX + 6)
    ]
    state = ConfigurationHarness(*pools)
    command = as_command(SUBNET4)

    first_events = state.apply(command)
    assert len(first_events) == 1 + POOLS_PER_TRANSACTION_MAX
    assert must_repeat(command, tuple(first_events))
    second_events = state.apply(command)
    assert len(second_events) == 6
    assert all(isinstance(event, PoolDefined) for event in second_events)

    assert state.apply(command) == []
    # RetireSubnet also needs two steps.
    assert len(state.apply(RetireSubnet("net"))) == 1 + POOLS_PER_TRANSACTION_MAX
    assert len(state.apply(RetireSubnet("net"))) == 6


def test_large_pools_are_adopted_in_steps_that_fit_into_a_transaction() -> None:
    large_annotations = {f"note-{index}": "x" * 60_000 for index in range(4)}
    pools = [
        BLUE_POOL._replace(
            name=f"p{number}", ips=(f"10.7.0.{number + 10}",), annotations=large_annotations
        )
        for number in (1, 2)
    ]
    state = ConfigurationHarness(*pools)

    # The first step writes the subnet and one pool, the second step the other pool.
    assert [len(state.apply(SUBNET4)) for _ in range(3)] == [2, 1, 0]
