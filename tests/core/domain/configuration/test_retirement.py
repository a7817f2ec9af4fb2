"""Which events each step of a retirement writes, and when a retiring object is deleted."""

from __future__ import annotations

import pytest

from core.domain.configuration.commands import (
    AdvanceRetirement,
    ApplyPool,
    ApplySubnet,
    DeletePool,
    DeleteSubnet,
    Reinstate,
    RetirePool,
    RetireSubnet,
)
from core.domain.configuration.configuration_state import Configuration
from core.domain.configuration.decisions import decide
from core.domain.configuration.retirement import deletion_command
from core.domain.events import PoolDefined, PoolDeleted, PoolRetired, SubnetDefined, SubnetDeleted
from core.domain.model import Subnet
from tests.core.domain.configuration.samples import (
    BLUE_POOL,
    EMPTY_CONFIGURATION,
    claims,
    configuration_with,
    refusals,
    retiring,
)

ACTIVE = configuration_with(BLUE_POOL)
RETIRING = retiring(ACTIVE, "blue")
ADVANCE = AdvanceRetirement("pool", "blue")
NET = Subnet("net", 4, BLUE_POOL.subnet, ("10.7.0.10-10.7.0.20",))


def in_net(*, net_retires: bool, pool_retires: bool) -> Configuration:
    """A configuration with the pool ``blue`` in the subnet ``net``."""
    (event,) = decide(EMPTY_CONFIGURATION, ApplySubnet(NET), claimed={})
    assert isinstance(event, SubnetDefined)
    with_subnet = EMPTY_CONFIGURATION._replace(subnets={"net": event.subnet})
    (defined,) = decide(with_subnet, ApplyPool(BLUE_POOL), claimed={})
    assert isinstance(defined, PoolDefined)
    pool = defined.pool._replace(retiring=pool_retires)
    subnet = event.subnet._replace(retiring=net_retires)
    return with_subnet._replace(pools={"blue": pool}, subnets={"net": subnet})


def test_a_retiring_pool_is_deleted_only_when_it_is_empty() -> None:
    assert decide(RETIRING, ADVANCE, claimed={}) == (PoolDeleted("blue"),)
    assert decide(RETIRING, ADVANCE, claimed=claims(["10.7.0.10"])) == ()


def test_an_active_or_unknown_pool_is_not_deleted() -> None:
    assert decide(ACTIVE, ADVANCE, claimed={}) == ()
    assert decide(EMPTY_CONFIGURATION, ADVANCE, claimed={}) == ()
    assert decide(EMPTY_CONFIGURATION, AdvanceRetirement("subnet", "net"), claimed={}) == ()


def test_reinstate_restores_the_fields_of_a_retiring_pool_and_changes_no_active_pool() -> None:
    (event,) = decide(RETIRING, Reinstate("pool", "blue"), claimed={})

    assert event == PoolDefined(ACTIVE.pools["blue"])
    assert decide(ACTIVE, Reinstate("pool", "blue"), claimed={}) == ()


@pytest.mark.parametrize("kind", ["pool", "subnet"])
def test_an_unknown_object_cannot_be_reinstated(kind: str) -> None:
    (refusal,) = refusals(EMPTY_CONFIGURATION, Reinstate(kind, "missing"))  # type: ignore[arg-type]

    assert refusal.kind == "NotFound"


def test_a_retiring_subnet_retires_its_pools_and_is_deleted_when_it_has_no_pools() -> None:
    advance = AdvanceRetirement("subnet", "net")
    pool_active = in_net(net_retires=True, pool_retires=False)
    pool_retiring = in_net(net_retires=True, pool_retires=True)

    assert decide(pool_active, advance, claimed={}) == (PoolRetired("blue"),)
    assert decide(pool_retiring, advance, claimed={}) == ()
    assert decide(pool_retiring._replace(pools={}), advance, claimed={}) == (SubnetDeleted("net"),)
    assert decide(in_net(net_retires=False, pool_retires=True), advance, claimed={}) == ()


def test_a_pool_cannot_be_reinstated_before_its_subnet() -> None:
    (refusal,) = refusals(in_net(net_retires=True, pool_retires=True), Reinstate("pool", "blue"))

    assert (refusal.rule, refusal.kind) == ("retiring-subnet", "Forbidden")
    assert "orbctl retire cancel subnet net" in refusal.remedy


def test_a_deletion_retires_the_object_if_the_setting_is_wait_and_deletes_it_if_refuse() -> None:
    assert deletion_command("pool", "a", "wait") == RetirePool("a")
    assert deletion_command("pool", "a", "refuse") == DeletePool("a")
    assert deletion_command("subnet", "a", "wait") == RetireSubnet("a")
    assert deletion_command("subnet", "a", "refuse") == DeleteSubnet("a")
