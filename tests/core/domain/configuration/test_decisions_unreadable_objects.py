"""A stored pool or subnet with an invalid text is named, and stops only what depends on it."""

from __future__ import annotations

from core.domain.configuration.commands import ApplyPool, ApplySubnet, DeletePool
from core.domain.configuration.configuration_state import Configuration
from core.domain.configuration.decisions import decide, removed_addresses
from core.domain.model import Pool, Subnet
from tests.core.domain.configuration.samples import BLUE, having, refusals

BROKEN = Pool("broken", 4, "10.7.0.0/16", ("10.7.1.10-10.7.1.12", "10.7.0.x"))
NOWHERE = Pool("nowhere", 4, "10.7.0.x/16", ("10.7.9.9",))
NET = Subnet("net", 4, "10.7.0.0/16", ("10.7.0.1-10.7.9.255",))


def with_stored(*pools: Pool, subnets: tuple[Subnet, ...] = ()) -> Configuration:
    """A configuration that no command could have created."""
    return having()._replace(
        pools={one.name: one for one in pools}, subnets={one.name: one for one in subnets}
    )


def test_a_pool_of_the_same_subnet_is_refused_by_the_name_of_the_unreadable_one() -> None:
    (refusal,) = refusals(with_stored(BROKEN), ApplyPool(BLUE))

    assert (refusal.kind, refusal.field) == ("Invalid", "spec.subnet")
    assert "SpiderIPPool/broken" in refusal.message


def test_pools_of_other_subnets_are_not_stopped() -> None:
    other = BLUE._replace(name="far", subnet="10.8.0.0/16", ips=("10.8.0.9",), gateway="")

    assert refusals(with_stored(BROKEN, NOWHERE), ApplyPool(other)) == ()


def test_an_unreadable_subnet_is_named_by_the_pools_that_it_would_own() -> None:
    broken = NET._replace(ips=("10.7.0.x",))
    (refusal,) = refusals(with_stored(subnets=(broken,)), ApplyPool(BLUE))

    assert (refusal.kind, refusal.field) == ("Internal", "spec.ips")
    assert "SpiderSubnet/net" in refusal.message


def test_an_unreadable_pool_is_named_by_its_subnet() -> None:
    configuration = with_stored(BROKEN, subnets=(NET,))
    narrower = NET._replace(ips=("10.7.0.1-10.7.5.255",))
    (refusal,) = refusals(configuration, ApplySubnet(narrower))

    assert (refusal.kind, refusal.field) == ("Internal", "spec.ips")
    assert "SpiderIPPool/broken" in refusal.message


def test_an_unreadable_pool_can_be_corrected_and_deleted() -> None:
    configuration = with_stored(BROKEN)
    corrected = ApplyPool(BROKEN._replace(ips=("10.7.1.10",)))

    lost = removed_addresses(configuration, corrected)
    assert lost is not None
    assert lost.to_items() == ["10.7.1.11-10.7.1.12"]
    assert decide(configuration, corrected, {})
    assert decide(configuration, DeletePool("broken"), {})
