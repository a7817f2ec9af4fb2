"""The workflow that retires a pool: no new claims, and deletion after the last claim has ended.

The command ``RetirePool`` has marked the pool as retiring. A cancellation reinstates the pool.
"""

from __future__ import annotations

from typing import Final

from core.domain.configuration.commands import Retirable
from workflows.api import workflow
from workflows.jobs.activity_options import step_options
from workflows.jobs.retirement.activities import RetirementActivities
from workflows.jobs.retirement.retirement_values import (
    POOL_WORKFLOW,
    ContinuedRetirement,
    RemainingClaims,
    RetirementRequest,
    RetirementResult,
)
from workflows.jobs.retirement.retirement_wait import RetirementWait
from workflows.model.payloads import Payload

STEP_S: Final = 60.0
STEPS_S: Final = 300.0
"""The time limits of one attempt at a step, and of all attempts at this step."""

# A cancellation waits for the running step, which must not write after the reinstatement.
STEP: Final = step_options(
    STEP_S,
    STEPS_S,
    first_pause_s=0.2,
    cancellation=workflow.CancellationType.WAIT_CANCELLATION_COMPLETED,
)


@workflow.defn(name=POOL_WORKFLOW)
class PoolRetirement:
    """The workflow of one retiring pool."""

    def __init__(self) -> None:
        self._retirement: RetirementWait | None = None

    @workflow.run
    async def run(
        self, request: RetirementRequest, continued: ContinuedRetirement = ContinuedRetirement()
    ) -> RetirementResult:
        """Wait until the pool is deleted or reinstated."""
        retirement = self._retirement = RetirementWait(request, continued)
        try:
            while True:
                state = await take_step(retirement, "pool", request.name)
                if state != "held":
                    return RetirementResult(
                        "deleted" if state == "gone" else "serving", retirement.took_s()
                    )
                if retirement.is_overdue and retirement.request.at_deadline == "reinstate":
                    return await reinstate(retirement, "pool", request.name)
                if workflow.info().is_continue_as_new_suggested():
                    workflow.continue_as_new(retirement.request, retirement.continued())
                await retirement.wait()
        except workflow.CancelledError:
            await reinstate(retirement, "pool", request.name)
            raise

    @workflow.query
    def status(self) -> dict[str, Payload]:
        """See ``RetirementWait.status``."""
        return self._retirement.status() if self._retirement else {}


async def take_step(retirement: RetirementWait, kind: Retirable, name: str) -> str:
    """Take one step towards the deletion of a pool or subnet.

    Returns ``RemainingClaims.state`` after the step, or ``held`` after a failure.
    """
    retirement.note_step()
    try:
        remaining: RemainingClaims = await workflow.execute_activity(
            RetirementActivities.step, kind, name, options=STEP
        )
    except workflow.ActivityError as error:
        retirement.note_failure(error)
        return "held"
    retirement.note_remaining(remaining)
    return remaining.state


async def reinstate(retirement: RetirementWait, kind: Retirable, name: str) -> RetirementResult:
    """Reinstate a pool or subnet. Raises ActivityError, for example if a rule forbids this."""
    await workflow.execute_activity(RetirementActivities.reinstate, kind, name, options=STEP)
    return RetirementResult("serving", retirement.took_s())
