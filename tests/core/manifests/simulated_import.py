"""Simulates an import into a cluster without pools."""

from __future__ import annotations

from core.domain.claims.takeover import ForeignCluster, plan_takeover
from core.domain.evolution import Ledger
from core.projections.fork import Fork


def refusals_of_import(cluster: ForeignCluster) -> list[str]:
    """The messages of all refusals of pools and addresses."""
    plan, fork = plan_takeover(cluster), Fork(Ledger())
    steps = [fork.apply(command) for command in plan.first]
    refusals = [refusal for endpoint in plan.endpoints for refusal in fork.assign(endpoint)]
    refusals += [refusal for step in steps for refusal in step.refusals]
    return [refusal.message for refusal in refusals]
