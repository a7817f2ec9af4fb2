"""Which fields of a SpiderIPPool may change, and which addresses must stay.

See docs/reference/admission.md, "SpiderIPPool".
"""

from __future__ import annotations

import pytest

from core.domain.addresses.ip_address import V4, V6
from core.domain.configuration.commands import ApplyPool, DeletePool, RetirePool
from core.domain.configuration.decisions import decide, removed_addresses
from core.domain.events import PoolDefined
from core.domain.model import Pool
from core.domain.patterns.labels import LabelSelector
from tests.core.domain.configuration.samples import (
    BLUE_POOL,
    claims,
    configuration_with,
    kinds_and_fields,
    refusals,
    with_retiring_pool,
)

CONFIGURATION = configuration_with(BLUE_POOL)  # 10.7.0.10-10.7.0.20 of 10.7.0.0/16
SHRINK_BLUE = ApplyPool(BLUE_POOL._replace(ips=("10.7.0.10-10.7.0.12",)))


def removed_items(command: ApplyPool | DeletePool | RetirePool) -> list[str]:
    addresses = removed_addresses(CONFIGURATION, command)
    return addresses.to_items() if addresses is not None else []


UNCHANGED = {
    "as it was applied": BLUE_POOL,
    "as it is stored": CONFIGURATION.pools["blue"],
    "with the range split in two": BLUE_POOL._replace(
        ips=("10.7.0.14-10.7.0.20", "10.7.0.10-10.7.0.13")
    ),
    "with another value of the CIDR label": BLUE_POOL._replace(
        labels={"ipam.spidernet.io/ippool-cidr": "wrong"}
    ),
    "with retiring set, which a user cannot set": BLUE_POOL._replace(retiring=True),
}


@pytest.mark.parametrize("pool", UNCHANGED.values(), ids=UNCHANGED.keys())
def test_applying_an_unchanged_pool_writes_no_event(pool: Pool) -> None:
    assert decide(CONFIGURATION, ApplyPool(pool), claimed={}) == ()


def test_an_unchanged_pool_is_accepted_even_if_its_family_was_disabled() -> None:
    ipv4_disabled = CONFIGURATION._replace(ipv4_enabled=False)

    assert decide(ipv4_disabled, ApplyPool(BLUE_POOL), claimed={}) == ()
    assert kinds_and_fields(ipv4_disabled, SHRINK_BLUE) == [("Forbidden", "spec.ipVersion")]


CHANGES = {
    "more addresses": BLUE_POOL._replace(ips=("10.7.0.10-10.7.0.99",)),
    "fewer addresses": SHRINK_BLUE.pool,
    "no addresses": BLUE_POOL._replace(ips=()),
    "another gateway": BLUE_POOL._replace(gateway="10.7.0.2"),
    "disabled": BLUE_POOL._replace(disabled=True),
    "default": BLUE_POOL._replace(default=True),
    "a node name": BLUE_POOL._replace(node_names=("node-1",)),
    "an annotation": BLUE_POOL._replace(annotations={"note": "x"}),
    "an empty list of routes": BLUE_POOL._replace(routes=()),
}


@pytest.mark.parametrize("pool", CHANGES.values(), ids=CHANGES.keys())
def test_the_event_of_a_change_has_the_complete_pool(pool: Pool) -> None:
    (event,) = decide(CONFIGURATION, ApplyPool(pool), claimed={})

    assert isinstance(event, PoolDefined)
    assert event.pool == pool._replace(labels=event.pool.labels)


def test_the_subnet_cannot_be_changed() -> None:
    pool = BLUE_POOL._replace(subnet="10.0.0.0/8", gateway="x", pod_affinity=LabelSelector())

    assert kinds_and_fields(CONFIGURATION, ApplyPool(pool)) == [("Forbidden", "spec.subnet")]


def test_a_changed_ip_version_is_reported_instead_of_the_changed_subnet() -> None:
    pool = Pool("blue", V6, "fd00:7::/64")

    assert kinds_and_fields(CONFIGURATION, ApplyPool(pool)) == [("Forbidden", "spec.ipVersion")]
    assert removed_addresses(CONFIGURATION, ApplyPool(pool)) is None


def test_the_rules_of_creation_apply_to_changes_too() -> None:
    bad_gateway = ApplyPool(BLUE_POOL._replace(gateway="10.7.0.15", pod_affinity=LabelSelector()))
    reversed_range = ApplyPool(BLUE_POOL._replace(ips=("10.7.0.20-10.7.0.10",)))

    assert kinds_and_fields(CONFIGURATION, bad_gateway) == [
        ("Invalid", "spec.ips[0]"),
        ("Invalid", "spec.podAffinity"),
    ]
    assert kinds_and_fields(CONFIGURATION, reversed_range) == [("Invalid", "spec.subnet")]


def test_a_pool_cannot_grow_into_another_pool() -> None:
    configuration = configuration_with(BLUE_POOL, Pool("red", V4, "10.7.0.0/16", ("10.7.0.21",)))
    pool = BLUE_POOL._replace(ips=("10.7.0.10-10.7.0.21",))

    assert kinds_and_fields(configuration, ApplyPool(pool)) == [("Forbidden", "spec.ips")]


class TestRemovedAddresses:
    """``removed_addresses`` gives the addresses whose claims ``decide`` needs."""

    def test_a_smaller_pool_removes_the_difference(self) -> None:
        assert removed_items(SHRINK_BLUE) == ["10.7.0.13-10.7.0.20"]

    def test_newly_excluded_addresses_are_removed_too(self) -> None:
        excluded = ApplyPool(BLUE_POOL._replace(exclude_ips=("10.7.0.1", "10.7.0.12-10.7.0.13")))

        assert removed_items(excluded) == ["10.7.0.12-10.7.0.13"]

    def test_a_deleted_pool_removes_all_its_addresses(self) -> None:
        assert removed_items(DeletePool("blue")) == ["10.7.0.10-10.7.0.20"]

    @pytest.mark.parametrize(
        "command",
        [
            ApplyPool(BLUE_POOL),
            ApplyPool(BLUE_POOL._replace(ips=("10.7.0.3-10.7.0.99",))),
            ApplyPool(BLUE_POOL._replace(ips=("garbage",))),
            ApplyPool(BLUE_POOL._replace(name="new")),
            RetirePool("blue"),
            DeletePool("no-such-pool"),
        ],
    )
    def test_a_command_that_keeps_all_addresses_or_is_refused_gives_none(
        self, command: ApplyPool | RetirePool | DeletePool
    ) -> None:
        assert removed_addresses(CONFIGURATION, command) is None

    def test_deleting_a_pool_without_addresses_gives_none(self) -> None:
        assert (
            removed_addresses(configuration_with(BLUE_POOL._replace(ips=())), DeletePool("blue"))
            is None
        )


class TestAddressesInUse:
    def test_the_refusal_names_address_and_pod(self) -> None:
        (refusal,) = refusals(CONFIGURATION, SHRINK_BLUE, claims(["10.7.0.15"]))

        assert (refusal.kind, refusal.field) == ("Forbidden", "spec.ips")
        assert refusal.message == (
            "remove an IP address 10.7.0.15 that is being used by Pod shop/web-0"
        )
        assert "release" in refusal.remedy

    def test_the_refusal_names_the_first_addresses_and_counts_the_others(self) -> None:
        claimed = claims(f"10.7.0.{number}" for number in range(20, 9, -1))
        emptied = ApplyPool(BLUE_POOL._replace(ips=()))

        (refusal,) = refusals(CONFIGURATION, emptied, claimed)

        assert refusal.message.startswith(
            "remove an IP address 10.7.0.10 that is being used by Pod shop/web-10; 10 more in use:"
            " 10.7.0.11 (Pod shop/web-9), "
        )
        assert refusal.message.endswith("10.7.0.17 (Pod shop/web-3), ...")

    def test_claims_of_addresses_that_are_not_removed_do_not_matter(self) -> None:
        # ``::a07:f`` has the same number as 10.7.0.15, which is removed.
        not_removed = ["10.7.0.10", "10.7.0.12", "10.9.0.1", "fd00::1", "::a07:f"]

        assert refusals(CONFIGURATION, SHRINK_BLUE, claims(not_removed)) == ()

    def test_another_spelling_of_the_address_is_the_same_address(self) -> None:
        claimed = claims(["::ffff:10.7.0.15"])

        assert kinds_and_fields(CONFIGURATION, SHRINK_BLUE, claimed) == [("Forbidden", "spec.ips")]

    def test_an_address_in_use_is_reported_together_with_the_other_causes(self) -> None:
        pool = SHRINK_BLUE.pool._replace(gateway="x", pod_affinity=LabelSelector())

        assert kinds_and_fields(CONFIGURATION, ApplyPool(pool), claims(["10.7.0.15"])) == [
            ("Invalid", "spec.gateway"),
            ("Invalid", "spec.podAffinity"),
            ("Forbidden", "spec.ips"),
        ]


class TestRetiringPools:
    CONFIGURATION = with_retiring_pool(configuration_with(BLUE_POOL), "blue")

    def test_labels_and_annotations_may_change(self) -> None:
        pool = BLUE_POOL._replace(annotations={"note": "x"}, labels={"team": "net"})

        (event,) = decide(self.CONFIGURATION, ApplyPool(pool), claimed={})

        assert isinstance(event, PoolDefined)
        assert event.pool.retiring
        assert event.pool.annotations == {"note": "x"}

    @pytest.mark.parametrize("pool", [SHRINK_BLUE.pool, BLUE_POOL._replace(disabled=True)])
    def test_the_specification_may_not_change(self, pool: Pool) -> None:
        assert kinds_and_fields(self.CONFIGURATION, ApplyPool(pool)) == [("Forbidden", "spec")]

    def test_applying_the_unchanged_pool_does_not_reinstate_it(self) -> None:
        assert decide(self.CONFIGURATION, ApplyPool(BLUE_POOL), claimed={}) == ()
