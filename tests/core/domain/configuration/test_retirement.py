"""The events of each step of a retirement, and when a retiring object is deleted."""

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
    with_retiring_pool,
)

ACTIVE_CONFIGURATION = configuration_with(BLUE_POOL)
RETIRING_CONFIGURATION = with_retiring_pool(ACTIVE_CONFIGURATION, "blue")
ADVANCE = AdvanceRetirement("pool", "blue")
NET = Subnet("net", 4, BLUE_POOL.subnet, ("10.7.0.10-10.7.0.20",))


def blue_in_net(*, net_retires: bool, pool_retires: bool) -> Configuration:
    (subnet_event,) = decide(EMPTY_CONFIGURATION, ApplySubnet(NET), claimed={})
    assert isinstance(subnet_event, SubnetDefined)
    with_subnet = EMPTY_CONFIGURATION._replace(subnets={"net": subnet_event.subnet})
    (pool_event,) = decide(with_subnet, ApplyPool(BLUE_POOL), claimed={})
    assert isinstance(pool_event, PoolDefined)
    pool = pool_event.pool._replace(retiring=pool_retires)
    subnet = subnet_event.subnet._replace(retiring=net_retires)
    return with_subnet._replace(pools={"blue": pool}, subnets={"net": subnet})


def test_a_retiring_pool_is_deleted_only_when_it_has_no_claims() -> None:
    assert decide(RETIRING_CONFIGURATION, ADVANCE, claimed={}) == (PoolDeleted("blue"),)
    assert decide(RETIRING_CONFIGURATION, ADVANCE, claimed=claims(["10.7.0.10"])) == ()


def test_an_active_or_unknown_pool_is_not_deleted() -> None:
    assert decide(ACTIVE_CONFIGURATION, ADVANCE, claimed={}) == ()
    assert decide(EMPTY_CONFIGURATION, ADVANCE, claimed={}) == ()
    assert decide(EMPTY_CONFIGURATION, AdvanceRetirement("subnet", "net"), claimed={}) == ()


def test_only_a_retiring_pool_is_reinstated() -> None:
    (event,) = decide(RETIRING_CONFIGURATION, Reinstate("pool", "blue"), claimed={})

    assert event == PoolDefined(ACTIVE_CONFIGURATION.pools["blue"])
    assert decide(ACTIVE_CONFIGURATION, Reinstate("pool", "blue"), claimed={}) == ()


@pytest.mark.parametrize("kind", ["pool", "subnet"])
def test_an_unknown_object_cannot_be_reinstated(kind: str) -> None:
    (refusal,) = refusals(EMPTY_CONFIGURATION, Reinstate(kind, "missing"))  # type: ignore[arg-type]

    assert refusal.kind == "NotFound"


def test_a_retiring_subnet_is_deleted_after_its_pools() -> None:
    advance = AdvanceRetirement("subnet", "net")
    pool_active = blue_in_net(net_retires=True, pool_retires=False)
    pool_retiring = blue_in_net(net_retires=True, pool_retires=True)

    assert decide(pool_active, advance, claimed={}) == (PoolRetired("blue"),)
    assert decide(pool_retiring, advance, claimed={}) == ()
    assert decide(pool_retiring._replace(pools={}), advance, claimed={}) == (SubnetDeleted("net"),)
    assert decide(blue_in_net(net_retires=False, pool_retires=True), advance, claimed={}) == ()


def test_a_pool_cannot_be_reinstated_before_its_subnet() -> None:
    (refusal,) = refusals(
        blue_in_net(net_retires=True, pool_retires=True), Reinstate("pool", "blue")
    )

    assert (refusal.rule, refusal.kind) == ("retiring-subnet", "Forbidden")
    assert "orbctl retire cancel subnet net" in refusal.remedy


def test_a_deletion_becomes_a_retirement_only_if_it_waits_for_claims() -> None:
    assert deletion_command("pool", "a", "wait") == RetirePool("a")
    assert deletion_command("pool", "a", "refuse") == DeletePool("a")
    assert deletion_command("subnet", "a", "wait") == RetireSubnet("a")
    assert deletion_command("subnet", "a", "refuse") == DeleteSubnet("a")
