"""CREATE of a SpiderSubnet (docs/reference/admission.md, "SpiderSubnet").

In 10.7.0.0/16, ``SUBNET4`` has 10.7.0.10-10.7.0.99, and ``BLUE_POOL`` has 10.7.0.10-10.7.0.20.
"""

from __future__ import annotations

import pytest

from core.domain.addresses.ip_address import V4, V6
from core.domain.configuration.commands import RetireSubnet
from core.domain.configuration.configuration_state import Configuration
from core.domain.configuration.decisions import decide
from core.domain.events import PoolDefined, SubnetDefined
from core.domain.model import Pool, Reservation, Route, Subnet
from core.errors import Refused
from tests.core.domain.subnets.samples import (
    BLUE_POOL,
    SUBNET4,
    SUBNET6,
    ConfigurationHarness,
    as_command,
)

WHOLE_V6 = Subnet("all", V6, "::/0", ("::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",))


def test_a_valid_subnet_is_defined_with_merged_lists_and_the_label_of_its_cidr() -> None:
    subnet = SUBNET4._replace(ips=("10.7.0.12", "10.7.0.10-10.7.0.11"), labels={"a": "b"})

    (event,) = ConfigurationHarness().apply(subnet)

    label = {"a": "b", "ipam.spidernet.io/subnet-cidr": "10-7-0-0-16"}
    assert event == SubnetDefined(subnet._replace(ips=("10.7.0.10-10.7.0.12",), labels=label))


def test_applying_a_subnet_twice_writes_no_event() -> None:
    state = ConfigurationHarness(SUBNET4)

    assert state.apply(SUBNET4) == []


def test_a_new_subnet_is_not_retiring() -> None:
    state = ConfigurationHarness(SUBNET4._replace(retiring=True))

    assert not state.ledger.subnets["net"].retiring


REFUSED: dict[str, tuple[Subnet, list[tuple[str, str, str]]]] = {
    "an invalid name": (
        SUBNET4._replace(name="Net_1"),
        [("Invalid", "metadata.name", "name")],
    ),
    "an address instead of a CIDR": (
        SUBNET4._replace(subnet="10.7.0.0"),
        [("Invalid", "spec.subnet", "subnet-syntax")],
    ),
    "host bits": (
        SUBNET4._replace(subnet="10.7.0.1/16"),
        [("Invalid", "spec.subnet", "subnet-canonical")],
    ),
    "a CIDR of the other family": (
        SUBNET4._replace(subnet="fd00:7::/64"),
        [("Invalid", "spec.subnet", "subnet-family")],
    ),
    "an item that is not an address": (
        SUBNET4._replace(ips=("10.7.0.10", "cheese")),
        [("Invalid", "spec.ips[1]", "item-syntax")],
    ),
    "a range that ends before it begins": (
        SUBNET4._replace(ips=("10.7.0.20-10.7.0.10",)),
        [("Invalid", "spec.ips[0]", "item-syntax")],
    ),
    "an item outside of the CIDR": (
        SUBNET4._replace(ips=("10.8.0.1",)),
        [("Invalid", "spec.ips[0]", "item-outside-subnet")],
    ),
    "an excluded item outside of the CIDR": (
        SUBNET4._replace(exclude_ips=("10.7.0.1", "10.8.0.1")),
        [("Invalid", "spec.excludeIPs[1]", "item-outside-subnet")],
    ),
    "an item of the other family": (
        SUBNET4._replace(exclude_ips=("fd00::1",)),
        [("Invalid", "spec.excludeIPs[0]", "item-outside-subnet")],
    ),
    "a gateway that is not an address": (
        SUBNET4._replace(gateway="10.7.0"),
        [("Invalid", "spec.gateway", "gateway-syntax")],
    ),
    "a gateway outside of the CIDR": (
        SUBNET4._replace(gateway="10.8.0.1"),
        [("Invalid", "spec.gateway", "gateway-syntax")],
    ),
    "a gateway among the addresses": (
        SUBNET4._replace(gateway="10.7.0.50"),
        [("Invalid", "spec.ips[0]", "gateway-in-ips")],
    ),
    "a default route": (
        SUBNET4._replace(routes=(Route("0.0.0.0/0", "10.7.0.2"),)),
        [("Invalid", "spec.routes[0].dst", "route-dst")],
    ),
    "a route with a gateway outside of the CIDR": (
        SUBNET4._replace(routes=(Route("10.0.0.0/8", "10.8.0.2"),)),
        [("Invalid", "spec.routes[0].gw", "route-gw")],
    ),
    "two faults: only the first is reported": (
        SUBNET4._replace(ips=("10.8.0.1",), gateway="10.8.0.1"),
        [("Invalid", "spec.ips[0]", "item-outside-subnet")],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("subnet", "refusals"), REFUSED.values(), ids=REFUSED)
def test_an_invalid_subnet_is_refused_with_kind_field_and_rule(
    subnet: Subnet, refusals: list[tuple[str, str, str]]
) -> None:
    assert ConfigurationHarness().refusal_summaries(subnet) == refusals


WITH_EXISTING: dict[str, tuple[list[Subnet | Pool], Subnet, list[tuple[str, str, str]]]] = {
    "the same CIDR under another name": (
        [SUBNET4], SUBNET4._replace(name="again", ips=()),
        [("Invalid", "spec.subnet", "subnet-overlap")],
    ),
    "a CIDR around an existing CIDR": (
        [SUBNET4], Subnet("wide", V4, "10.0.0.0/8"), [("Invalid", "spec.subnet", "subnet-overlap")],
    ),
    "a CIDR inside an existing CIDR": (
        [SUBNET4], Subnet("half", V4, "10.7.128.0/17"),
        [("Invalid", "spec.subnet", "subnet-overlap")],
    ),
    "a CIDR beside an existing CIDR": ([SUBNET4], Subnet("next", V4, "10.8.0.0/16"), []),
    "a CIDR of the other family": ([SUBNET4], SUBNET6, []),
    "a pool whose CIDR overlaps": (
        [BLUE_POOL._replace(subnet="10.7.0.0/24")], SUBNET4,
        [("Invalid", "spec.subnet", "pool-overlap")],
    ),
    "a pool whose CIDR does not overlap": (
        [Pool("far", V4, "10.8.0.0/16", ("10.8.0.9",))], SUBNET4, [],
    ),
    "a pool inside the subnet": ([BLUE_POOL], SUBNET4, []),
    "a pool partly outside the subnet": (
        [BLUE_POOL], SUBNET4._replace(ips=("10.7.0.10-10.7.0.15",)),
        [("Invalid", "spec.ips", "pool-outside")],
    ),
    "a pool with an address that the subnet excludes": (
        [BLUE_POOL], SUBNET4._replace(exclude_ips=("10.7.0.15",)),
        [("Invalid", "spec.ips", "pool-outside")],
    ),
    "a pool that excludes the same address": (
        [BLUE_POOL._replace(exclude_ips=("10.7.0.15",))],
        SUBNET4._replace(exclude_ips=("10.7.0.15",)),
        [],
    ),
    # The addresses of existing pools of the CIDR are compared before the items are validated.
    "an invalid item and a pool of the same CIDR": (
        [BLUE_POOL], SUBNET4._replace(ips=("cheese",)), [("Internal", "spec.ips", "item-syntax")],
    ),
    "an invalid item and a pool of another CIDR": (
        [Pool("far", V4, "10.8.0.0/16", ("10.8.0.9",))], SUBNET4._replace(ips=("cheese",)),
        [("Invalid", "spec.ips[0]", "item-syntax")],
    ),
    "overlaps with a subnet and with a pool: only the subnet is reported": (
        [SUBNET4, BLUE_POOL], Subnet("half", V4, "10.7.128.0/17"),
        [("Invalid", "spec.subnet", "subnet-overlap")],
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("existing", "subnet", "refusals"), WITH_EXISTING.values(), ids=WITH_EXISTING
)
def test_a_subnet_is_validated_against_existing_subnets_and_pools(
    existing: list[Subnet | Pool], subnet: Subnet, refusals: list[tuple[str, str, str]]
) -> None:
    assert ConfigurationHarness(*existing).refusal_summaries(subnet) == refusals


def test_a_refusal_names_the_pool_and_its_ranges_outside_of_the_subnet() -> None:
    (refusal,) = ConfigurationHarness(BLUE_POOL).refusals(
        SUBNET4._replace(ips=("10.7.0.12-10.7.0.18",))
    )

    assert refusal.message == (
        "10.7.0.10-10.7.0.11, 10.7.0.19-10.7.0.20 of SpiderIPPool/blue would be outside of the"
        " subnet"
    )


def test_a_new_subnet_cannot_have_the_cidr_of_a_retiring_subnet() -> None:
    state = ConfigurationHarness(SUBNET4, RetireSubnet("net"))

    assert state.refusal_summaries(SUBNET4._replace(name="again")) == [
        ("Invalid", "spec.subnet", "subnet-overlap")
    ]


def test_a_subnet_of_a_disabled_family_is_forbidden() -> None:
    ipv4_disabled = Configuration({}, {}, {}, {}, ipv4_enabled=False)

    with pytest.raises(Refused) as caught:
        decide(ipv4_disabled, as_command(SUBNET4), claimed={})

    (refusal,) = caught.value.refusals
    assert (refusal.kind, refusal.field) == ("Forbidden", "spec.ipVersion")


def test_a_subnet_of_all_ipv6_addresses_is_accepted() -> None:
    state = ConfigurationHarness(WHOLE_V6, Pool("six", V6, "::/0", ("::1-7fff::",)))

    assert state.ledger.subnets["all"].ips == WHOLE_V6.ips


def test_a_reservation_does_not_affect_a_subnet() -> None:
    state = ConfigurationHarness(Reservation("kept", V4, ("10.7.0.10-10.7.0.99",)), SUBNET4)

    assert "net" in state.ledger.subnets


def test_a_new_subnet_adopts_pools_of_its_cidr_and_the_pools_inherit_missing_fields() -> None:
    configured_pool = BLUE_POOL._replace(
        name="configured", ips=("10.7.0.30",), gateway="10.7.0.9", routes=()
    )
    state = ConfigurationHarness(BLUE_POOL, configured_pool)

    defined, *adopted = state.apply(SUBNET4)

    assert isinstance(defined, SubnetDefined)
    pools = {event.pool.name: event.pool for event in adopted if isinstance(event, PoolDefined)}
    assert sorted(pools) == ["blue", "configured"]
    assert {pool.labels["ipam.spidernet.io/owner-spider-subnet"] for pool in pools.values()} == {
        "net"
    }
    assert (pools["blue"].gateway, pools["blue"].routes) == (
        SUBNET4.gateway,
        SUBNET4.routes,
    )
    assert (pools["configured"].gateway, pools["configured"].routes) == ("10.7.0.9", ())
