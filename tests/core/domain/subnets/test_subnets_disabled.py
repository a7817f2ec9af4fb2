"""Pools have no subnet if ``enableSpiderSubnet`` is false.

If it is true, a pool inherits gateway and routes only when a subnet adopts the pool.
"""

from __future__ import annotations

from core.domain.autopools.pool_names import OWNER_SUBNET
from core.domain.configuration.commands import ApplyPool, ApplySubnet
from core.domain.configuration.configuration_state import Configuration, FeatureSwitches
from core.domain.configuration.decisions import decide
from core.domain.events import PoolDefined
from core.domain.model import Pool
from tests.core.domain.subnets.samples import BLUE_POOL, SUBNET4, ConfigurationHarness

OUTSIDE = BLUE_POOL._replace(name="outside", ips=("10.7.9.9",))
OWNED = BLUE_POOL._replace(labels={OWNER_SUBNET: SUBNET4.name})


def without_subnets(state: ConfigurationHarness) -> Configuration:
    return Configuration.of(state.ledger, FeatureSwitches(subnets=False))


def pool_after_apply(configuration: Configuration, pool: Pool) -> Pool:
    (event,) = decide(configuration, ApplyPool(pool), claimed={})
    assert isinstance(event, PoolDefined)
    return event.pool


def test_a_pool_outside_of_a_subnet_inherits_nothing_if_subnets_are_disabled() -> None:
    pool = pool_after_apply(without_subnets(ConfigurationHarness(SUBNET4)), OUTSIDE)

    assert pool.gateway == ""
    assert pool.routes is None
    assert OWNER_SUBNET not in pool.labels


def test_a_subnet_neither_adopts_nor_validates_pools_if_subnets_are_disabled() -> None:
    configuration = without_subnets(ConfigurationHarness(OUTSIDE))
    events = decide(configuration, ApplySubnet(SUBNET4), claimed={})

    assert [type(event).__name__ for event in events] == ["SubnetDefined"]


def test_an_owned_pool_does_not_inherit_a_removed_value_again() -> None:
    state = ConfigurationHarness(SUBNET4, BLUE_POOL)
    assert state.ledger.pools["blue"].gateway == SUBNET4.gateway

    pool = pool_after_apply(state.configuration, OWNED)

    assert pool.gateway == ""
    assert pool.routes is None


def test_an_imported_pool_with_the_owner_label_inherits_nothing() -> None:
    pool = pool_after_apply(ConfigurationHarness(SUBNET4).configuration, OWNED)

    assert pool.gateway == ""
    assert pool.labels[OWNER_SUBNET] == SUBNET4.name


def test_applying_the_original_pool_to_an_adopted_pool_changes_nothing() -> None:
    state = ConfigurationHarness(SUBNET4, BLUE_POOL)

    assert decide(state.configuration, ApplyPool(BLUE_POOL), claimed={}) == ()
