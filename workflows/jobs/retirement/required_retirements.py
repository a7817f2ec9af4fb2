"""The required executions of retirements.

The execution of a retiring subnet starts the executions of its pools.
"""

from __future__ import annotations

from collections.abc import Iterator

from core.domain.subnets.subnet_model import owner_subnet_name, pools_of_subnet
from core.projections.projection import Projection
from workflows.jobs.required_executions import RequiredExecution
from workflows.jobs.retirement.pool import PoolRetirement
from workflows.jobs.retirement.retirement_values import (
    CHECK_SIGNAL,
    RetirementRequest,
    retirement_id,
)
from workflows.jobs.retirement.subnet import SubnetRetirement


def required_retirements(projection: Projection) -> Iterator[RequiredExecution]:
    """An execution for each retiring object, signalled when the object becomes empty."""
    ledger = projection.ledger
    retiring = {name for name, subnet in ledger.subnets.items() if subnet.retiring}
    for name in retiring:
        is_empty = not pools_of_subnet(name, ledger.pools)
        yield RequiredExecution(
            SubnetRetirement,
            retirement_id("subnet", name),
            arguments=(RetirementRequest(name),),
            signal=CHECK_SIGNAL,
            version=is_empty,
        )
    for name, pool in ledger.pools.items():
        if not pool.retiring:
            continue
        tally = projection.tallies.get(name)
        is_empty = tally is None or not tally.claimed
        yield RequiredExecution(
            PoolRetirement,
            retirement_id("pool", name),
            arguments=(RetirementRequest(name),),
            signal=CHECK_SIGNAL,
            version=is_empty,
            starts=owner_subnet_name(pool) not in retiring,
        )
