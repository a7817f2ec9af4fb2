"""Rules for a pool and a SpiderSubnet with the same CIDR.

See docs/reference/admission.md, "SpiderIPPool", step 4 of the mutation and rule 5;
docs/reference/automatic-pool-rules.md, "Pools in a subnet".
"""

from __future__ import annotations

import pytest

from core.domain.addresses.ip_address import V4, V6
from core.domain.configuration.commands import DeletePool, RetirePool, RetireSubnet
from core.domain.events import PoolDefined
from core.domain.model import Pool, Route
from core.domain.subnets.subnet_model import Share, SubnetCounts, count_addresses, shares_of_subnet
from tests.core.domain.subnets.samples import (
    BLUE_POOL,
    SUBNET4,
    SUBNET6,
    ConfigurationHarness,
    claims_of_other_pods,
)

OWNER = "ipam.spidernet.io/owner-spider-subnet"
APPLICATION = "ipam.spidernet.io/owner-application-name"


def test_a_pool_in_the_cidr_of_a_subnet_is_adopted_and_inherits_gateway_and_routes() -> None:
    (event,) = ConfigurationHarness(SUBNET4).apply(BLUE_POOL)

    assert isinstance(event, PoolDefined)
    assert event.pool.labels[OWNER] == "net"
    assert (event.pool.gateway, event.pool.routes) == (SUBNET4.gateway, SUBNET4.routes)


def test_an_adopted_pool_keeps_its_own_gateway_and_empty_routes() -> None:
    (event,) = ConfigurationHarness(SUBNET4).apply(
        BLUE_POOL._replace(gateway="10.7.0.9", routes=())
    )

    assert isinstance(event, PoolDefined)
    assert (event.pool.gateway, event.pool.routes) == ("10.7.0.9", ())


def test_a_pool_without_a_subnet_gets_no_owner_label_and_no_gateway() -> None:
    state = ConfigurationHarness(SUBNET6, BLUE_POOL)

    assert OWNER not in state.ledger.pools["blue"].labels
    assert state.ledger.pools["blue"].gateway == ""


def test_a_label_that_names_an_unknown_subnet_is_removed() -> None:
    state = ConfigurationHarness(BLUE_POOL._replace(labels={OWNER: "missing", "a": "b"}))

    assert OWNER not in state.ledger.pools["blue"].labels
    assert state.ledger.pools["blue"].labels["a"] == "b"


def test_a_label_that_names_another_subnet_is_corrected() -> None:
    state = ConfigurationHarness(SUBNET4, SUBNET6, BLUE_POOL._replace(labels={OWNER: "net6"}))

    assert state.ledger.pools["blue"].labels[OWNER] == "net"


def test_an_unchanged_pool_writes_no_event_even_after_a_change_of_the_subnet() -> None:
    state = ConfigurationHarness(SUBNET4, BLUE_POOL)
    state.apply(SUBNET4._replace(gateway="10.7.0.3", routes=(Route("10.1.0.0/16", "10.7.0.3"),)))

    assert state.apply(BLUE_POOL) == []
    assert state.ledger.pools["blue"].gateway == "10.7.0.1"


def test_a_later_pool_inherits_the_current_gateway_of_the_subnet() -> None:
    state = ConfigurationHarness(SUBNET4, BLUE_POOL, SUBNET4._replace(gateway="10.7.0.3"))

    state.apply(Pool("green", V4, SUBNET4.subnet, ("10.7.0.50",)))

    assert state.ledger.pools["green"].gateway == "10.7.0.3"


def test_a_retiring_subnet_still_adopts_pools() -> None:
    state = ConfigurationHarness(SUBNET4, RetireSubnet("net"), BLUE_POOL)

    assert state.ledger.pools["blue"].labels[OWNER] == "net"


REFUSED_AS_OUTSIDE = [("Forbidden", "spec.ips", "outside-owner")]
NEW_POOLS: dict[str, tuple[Pool, list[tuple[str, str, str]]]] = {
    "a part of the addresses of the subnet": (BLUE_POOL, []),
    "all addresses of the subnet": (BLUE_POOL._replace(ips=SUBNET4.ips), []),
    "some addresses outside of the subnet": (
        BLUE_POOL._replace(ips=("10.7.0.90-10.7.0.110",)), REFUSED_AS_OUTSIDE,
    ),
    "addresses outside of the subnet, all excluded by the pool": (
        BLUE_POOL._replace(ips=("10.7.0.90-10.7.0.110",), exclude_ips=("10.7.0.100-10.7.0.110",)),
        [],
    ),
    "no addresses": (BLUE_POOL._replace(ips=()), []),
    "an address outside of the CIDR": (
        BLUE_POOL._replace(ips=("10.8.0.1",)), [("Invalid", "spec.subnet", "item-outside-subnet")],
    ),
    "a pool of the other family": (Pool("six", V6, "fd00:9::/64", ("fd00:9::1",)), []),
    "a CIDR inside the CIDR of the subnet": (
        BLUE_POOL._replace(subnet="10.7.0.0/24"), [],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("pool", "refusals"), NEW_POOLS.values(), ids=NEW_POOLS)
def test_the_addresses_of_a_new_pool_must_be_inside_its_subnet(
    pool: Pool, refusals: list[tuple[str, str, str]]
) -> None:
    assert ConfigurationHarness(SUBNET4).refusal_summaries(pool) == refusals


def test_a_manual_pool_with_an_address_that_its_subnet_excludes_is_refused() -> None:
    state = ConfigurationHarness(SUBNET4._replace(exclude_ips=("10.7.0.15",)))

    (refusal,) = state.refusals(BLUE_POOL)

    assert refusal.message == "10.7.0.15 is outside of SpiderSubnet/net"


def test_a_pool_cannot_grow_out_of_its_subnet() -> None:
    state = ConfigurationHarness(SUBNET4, BLUE_POOL)

    assert (
        state.refusal_summaries(BLUE_POOL._replace(ips=("10.7.0.10-10.7.0.120",)))
        == REFUSED_AS_OUTSIDE
    )


def test_a_pool_may_grow_and_shrink_inside_its_subnet() -> None:
    state = ConfigurationHarness(SUBNET4, BLUE_POOL)

    state.apply(BLUE_POOL._replace(ips=("10.7.0.10-10.7.0.12", "10.7.0.40")))

    assert shares_of_subnet("net", state.ledger.pools) == [
        Share("blue", ("10.7.0.10-10.7.0.12", "10.7.0.40"))
    ]
    counts = count_addresses(state.ledger.subnets["net"], state.ledger.pools)
    assert counts == SubnetCounts(total=90, allocated=4, free=86)


def test_a_retiring_pool_keeps_its_share_and_a_deleted_pool_frees_its_share() -> None:
    state = ConfigurationHarness(SUBNET4, BLUE_POOL, RetirePool("blue"))
    assert [share.pool for share in shares_of_subnet("net", state.ledger.pools)] == ["blue"]

    state.apply(DeletePool("blue"))

    assert shares_of_subnet("net", state.ledger.pools) == []


AUTO_POOL_LABELS = {APPLICATION: "web"}
REFUSED_EDIT = [("Forbidden", "spec.ips", "auto-pool-share")]


def test_a_user_cannot_create_an_automatic_pool_with_addresses() -> None:
    assert (
        ConfigurationHarness(SUBNET4).refusal_summaries(BLUE_POOL._replace(labels=AUTO_POOL_LABELS))
        == REFUSED_EDIT
    )


def test_a_user_can_create_an_automatic_pool_without_addresses() -> None:
    assert (
        ConfigurationHarness(SUBNET4).refusal_summaries(
            BLUE_POOL._replace(labels=AUTO_POOL_LABELS, ips=())
        )
        == []
    )


def test_an_automatic_pool_without_a_subnet_may_have_addresses() -> None:
    assert (
        ConfigurationHarness().refusal_summaries(BLUE_POOL._replace(labels=AUTO_POOL_LABELS)) == []
    )


def test_all_fields_of_an_automatic_pool_except_its_addresses_can_be_edited() -> None:
    state = ConfigurationHarness(SUBNET4, BLUE_POOL, BLUE_POOL._replace(labels=AUTO_POOL_LABELS))

    assert (
        state.refusal_summaries(BLUE_POOL._replace(labels=AUTO_POOL_LABELS, ips=("10.7.0.10",)))
        == REFUSED_EDIT
    )
    assert (
        state.refusal_summaries(
            BLUE_POOL._replace(labels=AUTO_POOL_LABELS, exclude_ips=("10.7.0.10",))
        )
        == REFUSED_EDIT
    )
    assert (
        state.refusal_summaries(BLUE_POOL._replace(labels=AUTO_POOL_LABELS, ips=())) == REFUSED_EDIT
    )
    assert (
        state.refusal_summaries(BLUE_POOL._replace(labels=AUTO_POOL_LABELS, node_names=("n1",)))
        == []
    )


def test_an_automatic_pool_becomes_manual_when_its_labels_are_removed() -> None:
    state = ConfigurationHarness(SUBNET4, BLUE_POOL, BLUE_POOL._replace(labels=AUTO_POOL_LABELS))

    assert state.refusal_summaries(BLUE_POOL._replace(ips=("10.7.0.10",))) == []


def test_only_an_address_in_use_is_reported_if_other_addresses_are_outside_of_the_subnet() -> None:
    state = ConfigurationHarness(SUBNET4, BLUE_POOL)

    refusals = state.refusals(
        BLUE_POOL._replace(ips=("10.7.0.11-10.7.0.120",)), claims_of_other_pods("10.7.0.10")
    )

    assert [refusal.rule for refusal in refusals] == ["address-in-use"]
