"""Only a change that needs a malformed stored object is refused; the refusal names the object."""

from __future__ import annotations

from core.domain.configuration.commands import ApplyPool, ApplySubnet, DeletePool
from core.domain.configuration.configuration_state import Configuration
from core.domain.configuration.decisions import decide, removed_addresses
from core.domain.model import Pool, Subnet
from tests.core.domain.configuration.samples import BLUE_POOL, configuration_with, refusals

POOL_WITH_UNREADABLE_ITEM = Pool("broken", 4, "10.7.0.0/16", ("10.7.1.10-10.7.1.12", "10.7.0.x"))
POOL_WITH_UNREADABLE_SUBNET = Pool("nowhere", 4, "10.7.0.x/16", ("10.7.9.9",))
NET = Subnet("net", 4, "10.7.0.0/16", ("10.7.0.1-10.7.9.255",))


def stored_configuration(*pools: Pool, subnets: tuple[Subnet, ...] = ()) -> Configuration:
    return configuration_with()._replace(
        pools={pool.name: pool for pool in pools},
        subnets={subnet.name: subnet for subnet in subnets},
    )


def test_a_pool_is_refused_if_an_unreadable_pool_has_the_same_cidr() -> None:
    (refusal,) = refusals(stored_configuration(POOL_WITH_UNREADABLE_ITEM), ApplyPool(BLUE_POOL))

    assert (refusal.kind, refusal.field) == ("Invalid", "spec.subnet")
    assert "SpiderIPPool/broken" in refusal.message


def test_a_pool_with_another_cidr_is_accepted() -> None:
    other_pool = BLUE_POOL._replace(name="far", subnet="10.8.0.0/16", ips=("10.8.0.9",), gateway="")
    configuration = stored_configuration(POOL_WITH_UNREADABLE_ITEM, POOL_WITH_UNREADABLE_SUBNET)

    assert refusals(configuration, ApplyPool(other_pool)) == ()


def test_the_refusal_of_a_pool_names_its_unreadable_spider_subnet() -> None:
    unreadable_net = NET._replace(ips=("10.7.0.x",))
    (refusal,) = refusals(stored_configuration(subnets=(unreadable_net,)), ApplyPool(BLUE_POOL))

    assert (refusal.kind, refusal.field) == ("Internal", "spec.ips")
    assert "SpiderSubnet/net" in refusal.message


def test_the_refusal_of_a_spider_subnet_names_its_unreadable_pool() -> None:
    configuration = stored_configuration(POOL_WITH_UNREADABLE_ITEM, subnets=(NET,))
    narrower_net = NET._replace(ips=("10.7.0.1-10.7.5.255",))
    (refusal,) = refusals(configuration, ApplySubnet(narrower_net))

    assert (refusal.kind, refusal.field) == ("Internal", "spec.ips")
    assert "SpiderIPPool/broken" in refusal.message


def test_an_unreadable_pool_can_be_corrected_and_deleted() -> None:
    configuration = stored_configuration(POOL_WITH_UNREADABLE_ITEM)
    corrected = ApplyPool(POOL_WITH_UNREADABLE_ITEM._replace(ips=("10.7.1.10",)))

    removed_ips = removed_addresses(configuration, corrected)
    assert removed_ips is not None
    assert removed_ips.to_items() == ["10.7.1.11-10.7.1.12"]
    assert decide(configuration, corrected, claimed={})
    assert decide(configuration, DeletePool("broken"), claimed={})
