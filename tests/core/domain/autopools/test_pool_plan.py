"""How an automatic pool is created, resized, adopted and deleted.

See docs/reference/automatic-pool-rules.md, "Planning" and "Deletion". ``SUBNET4`` has the 20
addresses 10.7.0.10-10.7.0.29.
"""

from __future__ import annotations

import pytest

from core.domain.addresses.ip_address import V4, V6
from core.domain.autopools.pool_plan import DesiredPool, find_pool, plan_pool
from core.domain.autopools.pool_size import IpNumber
from core.domain.configuration.commands import (
    ApplyAutoPool,
    ApplyPool,
    DeletePool,
    DropAutoPool,
    QuarantineAddress,
    RetirePool,
    RetireSubnet,
)
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.configuration.decisions import decide, removed_addresses
from core.domain.events import PoolDefined, PoolDeleted, PoolRetired
from core.domain.model import Pool, Reservation, Route, Subnet
from core.errors import Refused
from tests.core.domain.autopools.samples import (
    POOL_NAME,
    SUBNET4,
    WEB_KEY,
    WEB_SCOPE,
    WEB_UID,
    claims,
    desired_pool,
)
from tests.core.domain.subnets.samples import ConfigurationHarness

OLD_UID = "00000000-0000-4000-8000-aaaaa0000000"
"""The UID of a deleted application ``web``; the name of its pool ends with ``-aaaaa``."""


def apply_auto_pool(desired: int | DesiredPool, **fields: object) -> ApplyAutoPool:
    """If ``desired`` is a number, it is the size of the pool of application ``web``."""
    pool = desired_pool(desired) if isinstance(desired, int) else desired
    return ApplyAutoPool(pool._replace(**fields))  # type: ignore[arg-type]


def ips_of(state: ConfigurationHarness, name: str = POOL_NAME) -> tuple[str, ...]:
    return state.ledger.pools[name].ips


def test_a_new_pool_takes_the_lowest_free_addresses_in_one_event() -> None:
    state = ConfigurationHarness(SUBNET4, Pool("blue", V4, SUBNET4.subnet, ("10.7.0.11",)))

    (event,) = state.apply(apply_auto_pool(3))

    assert isinstance(event, PoolDefined)
    assert event.pool.name == POOL_NAME
    assert event.pool.ips == ("10.7.0.10", "10.7.0.12-10.7.0.13")


def test_reserved_excluded_and_quarantined_addresses_are_skipped() -> None:
    state = ConfigurationHarness(
        SUBNET4._replace(exclude_ips=("10.7.0.11",)),
        Reservation("kept", V4, ("10.7.0.10",)),
        QuarantineAddress("10.7.0.12", reason="a conflicting host"),
        apply_auto_pool(2),
    )

    assert ips_of(state) == ("10.7.0.13-10.7.0.14",)


def test_a_pool_keeps_the_gateway_and_routes_that_its_subnet_had_at_creation() -> None:
    routes = (Route("10.0.0.0/8", "10.7.0.2"),)
    state = ConfigurationHarness(SUBNET4._replace(routes=routes), apply_auto_pool(1))
    state.apply(SUBNET4._replace(gateway="10.7.0.3", routes=()), apply_auto_pool(2))

    pool = state.ledger.pools[POOL_NAME]

    assert (pool.gateway, pool.routes) == ("10.7.0.1", routes)


def test_a_repeated_command_writes_no_event() -> None:
    state = ConfigurationHarness(SUBNET4, apply_auto_pool(3))

    assert state.apply(apply_auto_pool(3)) == []


def test_a_growing_pool_keeps_its_addresses_and_adds_the_lowest_free_ones() -> None:
    state = ConfigurationHarness(
        SUBNET4,
        apply_auto_pool(2),
        Pool("blue", V4, SUBNET4.subnet, ("10.7.0.12",)),
        apply_auto_pool(4),
    )

    assert ips_of(state) == ("10.7.0.10-10.7.0.11", "10.7.0.13-10.7.0.14")


def test_a_shrinking_pool_gives_up_its_lowest_unused_addresses() -> None:
    state = ConfigurationHarness(SUBNET4, apply_auto_pool(5))

    state.apply(apply_auto_pool(3), claimed=claims("10.7.0.10", "10.7.0.12"))

    assert ips_of(state) == ("10.7.0.10", "10.7.0.12", "10.7.0.14")


def test_a_pool_may_shrink_to_no_address_and_grow_again() -> None:
    state = ConfigurationHarness(SUBNET4, apply_auto_pool(2), apply_auto_pool(0))
    assert ips_of(state) == ()

    state.apply(apply_auto_pool(1))

    assert ips_of(state) == ("10.7.0.10",)


REFUSALS: dict[str, tuple[ConfigurationHarness, ApplyAutoPool, tuple[str, str], str]] = {
    "no such subnet": (
        ConfigurationHarness(),
        apply_auto_pool(1),
        ("NotFound", "unknown-name"),
        "there is no SpiderSubnet/net",
    ),
    "a subnet of the other family": (
        ConfigurationHarness(SUBNET4),
        apply_auto_pool(desired_pool(1, WEB_SCOPE._replace(family=V6))),
        ("Invalid", "subnet-family"),
        "SpiderSubnet/net is of IPv4, the Pod template names it for IPv6",
    ),
    "a subnet that is being retired": (
        ConfigurationHarness(SUBNET4, RetireSubnet("net")),
        apply_auto_pool(1),
        ("Forbidden", "retiring"),
        "SpiderSubnet/net is being retired: automatic pools in it are not created or changed",
    ),
    "too few addresses": (
        ConfigurationHarness(SUBNET4, Pool("blue", V4, SUBNET4.subnet, ("10.7.0.10-10.7.0.27",))),
        apply_auto_pool(3),
        ("Forbidden", "insufficient-subnet"),
        "insufficient subnet FreeIPs, required '3' but only left '2' in SpiderSubnet/net",
    ),
    "too few free addresses to grow": (
        ConfigurationHarness(SUBNET4, apply_auto_pool(15)),
        apply_auto_pool(21),
        ("Forbidden", "insufficient-subnet"),
        "insufficient subnet FreeIPs, required '6' but only left '5' in SpiderSubnet/net",
    ),
    "more addresses than any subnet has": (
        ConfigurationHarness(SUBNET4),
        apply_auto_pool(2**63 - 1),
        ("Forbidden", "insufficient-subnet"),
        (
            f"insufficient subnet FreeIPs, required '{2**63 - 1}' but only left '20'"
            " in SpiderSubnet/net"
        ),
    ),
    "a pool of another CIDR inside the subnet": (
        ConfigurationHarness(SUBNET4, Pool("odd", V4, "10.7.0.0/24", ("10.7.0.200",))),
        apply_auto_pool(1),
        ("Invalid", "subnet-overlap"),
        "10.7.0.0/16 overlaps 10.7.0.0/24, the subnet of SpiderIPPool/odd",
    ),
}


@pytest.mark.parametrize(
    ("state", "command", "kind_and_rule", "message"), REFUSALS.values(), ids=REFUSALS
)
def test_an_impossible_command_is_refused_with_its_reason(
    state: ConfigurationHarness,
    command: ApplyAutoPool,
    kind_and_rule: tuple[str, str],
    message: str,
) -> None:
    (refusal,) = state.refusals(command)

    assert (refusal.kind, refusal.rule) == kind_and_rule
    assert refusal.message == message


def test_shrinking_a_pool_by_more_than_its_free_addresses_is_refused() -> None:
    state = ConfigurationHarness(SUBNET4, apply_auto_pool(4))

    (refusal,) = state.refusals(apply_auto_pool(1), claims("10.7.0.10", "10.7.0.11"))

    assert refusal.rule == "scale-down"
    assert refusal.message == (
        "failed to scale down by 3: IPPool available free IPs are not enough,"
        " 2 of 4 addresses are free"
    )


def test_a_pool_of_a_deleted_application_is_adopted_resized_and_relabelled() -> None:
    state = ConfigurationHarness(
        SUBNET4, apply_auto_pool(desired_pool(2, uid=OLD_UID), reclaim=False)
    )

    state.apply(apply_auto_pool(3))

    (pool,) = state.ledger.pools.values()
    assert pool.name == "auto4-web-eth0-aaaaa"
    assert pool.labels["ipam.spidernet.io/owner-application-uid"] == WEB_UID
    assert pool.labels["ipam.spidernet.io/ippool-reclaim"] == "true"
    assert pool_addresses(pool).size == 3


def test_a_pool_with_reclaim_on_is_not_adopted() -> None:
    state = ConfigurationHarness(
        SUBNET4, apply_auto_pool(desired_pool(2, uid=OLD_UID)), apply_auto_pool(2)
    )

    assert sorted(state.ledger.pools) == [POOL_NAME, "auto4-web-eth0-aaaaa"]


def test_a_retiring_pool_is_replaced_by_a_pool_of_another_name() -> None:
    state = ConfigurationHarness(
        SUBNET4, apply_auto_pool(2), RetirePool(POOL_NAME), apply_auto_pool(2)
    )

    assert sorted(state.ledger.pools) == [POOL_NAME, f"{POOL_NAME}-2"]


def test_an_automatic_pool_does_not_take_the_name_of_a_manual_pool() -> None:
    state = ConfigurationHarness(
        SUBNET4, Pool(POOL_NAME, V4, SUBNET4.subnet, ("10.7.0.20",)), apply_auto_pool(1)
    )

    assert ips_of(state, POOL_NAME) == ("10.7.0.20",)
    assert ips_of(state, f"{POOL_NAME}-2") == ("10.7.0.10",)


def test_a_refusal_reports_that_every_name_is_taken() -> None:
    # The suffixes of a pool name are -2 to -16.
    names = [POOL_NAME, *(f"{POOL_NAME}-{number}" for number in range(2, 17))]
    state = ConfigurationHarness(SUBNET4, *(Pool(name, V4, SUBNET4.subnet) for name in names))

    assert state.refusal_summaries(apply_auto_pool(1)) == [("Forbidden", "spec.ips", "name-taken")]


OTHER_SCOPES = [
    WEB_SCOPE._replace(interface="net1"),
    WEB_SCOPE._replace(application=WEB_KEY._replace(kind="StatefulSet")),
    WEB_SCOPE._replace(application=WEB_KEY._replace(namespace="other")),
    WEB_SCOPE._replace(application=WEB_KEY._replace(api_version="apps.kruise.io/v1")),
    WEB_SCOPE._replace(application=WEB_KEY._replace(name="web2")),
    WEB_SCOPE._replace(subnet="other"),
]


@pytest.mark.parametrize("scope", OTHER_SCOPES)
def test_a_pool_is_found_only_for_its_own_scope(scope: object) -> None:
    state = ConfigurationHarness(SUBNET4, apply_auto_pool(2, reclaim=False))
    pools = list(state.ledger.pools.values())

    assert find_pool(WEB_SCOPE, uid=OLD_UID, pools=pools) is not None
    assert find_pool(scope, uid=WEB_UID, pools=pools) is None  # type: ignore[arg-type]


def test_an_application_prefers_its_own_pool_to_an_adoptable_pool() -> None:
    state = ConfigurationHarness(SUBNET4, apply_auto_pool(1, reclaim=False))
    own_pool = state.ledger.pools[POOL_NAME]
    labels = {**own_pool.labels, "ipam.spidernet.io/owner-application-uid": OLD_UID}
    adoptable_pool = own_pool._replace(name="a-twin", labels=labels)

    chosen = find_pool(WEB_SCOPE, uid=WEB_UID, pools=[adoptable_pool, own_pool])

    assert chosen is not None
    assert chosen.name == POOL_NAME


def test_another_number_with_the_same_size_changes_only_the_annotation() -> None:
    state = ConfigurationHarness(SUBNET4, apply_auto_pool(3))
    command = apply_auto_pool(3, number=IpNumber(1, is_flexible=True))
    plan = plan_pool(command.desired, state.configuration, claimed={})

    state.apply(command)

    assert plan.action == "refresh"
    assert not plan.changed_addresses
    number = state.ledger.pools[POOL_NAME].annotations["ipam.spidernet.io/ippool-ip-number"]
    assert number == "+1"


def test_a_resized_pool_keeps_the_node_names_and_labels_that_users_set() -> None:
    state = ConfigurationHarness(SUBNET4, apply_auto_pool(2))
    pool = state.ledger.pools[POOL_NAME]
    state.apply(ApplyPool(pool._replace(node_names=("n1",), labels={**pool.labels, "a": "b"})))

    state.apply(apply_auto_pool(3))

    assert state.ledger.pools[POOL_NAME].node_names == ("n1",)
    assert state.ledger.pools[POOL_NAME].labels["a"] == "b"


def test_an_automatic_pool_can_lose_addresses_only_if_it_shrinks() -> None:
    state = ConfigurationHarness(SUBNET4, apply_auto_pool(3))

    assert removed_addresses(state.configuration, apply_auto_pool(3)) is None
    assert removed_addresses(state.configuration, apply_auto_pool(4)) is None
    assert removed_addresses(state.configuration, apply_auto_pool(2)) == pool_addresses(
        state.ledger.pools[POOL_NAME]
    )


def test_a_drop_command_deletes_only_an_empty_pool() -> None:
    state = ConfigurationHarness(SUBNET4, apply_auto_pool(2))
    claimed = claims("10.7.0.10")

    assert state.apply(DropAutoPool(POOL_NAME, WEB_UID), claimed=claimed) == []
    assert state.apply(DropAutoPool(POOL_NAME, WEB_UID, retire=True), claimed=claimed) == [
        PoolRetired(POOL_NAME)
    ]
    assert state.apply(DropAutoPool(POOL_NAME, WEB_UID, retire=True), claimed=claimed) == []
    assert state.apply(DropAutoPool(POOL_NAME, WEB_UID)) == [PoolDeleted(POOL_NAME)]
    assert state.apply(DropAutoPool(POOL_NAME, WEB_UID)) == []


def test_a_drop_command_keeps_adopted_and_manual_pools() -> None:
    state = ConfigurationHarness(
        SUBNET4, apply_auto_pool(desired_pool(2, uid=OLD_UID), reclaim=False), apply_auto_pool(2)
    )
    with_manual_pool = ConfigurationHarness(SUBNET4, Pool("blue", V4, SUBNET4.subnet))

    assert state.apply(DropAutoPool("auto4-web-eth0-aaaaa", OLD_UID)) == []
    assert with_manual_pool.apply(DropAutoPool("blue", WEB_UID)) == []


def test_a_deleted_pool_is_created_again() -> None:
    state = ConfigurationHarness(SUBNET4, apply_auto_pool(2), DeletePool(POOL_NAME))

    state.apply(apply_auto_pool(2))

    assert ips_of(state) == ("10.7.0.10-10.7.0.11",)


def test_a_pool_in_a_subnet_of_2_to_the_112_addresses_is_planned() -> None:
    huge_subnet = Subnet(
        "net6", V6, "fd00::/16", ("fd00::1-fd00:ffff:ffff:ffff:ffff:ffff:ffff:ffff",)
    )
    state = ConfigurationHarness(
        huge_subnet,
        apply_auto_pool(desired_pool(2**60, WEB_SCOPE._replace(family=V6, subnet="net6"))),
    )

    (pool,) = state.ledger.pools.values()

    assert pool_addresses(pool).size == 2**60


def test_the_decision_on_an_impossible_command_raises_refused() -> None:
    with pytest.raises(Refused):
        decide(ConfigurationHarness().configuration, apply_auto_pool(1), claimed={})
