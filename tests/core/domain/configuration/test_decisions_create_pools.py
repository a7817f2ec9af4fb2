"""The rules for a new SpiderIPPool, and the kind and field of each refusal.

See docs/reference/admission.md, "SpiderIPPool".
"""

from __future__ import annotations

import pytest

from core.domain.addresses.ip_address import V4, V6
from core.domain.configuration.commands import ApplyPool, ApplyReservation
from core.domain.configuration.decisions import decide
from core.domain.events import PoolDefined
from core.domain.model import Pool, Route
from core.domain.patterns.labels import LabelSelector, Requirement
from core.domain.validation.common_rules import REFUSALS_MAX
from tests.core.domain.configuration.samples import (
    BLUE_POOL,
    EMPTY_CONFIGURATION,
    GREEN_POOL,
    after_command,
    configuration_with,
    kinds_and_fields,
    refusals,
    reservation,
    with_retiring_pool,
)

INVALID_SUBNET = ("Invalid", "spec.subnet")
APPLICATION_LABELS = {"ipam.spidernet.io/owner-application-name": "web"}


def blue_with(**fields: object) -> Pool:
    return BLUE_POOL._replace(**fields)  # type: ignore[arg-type]


def red_with(**fields: object) -> Pool:
    return Pool("red", V4, "10.7.0.0/16")._replace(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("pool", [BLUE_POOL, GREEN_POOL])
def test_a_valid_pool_is_defined_unchanged_except_for_its_labels(pool: Pool) -> None:
    (event,) = decide(EMPTY_CONFIGURATION, ApplyPool(pool), claimed={})

    assert isinstance(event, PoolDefined)
    assert event.pool == pool._replace(labels=event.pool.labels)


def test_a_new_pool_is_never_retiring() -> None:
    (event,) = decide(EMPTY_CONFIGURATION, ApplyPool(BLUE_POOL._replace(retiring=True)), claimed={})

    assert isinstance(event, PoolDefined)
    assert not event.pool.retiring


ACCEPTED = {
    "no addresses at all": blue_with(ips=()),
    "no gateway": blue_with(gateway=""),
    "all addresses excluded": blue_with(exclude_ips=("10.7.0.0-10.7.255.255",)),
    "the network and broadcast addresses": blue_with(ips=("10.7.0.0-10.7.255.255",), gateway=""),
    "all of IPv4": blue_with(subnet="0.0.0.0/0", ips=("0.0.0.0-255.255.255.255",), gateway=""),
    "a subnet of one address": blue_with(subnet="10.7.0.9/32", ips=("10.7.0.9",), gateway=""),
    "an IPv4-mapped address": blue_with(ips=("::ffff:10.7.0.9",), gateway="::ffff:10.7.0.1"),
    "a range with one IPv4-mapped end": blue_with(ips=("10.7.0.9-::ffff:10.7.0.12",)),
    "items that overlap each other": blue_with(ips=("10.7.0.9", "10.7.0.9-10.7.0.12", "10.7.0.9")),
    "the gateway in ips and in excludeIPs": blue_with(
        ips=("10.7.0.1-10.7.0.9",), exclude_ips=("10.7.0.1",)
    ),
    "the gateway in another spelling in excludeIPs": GREEN_POOL._replace(
        ips=("fd00:7::1-fd00:7::20",), exclude_ips=("fd00:7:0:0::1",)
    ),
    "an IPv4-mapped gateway that is excluded": blue_with(
        ips=("10.7.0.1-10.7.0.9",), exclude_ips=("10.7.0.1",), gateway="::ffff:10.7.0.1"
    ),
    "an empty list of routes": blue_with(routes=()),
    "a route with host bits": blue_with(routes=(Route("10.9.1.1/16", "10.7.0.1"),)),
    "a route with a padded length": blue_with(routes=(Route("10.9.0.0/016", "10.7.0.1"),)),
    "an IPv4-mapped route": blue_with(routes=(Route("::ffff:11.0.0.0/104", "::ffff:10.7.0.1"),)),
    "two spellings of one destination": blue_with(
        routes=(Route("10.9.0.0/16", "10.7.0.1"), Route("10.9.0.1/16", "10.7.0.1"))
    ),
    "a default route in another spelling": blue_with(routes=(Route("1.2.3.4/0", "10.7.0.1"),)),
    "a pod affinity": blue_with(pod_affinity=LabelSelector({"app": "web"})),
    "an application's pod affinity": blue_with(
        labels=APPLICATION_LABELS, pod_affinity=LabelSelector({"ipam.spidernet.io/app-name": "web"})
    ),
    "an application's empty pod affinity": blue_with(
        labels=APPLICATION_LABELS, pod_affinity=LabelSelector()
    ),
    "an invalid node affinity, which is not checked": blue_with(
        node_affinity=LabelSelector({}, (Requirement("-", "Nonsense", values=()),))
    ),
    "an empty namespace affinity, which is not checked": blue_with(
        namespace_affinity=LabelSelector()
    ),
    "invalid names of nodes, namespaces and networks, which are not checked": blue_with(
        node_names=("No_Such_Node",), namespace_names=("?",), multus_names=("a/b/c",)
    ),
}


@pytest.mark.parametrize("pool", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_a_pool_within_the_rules_is_accepted(pool: Pool) -> None:
    assert refusals(EMPTY_CONFIGURATION, ApplyPool(pool)) == ()


REFUSED = {
    "a name in upper case": (blue_with(name="Blue"), [("Invalid", "metadata.name")]),
    "an empty name": (blue_with(name=""), [("Invalid", "metadata.name")]),
    "a name with a slash": (blue_with(name="a/b"), [("Invalid", "metadata.name")]),
    "a name of 254 characters": (blue_with(name="a" * 254), [("Invalid", "metadata.name")]),
    "a name with an empty label": (blue_with(name="a..b"), [("Invalid", "metadata.name")]),
    "an address as subnet": (blue_with(subnet="10.7.0.0"), [INVALID_SUBNET]),
    "an empty subnet": (blue_with(subnet=""), [INVALID_SUBNET]),
    "a subnet with a length of 33": (blue_with(subnet="10.7.0.0/33"), [INVALID_SUBNET]),
    "a subnet with host bits": (blue_with(subnet="10.7.0.1/16"), [INVALID_SUBNET]),
    "a subnet with a padded length": (blue_with(subnet="10.7.0.0/016"), [INVALID_SUBNET]),
    "a subnet of the other family": (
        blue_with(subnet="fd00:7::/64", ips=(), gateway=""),
        [INVALID_SUBNET],
    ),
    "an IPv4-mapped subnet": (blue_with(subnet="::ffff:10.7.0.0/112"), [INVALID_SUBNET]),
    "an uncompressed IPv6 subnet": (GREEN_POOL._replace(subnet="fd00:7:0::/64"), [INVALID_SUBNET]),
    "an IPv6 subnet in upper case": (GREEN_POOL._replace(subnet="FD00:7::/64"), [INVALID_SUBNET]),
    "a subnet with a zone": (GREEN_POOL._replace(subnet="fe80::%eth0/64"), [INVALID_SUBNET]),
    "an item that is a CIDR": (blue_with(ips=("10.7.0.0/24",)), [INVALID_SUBNET]),
    "an item with spaces": (blue_with(ips=("10.7.0.1 - 10.7.0.2",)), [INVALID_SUBNET]),
    "an empty item": (blue_with(ips=("",)), [INVALID_SUBNET]),
    "an item of the other family": (blue_with(ips=("fd00::1",)), [INVALID_SUBNET]),
    "an item of both families": (blue_with(ips=("10.7.0.9-fd00::1",)), [INVALID_SUBNET]),
    "an IPv4 item in the subnet of all IPv6 addresses": (
        Pool("all", V6, "::/0", ("10.7.0.9",)),
        [INVALID_SUBNET],
    ),
    "an item above the subnet": (blue_with(ips=("10.8.0.0",)), [INVALID_SUBNET]),
    "an item below the subnet": (blue_with(ips=("10.6.255.255",)), [INVALID_SUBNET]),
    "an item that leaves the subnet": (blue_with(ips=("10.7.255.0-10.8.0.1",)), [INVALID_SUBNET]),
    "a reversed range": (blue_with(ips=("10.7.0.20-10.7.0.10",)), [INVALID_SUBNET]),
    "a reversed range beside a valid item": (
        blue_with(ips=("10.7.0.20-10.7.0.10", "10.7.0.30")),
        [INVALID_SUBNET],
    ),
    "an excluded item outside of the subnet": (
        blue_with(exclude_ips=("10.8.0.1",)),
        [INVALID_SUBNET],
    ),
    "a reversed excluded range": (
        blue_with(exclude_ips=("10.7.0.20-10.7.0.10",)),
        [INVALID_SUBNET],
    ),
    "a gateway that is not an address": (blue_with(gateway="gw"), [("Invalid", "spec.gateway")]),
    "a gateway of the other family": (blue_with(gateway="fd00::1"), [("Invalid", "spec.gateway")]),
    "a gateway outside of the subnet": (
        blue_with(gateway="10.8.0.1"),
        [("Invalid", "spec.gateway")],
    ),
    "a gateway in a range of ips": (blue_with(gateway="10.7.0.15"), [("Invalid", "spec.ips[0]")]),
    "a gateway in the second item": (
        blue_with(ips=("10.7.0.3", "10.7.0.10-10.7.0.20"), gateway="10.7.0.10"),
        [("Invalid", "spec.ips[1]")],
    ),
    "a gateway as a single item in another spelling": (
        GREEN_POOL._replace(ips=("fd00:7:0::1",)),
        [("Invalid", "spec.ips[0]")],
    ),
    "a default route": (
        blue_with(routes=(Route("0.0.0.0/0", "10.7.0.1"),)),
        [("Invalid", "spec.routes[0].dst")],
    ),
    "an IPv6 default route": (
        GREEN_POOL._replace(routes=(Route("::/0", "fd00:7::1"),)),
        [("Invalid", "spec.routes[0].dst")],
    ),
    "one destination twice": (
        blue_with(routes=(Route("10.9.0.0/16", "10.7.0.1"), Route("10.9.0.0/16", "10.7.0.2"))),
        [("Invalid", "spec.routes[1].dst")],
    ),
    "a destination that is an address": (
        blue_with(routes=(Route("10.9.0.1", "10.7.0.1"),)),
        [("Invalid", "spec.routes[0].dst")],
    ),
    "a destination of the other family": (
        blue_with(routes=(Route("fd00::/8", "10.7.0.1"),)),
        [("Invalid", "spec.routes[0].dst")],
    ),
    "a route with a gateway in another subnet": (
        blue_with(routes=(Route("10.9.0.0/16", "10.8.0.1"),)),
        [("Invalid", "spec.routes[0].gw")],
    ),
    "a route without a gateway": (
        blue_with(routes=(Route("10.9.0.0/16", gw=""),)),
        [("Invalid", "spec.routes[0].gw")],
    ),
    "an empty pod affinity": (
        blue_with(pod_affinity=LabelSelector()),
        [("Invalid", "spec.podAffinity")],
    ),
    "an empty label key (two faults)": (
        blue_with(pod_affinity=LabelSelector({"": "x"})),
        [("Invalid", "spec.podAffinity.matchLabels")] * 2,
    ),
    "an unknown operator": (
        blue_with(pod_affinity=LabelSelector({}, (Requirement("a", "Is", ("b",)),))),
        [("Invalid", "spec.podAffinity.matchExpressions[0].operator")],
    ),
    "values for Exists": (
        blue_with(pod_affinity=LabelSelector({}, (Requirement("a", "Exists", ("b",)),))),
        [("Forbidden", "spec.podAffinity.matchExpressions[0].values")],
    ),
    "no values for In": (
        blue_with(pod_affinity=LabelSelector({"a": "b"}, (Requirement("a", "In"),))),
        [("Required", "spec.podAffinity.matchExpressions[0].values")],
    ),
    "an application's pool with labels of other Pods": (
        blue_with(labels=APPLICATION_LABELS, pod_affinity=LabelSelector({"app": "web"})),
        [("Invalid", "spec.podAffinity")],
    ),
    "an application's pool with expressions": (
        blue_with(
            labels=APPLICATION_LABELS,
            pod_affinity=LabelSelector({}, (Requirement("a", "In", ("b",)),)),
        ),
        [("Invalid", "spec.podAffinity")],
    ),
    "labels beyond the size limit": (
        blue_with(labels={"a": "x" * 65_536}),
        [("Invalid", "metadata.labels")],
    ),
    "annotations beyond the size limit": (
        blue_with(annotations={"a": "x" * 262_144}),
        [("Invalid", "metadata.annotations")],
    ),
    "a pool beyond the size limit": (blue_with(node_names=("n" * 253,) * 1_300), [("Invalid", "")]),
}


@pytest.mark.parametrize(("pool", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_a_pool_that_breaks_a_rule_is_refused_with_kind_and_field(
    pool: Pool, expected: list[tuple[str, str]]
) -> None:
    assert kinds_and_fields(EMPTY_CONFIGURATION, ApplyPool(pool)) == expected


def test_a_refusal_names_the_invalid_item() -> None:
    (refusal,) = refusals(
        EMPTY_CONFIGURATION, ApplyPool(blue_with(ips=("10.7.0.9", "10.7.0.2-10.7.0.1")))
    )

    assert refusal.subject == "SpiderIPPool/blue"
    assert refusal.message == "spec.ips[1]: '10.7.0.2-10.7.0.1' ends before it begins"


def test_the_remedy_shows_the_canonical_subnet() -> None:
    (refusal,) = refusals(EMPTY_CONFIGURATION, ApplyPool(blue_with(subnet="10.7.3.4/16")))

    assert refusal.remedy == "write 10.7.0.0/16"


class TestSeveralCauses:
    def test_a_disabled_family_is_the_only_reported_cause(self) -> None:
        configuration = EMPTY_CONFIGURATION._replace(ipv4_enabled=False)
        pool = blue_with(subnet="x", pod_affinity=LabelSelector())

        assert kinds_and_fields(configuration, ApplyPool(pool)) == [("Forbidden", "spec.ipVersion")]
        assert refusals(configuration, ApplyPool(GREEN_POOL)) == ()

    def test_ipv6_can_be_disabled_too(self) -> None:
        configuration = EMPTY_CONFIGURATION._replace(ipv6_enabled=False)

        assert kinds_and_fields(configuration, ApplyPool(GREEN_POOL)) == [
            ("Forbidden", "spec.ipVersion")
        ]
        assert refusals(configuration, ApplyPool(BLUE_POOL)) == ()

    def test_an_invalid_subnet_is_the_only_reported_cause(self) -> None:
        pool = blue_with(subnet="10.7.0.1/16", gateway="x", pod_affinity=LabelSelector())

        assert kinds_and_fields(EMPTY_CONFIGURATION, ApplyPool(pool)) == [INVALID_SUBNET]

    def test_the_first_address_fault_is_reported_with_all_faults_of_pod_affinity(self) -> None:
        pool = blue_with(
            ips=("10.8.0.1",),
            gateway="x",
            pod_affinity=LabelSelector({"": "x"}, (Requirement("a", "Is"),)),
        )

        assert kinds_and_fields(EMPTY_CONFIGURATION, ApplyPool(pool)) == [
            INVALID_SUBNET,
            ("Invalid", "spec.podAffinity.matchLabels"),
            ("Invalid", "spec.podAffinity.matchLabels"),
            ("Invalid", "spec.podAffinity.matchExpressions[0].operator"),
        ]

    def test_only_the_first_fault_of_items_overlaps_and_gateway_is_reported(self) -> None:
        configuration = configuration_with(BLUE_POOL)
        shared = ("10.7.0.10",)

        outside_pool = red_with(ips=(*shared, "10.8.0.1"), gateway="x")
        overlapping_pool = red_with(ips=shared, gateway="x", routes=(Route("x", "x"),))
        bad_gateway_pool = red_with(gateway="x", routes=(Route("x", "x"),))

        assert kinds_and_fields(configuration, ApplyPool(outside_pool)) == [INVALID_SUBNET]
        assert kinds_and_fields(configuration, ApplyPool(overlapping_pool)) == [
            ("Forbidden", "spec.ips")
        ]
        assert kinds_and_fields(configuration, ApplyPool(bad_gateway_pool)) == [
            ("Invalid", "spec.gateway")
        ]

    def test_the_number_of_causes_is_bounded(self) -> None:
        selector = LabelSelector({}, tuple(Requirement("", "Is") for _ in range(100)))

        refused = refusals(EMPTY_CONFIGURATION, ApplyPool(blue_with(pod_affinity=selector)))

        assert len(refused) == REFUSALS_MAX


class TestNeighbours:
    @pytest.mark.parametrize(
        "subnet", ["10.7.0.0/17", "10.0.0.0/8", "10.7.0.0/32", "10.7.255.255/32", "0.0.0.0/0"]
    )
    def test_a_subnet_that_overlaps_another_subnet_is_refused(self, subnet: str) -> None:
        (refusal,) = refusals(configuration_with(BLUE_POOL), ApplyPool(red_with(subnet=subnet)))

        assert (refusal.kind, refusal.field) == INVALID_SUBNET
        assert "10.7.0.0/16, the subnet of SpiderIPPool/blue" in refusal.message

    @pytest.mark.parametrize("subnet", ["10.7.0.0/16", "10.6.0.0/16", "10.8.0.0/16"])
    def test_an_equal_or_a_disjoint_subnet_is_accepted(self, subnet: str) -> None:
        assert refusals(configuration_with(BLUE_POOL), ApplyPool(red_with(subnet=subnet))) == ()

    def test_subnets_of_different_families_do_not_overlap(self) -> None:
        all_ipv6 = Pool("all", V6, "::/0", ("::-ffff::",))

        assert refusals(configuration_with(BLUE_POOL), ApplyPool(all_ipv6)) == ()

    def test_the_refusal_names_the_alphabetically_first_overlapping_pool(self) -> None:
        configuration = configuration_with(red_with(subnet="10.9.0.0/16", name="zoe"), BLUE_POOL)

        (refusal,) = refusals(configuration, ApplyPool(red_with(subnet="10.0.0.0/8")))

        assert "SpiderIPPool/blue" in refusal.message

    def test_the_refusal_of_an_address_of_another_pool_names_pool_and_ranges(self) -> None:
        pool = red_with(ips=("10.7.0.5-10.7.0.11", "10.7.0.20-10.7.0.30"))

        (refusal,) = refusals(configuration_with(BLUE_POOL), ApplyPool(pool))

        assert (refusal.kind, refusal.field) == ("Forbidden", "spec.ips")
        assert refusal.message == ("SpiderIPPool/blue already has 10.7.0.10-10.7.0.11, 10.7.0.20")

    def test_the_refusal_counts_shared_ranges_beyond_its_limit(self) -> None:
        items = tuple(f"10.7.1.{number}" for number in range(0, 20, 2))
        configuration = configuration_with(blue_with(ips=items))

        (refusal,) = refusals(configuration, ApplyPool(red_with(ips=("10.7.1.0-10.7.1.255",))))

        assert "already has " in refusal.message
        assert refusal.message.endswith("10.7.1.6 and 6 more ranges")

    def test_an_address_that_one_pool_excludes_may_be_in_another_pool(self) -> None:
        configuration = configuration_with(blue_with(exclude_ips=("10.7.0.15-10.7.0.20",)))
        pool = red_with(ips=("10.7.0.10-10.7.0.18",), exclude_ips=("10.7.0.1-10.7.0.14",))

        assert refusals(configuration, ApplyPool(pool)) == ()

    def test_a_retiring_pool_still_holds_its_addresses_and_its_subnet(self) -> None:
        configuration = with_retiring_pool(configuration_with(BLUE_POOL), "blue")

        shared = ApplyPool(red_with(ips=("10.7.0.10",)))
        wider = ApplyPool(red_with(subnet="10.0.0.0/8"))

        assert kinds_and_fields(configuration, shared) == [("Forbidden", "spec.ips")]
        assert kinds_and_fields(configuration, wider) == [INVALID_SUBNET]

    def test_reserved_addresses_may_be_in_a_pool(self) -> None:
        configuration = after_command(
            EMPTY_CONFIGURATION, ApplyReservation(reservation("10.7.0.10-10.7.0.12"))
        )

        assert refusals(configuration, ApplyPool(BLUE_POOL)) == ()


HUGE = {
    "a /64": Pool("huge", V6, "fd00::/64", ("fd00::1-fd00::ffff:ffff:ffff:ffff",)),
    "two halves of IPv6": Pool(
        "huge",
        V6,
        "::/0",
        ("::-7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "8000::-ffff:ffff:ffff:ffff:ffff::"),
        exclude_ips=("::1-8::", "9::-a::"),
    ),
    "both ends of IPv4": Pool(
        "huge", V4, "0.0.0.0/0", ("0.0.0.0-1.2.3.4", "9.0.0.0-255.255.255.255")
    ),
}


@pytest.mark.parametrize("pool", HUGE.values(), ids=HUGE.keys())
def test_a_huge_pool_can_be_created_and_shrunk(pool: Pool) -> None:
    configuration = configuration_with(pool)

    events_of_unchanged_pool = decide(configuration, ApplyPool(pool), claimed={})
    events_of_shrunk_pool = decide(
        configuration, ApplyPool(pool._replace(ips=pool.ips[:1])), claimed={}
    )

    assert events_of_unchanged_pool == ()
    # A pool of one item keeps this item, so its command gives no event.
    assert len(events_of_shrunk_pool) == (1 if len(pool.ips) > 1 else 0)
