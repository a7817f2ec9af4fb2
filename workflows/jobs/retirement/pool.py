"""The retirement of one pool: nothing new is claimed, what is claimed ends, the pool is deleted.

Id ``retire/pool/<name>``. The pool was told to retire before (``RetirePool``); the execution only
ever goes on with that. It sleeps until the last claim has ended, the slow look comes, or the
deadline is over. Cancelling it makes the pool serve again.
"""

from __future__ import annotations

from typing import Final

from core.domain.configuration.commands import Retirable
from workflows.api import workflow
from workflows.jobs.retirement.activities import RetirementActivities
from workflows.jobs.retirement.retirement_values import (
    POOL_WORKFLOW,
    ContinuedRetirement,
    RemainingClaims,
    RetirementRequest,
    RetirementResult,
)
from workflows.jobs.retirement.retirement_wait import RetirementWait
from workflows.jobs.step_limits import patient
from workflows.model.payloads import Payload

STEP_S: Final = 60.0
"""One attempt at a step, at most."""

STEPS_S: Final = 300.0
"""All attempts at one step; then the next look tries again."""

# A step that is under way is waited for: what it still does must not come after the way back.
STEP: Final = patient(
    STEP_S,
    STEPS_S,
    first_pause_s=0.2,
    cancellation=workflow.CancellationType.WAIT_CANCELLATION_COMPLETED,
)


@workflow.defn(name=POOL_WORKFLOW)
class PoolRetirement:
    """The execution."""

    def __init__(self) -> None:
        self._vigil: RetirementWait | None = None

    @workflow.run
    async def run(
        self, order: RetirementRequest, carry: ContinuedRetirement = ContinuedRetirement()
    ) -> RetirementResult:
        """Until the pool is deleted, or serves again."""
        vigil = self._vigil = RetirementWait(order, carry)
        try:
            while True:
                state = await take_step(vigil, "pool", order.name)
                if state != "held":
                    return RetirementResult(
                        "deleted" if state == "gone" else "serving", vigil.took_s()
                    )
                if vigil.is_overdue and vigil.order.at_deadline == "reinstate":
                    return await give_back(vigil, "pool", order.name)
                if workflow.info().is_continue_as_new_suggested():
                    workflow.continue_as_new(vigil.order, vigil.carry())
                await vigil.wait()
        except workflow.CancelledError:
            await give_back(vigil, "pool", order.name)
            raise

    @workflow.query
    def status(self) -> dict[str, Payload]:
        """What is left, who holds it, since when."""
        return self._vigil.status() if self._vigil else {}


async def take_step(vigil: RetirementWait, kind: Retirable, name: str) -> str:
    """One step; the state it found, ``held`` if it failed for good."""
    vigil.looking()
    try:
        left: RemainingClaims = await workflow.execute_activity(
            RetirementActivities.step, kind, name, options=STEP
        )
    except workflow.ActivityError as error:
        vigil.failed(error)
        return "held"
    vigil.found(left)
    return left.state


async def give_back(vigil: RetirementWait, kind: Retirable, name: str) -> RetirementResult:
    """The object serves again. ActivityError when a rule forbids it."""
    await workflow.execute_activity(RetirementActivities.reinstate, kind, name, options=STEP)
    return RetirementResult("serving", vigil.took_s())
