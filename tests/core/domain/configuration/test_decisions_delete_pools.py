"""Retirement and deletion of a pool; a pool with claims is not deleted."""

from __future__ import annotations

import pytest

from core.domain.configuration.commands import Command, DeletePool, RetirePool
from core.domain.configuration.configuration_state import Configuration
from core.domain.configuration.decisions import decide
from core.domain.events import PoolDeleted, PoolRetired
from tests.core.domain.configuration.samples import (
    BLUE_POOL,
    EMPTY_CONFIGURATION,
    claims,
    configuration_with,
    kinds_and_fields,
    refusals,
    with_retiring_pool,
)

CONFIGURATION = configuration_with(BLUE_POOL)
RETIRING_CONFIGURATION = with_retiring_pool(CONFIGURATION, "blue")


def test_a_pool_is_retired_once() -> None:
    assert decide(CONFIGURATION, RetirePool("blue"), claimed={}) == (PoolRetired("blue"),)
    assert decide(RETIRING_CONFIGURATION, RetirePool("blue"), claimed={}) == ()


def test_a_pool_may_be_retired_while_it_has_claims() -> None:
    claimed = claims(["10.7.0.10"])

    assert decide(CONFIGURATION, RetirePool("blue"), claimed=claimed) == (PoolRetired("blue"),)


@pytest.mark.parametrize("configuration", [CONFIGURATION, RETIRING_CONFIGURATION])
def test_a_pool_without_claims_is_deleted_even_if_it_is_not_retiring(
    configuration: Configuration,
) -> None:
    assert decide(configuration, DeletePool("blue"), claimed={}) == (PoolDeleted("blue"),)


@pytest.mark.parametrize("configuration", [CONFIGURATION, RETIRING_CONFIGURATION])
def test_a_pool_with_claims_is_not_deleted(configuration: Configuration) -> None:
    (refusal,) = refusals(configuration, DeletePool("blue"), claims(["10.7.0.12", "10.7.0.11"]))

    assert (refusal.kind, refusal.rule, refusal.field) == ("Forbidden", "pool-in-use", "")
    assert refusal.message == (
        "the IP address 10.7.0.11 is being used by Pod shop/web-1;"
        " 1 more in use: 10.7.0.12 (Pod shop/web-0)"
    )
    assert "retire the pool first" in refusal.remedy
    assert "orbctl delete --drain" in refusal.remedy


def test_claims_of_other_pools_do_not_prevent_a_deletion() -> None:
    claimed = claims(["10.7.0.99", "fd00::10"], pool="red")

    assert decide(CONFIGURATION, DeletePool("blue"), claimed=claimed) == (PoolDeleted("blue"),)


@pytest.mark.parametrize("command", [RetirePool("blue"), DeletePool("blue")])
def test_an_unknown_pool_is_not_found(command: Command) -> None:
    (refusal,) = refusals(EMPTY_CONFIGURATION, command)

    assert kinds_and_fields(EMPTY_CONFIGURATION, command) == [("NotFound", "")]
    assert refusal.subject == "SpiderIPPool/blue"
