"""The retirement of one pool: it gets no new claims, and is deleted after its last claim has ended.

The command ``RetirePool`` has marked the pool as retiring. Between steps the execution waits until
the last claim has ended, the next regular step is due, or the deadline has passed. Cancelling the
execution reinstates the pool.
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
"""Maximum seconds of one attempt at a step."""

STEPS_S: Final = 300.0
"""Maximum seconds of all attempts at one step together."""

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
        self._waiting: RetirementWait | None = None

    @workflow.run
    async def run(
        self, request: RetirementRequest, continued: ContinuedRetirement = ContinuedRetirement()
    ) -> RetirementResult:
        """Wait until the pool is deleted, or reinstated."""
        waiting = self._waiting = RetirementWait(request, continued)
        try:
            while True:
                state = await take_step(waiting, "pool", request.name)
                if state != "held":
                    return RetirementResult(
                        "deleted" if state == "gone" else "serving", waiting.took_s()
                    )
                if waiting.is_overdue and waiting.request.at_deadline == "reinstate":
                    return await reinstate(waiting, "pool", request.name)
                if workflow.info().is_continue_as_new_suggested():
                    workflow.continue_as_new(waiting.request, waiting.continued())
                await waiting.wait()
        except workflow.CancelledError:
            await reinstate(waiting, "pool", request.name)
            raise

    @workflow.query
    def status(self) -> dict[str, Payload]:
        """The remaining claims with their Pods, and the start and deadline of the retirement."""
        return self._waiting.status() if self._waiting else {}


async def take_step(waiting: RetirementWait, kind: Retirable, name: str) -> str:
    """Take one step towards the deletion of a pool or subnet.

    Returns the state after the step. ``held``: claims or pools block the deletion, or all attempts
    failed. ``gone``: the object was deleted. ``serving``: the object is not retiring.
    """
    waiting.note_step()
    try:
        remaining: RemainingClaims = await workflow.execute_activity(
            RetirementActivities.step, kind, name, options=STEP
        )
    except workflow.ActivityError as error:
        waiting.note_failure(error)
        return "held"
    waiting.note_remaining(remaining)
    return remaining.state


async def reinstate(waiting: RetirementWait, kind: Retirable, name: str) -> RetirementResult:
    """Reinstate a pool or subnet. Raises ActivityError, for example if a rule forbids this."""
    await workflow.execute_activity(RetirementActivities.reinstate, kind, name, options=STEP)
    return RetirementResult("serving", waiting.took_s())
