"""Rules for a pool in a SpiderSubnet that has the same CIDR.

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
from tests.core.domain.subnets.samples import BLUE_POOL, SUBNET4, SUBNET6, State, claims

OWNER = "ipam.spidernet.io/owner-spider-subnet"
APPLICATION = "ipam.spidernet.io/owner-application-name"


def test_a_pool_in_the_cidr_of_a_subnet_is_adopted_and_inherits_gateway_and_routes() -> None:
    (event,) = State(SUBNET4).do(BLUE_POOL)

    assert isinstance(event, PoolDefined)
    assert event.pool.labels[OWNER] == "net"
    assert (event.pool.gateway, event.pool.routes) == (SUBNET4.gateway, SUBNET4.routes)


def test_an_adopted_pool_keeps_its_own_gateway_and_empty_routes() -> None:
    (event,) = State(SUBNET4).do(BLUE_POOL._replace(gateway="10.7.0.9", routes=()))

    assert isinstance(event, PoolDefined)
    assert (event.pool.gateway, event.pool.routes) == ("10.7.0.9", ())


def test_a_pool_without_a_subnet_is_accepted() -> None:
    state = State(SUBNET6, BLUE_POOL)

    assert OWNER not in state.ledger.pools["blue"].labels
    assert state.ledger.pools["blue"].gateway == ""


def test_a_label_that_names_an_unknown_subnet_is_removed() -> None:
    state = State(BLUE_POOL._replace(labels={OWNER: "missing", "a": "b"}))

    assert OWNER not in state.ledger.pools["blue"].labels
    assert state.ledger.pools["blue"].labels["a"] == "b"


def test_a_label_that_names_another_subnet_is_corrected() -> None:
    state = State(SUBNET4, SUBNET6, BLUE_POOL._replace(labels={OWNER: "net6"}))

    assert state.ledger.pools["blue"].labels[OWNER] == "net"


def test_an_unchanged_pool_writes_no_event_even_after_a_change_of_the_subnet() -> None:
    state = State(SUBNET4, BLUE_POOL)
    state.do(SUBNET4._replace(gateway="10.7.0.3", routes=(Route("10.1.0.0/16", "10.7.0.3"),)))

    assert state.do(BLUE_POOL) == []
    assert state.ledger.pools["blue"].gateway == "10.7.0.1"


def test_a_later_pool_inherits_the_current_gateway_of_the_subnet() -> None:
    state = State(SUBNET4, BLUE_POOL, SUBNET4._replace(gateway="10.7.0.3"))

    state.do(Pool("green", V4, SUBNET4.subnet, ("10.7.0.50",)))

    assert state.ledger.pools["green"].gateway == "10.7.0.3"


def test_a_retiring_subnet_still_adopts_pools() -> None:
    state = State(SUBNET4, RetireSubnet("net"), BLUE_POOL)

    assert state.ledger.pools["blue"].labels[OWNER] == "net"


OUTSIDE = [("Forbidden", "spec.ips", "outside-owner")]
ADDRESSES: dict[str, tuple[Pool, list[tuple[str, str, str]]]] = {
    "inside": (BLUE_POOL, []),
    "all addresses of the subnet": (BLUE_POOL._replace(ips=SUBNET4.ips), []),
    "partly outside": (BLUE_POOL._replace(ips=("10.7.0.90-10.7.0.110",)), OUTSIDE),
    "outside, though excluded": (
        BLUE_POOL._replace(ips=("10.7.0.90-10.7.0.110",), exclude_ips=("10.7.0.100-10.7.0.110",)),
        [],
    ),
    "no addresses at all": (BLUE_POOL._replace(ips=()), []),
    "outside of its CIDR, which is checked first": (
        BLUE_POOL._replace(ips=("10.8.0.1",)), [("Invalid", "spec.subnet", "item-outside-subnet")],
    ),
    "the other family": (Pool("six", V6, "fd00:9::/64", ("fd00:9::1",)), []),
    "a CIDR inside that of the subnet": (
        BLUE_POOL._replace(subnet="10.7.0.0/24"), [],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("pool", "causes"), ADDRESSES.values(), ids=ADDRESSES)
def test_a_new_pool_must_lie_inside_its_subnet(
    pool: Pool, causes: list[tuple[str, str, str]]
) -> None:
    assert State(SUBNET4).causes(pool) == causes


def test_addresses_that_the_subnet_excludes_are_refused_to_a_manual_pool() -> None:
    state = State(SUBNET4._replace(exclude_ips=("10.7.0.15",)))

    (refusal,) = state.refusals(BLUE_POOL)

    assert refusal.message == "10.7.0.15 is outside of SpiderSubnet/net"


def test_a_pool_cannot_grow_out_of_its_subnet() -> None:
    state = State(SUBNET4, BLUE_POOL)

    assert state.causes(BLUE_POOL._replace(ips=("10.7.0.10-10.7.0.120",))) == OUTSIDE


def test_a_pool_may_grow_and_shrink_inside_its_subnet() -> None:
    state = State(SUBNET4, BLUE_POOL)

    state.do(BLUE_POOL._replace(ips=("10.7.0.10-10.7.0.12", "10.7.0.40")))

    assert shares_of_subnet("net", state.ledger.pools) == [
        Share("blue", ("10.7.0.10-10.7.0.12", "10.7.0.40"))
    ]
    counts = count_addresses(state.ledger.subnets["net"], state.ledger.pools)
    assert counts == SubnetCounts(total=90, allocated=4, free=86)


def test_a_deleted_pool_frees_its_share_and_a_retiring_one_does_not() -> None:
    state = State(SUBNET4, BLUE_POOL, RetirePool("blue"))
    assert [share.pool for share in shares_of_subnet("net", state.ledger.pools)] == ["blue"]

    state.do(DeletePool("blue"))

    assert shares_of_subnet("net", state.ledger.pools) == []


AUTO = {APPLICATION: "web"}
EDITED = [("Forbidden", "spec.ips", "auto-pool-share")]


def test_a_user_cannot_create_an_automatic_pool_with_addresses() -> None:
    assert State(SUBNET4).causes(BLUE_POOL._replace(labels=AUTO)) == EDITED


def test_an_automatic_pool_without_addresses_is_not_validated() -> None:
    assert State(SUBNET4).causes(BLUE_POOL._replace(labels=AUTO, ips=())) == []


def test_an_automatic_pool_without_any_subnet_is_like_any_other_pool() -> None:
    assert State().causes(BLUE_POOL._replace(labels=AUTO)) == []


def test_the_addresses_of_an_automatic_pool_cannot_be_edited_and_other_fields_can() -> None:
    state = State(SUBNET4, BLUE_POOL, BLUE_POOL._replace(labels=AUTO))

    assert state.causes(BLUE_POOL._replace(labels=AUTO, ips=("10.7.0.10",))) == EDITED
    assert state.causes(BLUE_POOL._replace(labels=AUTO, exclude_ips=("10.7.0.10",))) == EDITED
    assert state.causes(BLUE_POOL._replace(labels=AUTO, ips=())) == EDITED
    assert state.causes(BLUE_POOL._replace(labels=AUTO, node_names=("n1",))) == []


def test_an_automatic_pool_without_its_labels_is_a_manual_one() -> None:
    state = State(SUBNET4, BLUE_POOL, BLUE_POOL._replace(labels=AUTO))

    assert state.causes(BLUE_POOL._replace(ips=("10.7.0.10",))) == []


def test_an_address_in_use_is_reported_before_the_subnet() -> None:
    state = State(SUBNET4, BLUE_POOL)

    refusals = state.refusals(
        BLUE_POOL._replace(ips=("10.7.0.11-10.7.0.120",)), claims("10.7.0.10")
    )

    assert [refusal.rule for refusal in refusals] == ["address-in-use"]
