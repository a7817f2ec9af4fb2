"""A malformed stored object prevents only the changes that need it, and refusals name it."""

from __future__ import annotations

from core.domain.configuration.commands import ApplyPool, ApplySubnet, DeletePool
from core.domain.configuration.configuration_state import Configuration
from core.domain.configuration.decisions import decide, removed_addresses
from core.domain.model import Pool, Subnet
from tests.core.domain.configuration.samples import BLUE_POOL, configuration_with, refusals

UNREADABLE_ITEM = Pool("broken", 4, "10.7.0.0/16", ("10.7.1.10-10.7.1.12", "10.7.0.x"))
UNREADABLE_SUBNET = Pool("nowhere", 4, "10.7.0.x/16", ("10.7.9.9",))
NET = Subnet("net", 4, "10.7.0.0/16", ("10.7.0.1-10.7.9.255",))


def with_stored(*pools: Pool, subnets: tuple[Subnet, ...] = ()) -> Configuration:
    """A configuration that no command could have created."""
    return configuration_with()._replace(
        pools={pool.name: pool for pool in pools},
        subnets={subnet.name: subnet for subnet in subnets},
    )


def test_a_pool_in_the_subnet_of_an_unreadable_pool_is_refused_and_names_that_pool() -> None:
    (refusal,) = refusals(with_stored(UNREADABLE_ITEM), ApplyPool(BLUE_POOL))

    assert (refusal.kind, refusal.field) == ("Invalid", "spec.subnet")
    assert "SpiderIPPool/broken" in refusal.message


def test_pools_of_other_subnets_are_accepted() -> None:
    far = BLUE_POOL._replace(name="far", subnet="10.8.0.0/16", ips=("10.8.0.9",), gateway="")

    assert refusals(with_stored(UNREADABLE_ITEM, UNREADABLE_SUBNET), ApplyPool(far)) == ()


def test_the_refusal_of_a_pool_names_the_unreadable_subnet_of_its_cidr() -> None:
    broken = NET._replace(ips=("10.7.0.x",))
    (refusal,) = refusals(with_stored(subnets=(broken,)), ApplyPool(BLUE_POOL))

    assert (refusal.kind, refusal.field) == ("Internal", "spec.ips")
    assert "SpiderSubnet/net" in refusal.message


def test_the_refusal_of_a_subnet_names_its_unreadable_pool() -> None:
    configuration = with_stored(UNREADABLE_ITEM, subnets=(NET,))
    narrower = NET._replace(ips=("10.7.0.1-10.7.5.255",))
    (refusal,) = refusals(configuration, ApplySubnet(narrower))

    assert (refusal.kind, refusal.field) == ("Internal", "spec.ips")
    assert "SpiderIPPool/broken" in refusal.message


def test_an_unreadable_pool_can_be_corrected_and_deleted() -> None:
    configuration = with_stored(UNREADABLE_ITEM)
    corrected = ApplyPool(UNREADABLE_ITEM._replace(ips=("10.7.1.10",)))

    removed = removed_addresses(configuration, corrected)
    assert removed is not None
    assert removed.to_items() == ["10.7.1.11-10.7.1.12"]
    assert decide(configuration, corrected, claimed={})
    assert decide(configuration, DeletePool("broken"), claimed={})
