"""The retirement of a subnet: its pools are deleted by child executions, then the subnet.

All pools retire with the subnet. A limited number of pools have a child execution at a time. A pool
that was retiring before the subnet keeps its own execution. Cancelling the retirement of the subnet
reinstates the subnet, then the pools with a child execution.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final, NoReturn

from workflows.api import workflow
from workflows.jobs.retirement.pool import PoolRetirement, reinstate, take_step
from workflows.jobs.retirement.retirement_values import (
    POOL_WORKFLOW,
    SUBNET_WORKFLOW,
    ContinuedRetirement,
    RetirementRequest,
    RetirementResult,
    retirement_id,
)
from workflows.jobs.retirement.retirement_wait import RetirementWait
from workflows.model.payloads import Payload

CHILDREN_END_S: Final = 300.0
"""Maximum seconds of the wait for cancelled children, which reinstate their pools."""


@workflow.defn(name=SUBNET_WORKFLOW)
class SubnetRetirement:
    """The workflow of one retiring subnet.

    ``_children``: name of a pool with a child execution -> whether this run started the child.
    Only the run that started a child is notified when the child ends.
    """

    def __init__(self) -> None:
        self._waiting: RetirementWait | None = None
        self._children: dict[str, bool] = {}
        self._is_starting = False

    @workflow.run
    async def run(
        self, request: RetirementRequest, continued: ContinuedRetirement = ContinuedRetirement()
    ) -> RetirementResult:
        """Wait until the subnet is deleted, or reinstated."""
        waiting = self._waiting = RetirementWait(request, continued)
        self._children = dict.fromkeys(continued.children, False)
        try:
            while True:
                state = await take_step(waiting, "subnet", request.name)
                if state != "held":
                    return RetirementResult(
                        "deleted" if state == "gone" else "serving", waiting.took_s()
                    )
                if waiting.is_overdue and waiting.request.at_deadline == "reinstate":
                    return await self._reinstate(waiting)
                if workflow.info().is_continue_as_new_suggested():
                    self._continue(waiting)
                await self._start_children(waiting)
                await waiting.wait()
        except workflow.CancelledError:
            await self._reinstate(waiting)
            raise

    @workflow.query
    def status(self) -> dict[str, Payload]:
        """The remaining pools, and the pools with a child execution."""
        if self._waiting is None:
            return {}
        return {**self._waiting.status(), "children": list(self._children)}

    @staticmethod
    def _options(name: str) -> workflow.ChildOptions:
        """Options of the child of a pool. The child continues when this run ends."""
        return workflow.ChildOptions(
            retirement_id("pool", name), parent_close=workflow.ParentClosePolicy.ABANDON
        )

    def _continue(self, waiting: RetirementWait) -> NoReturn:
        continued = waiting.continued()._replace(children=tuple(self._children))
        workflow.continue_as_new(waiting.request, continued)

    async def _start_children(self, waiting: RetirementWait) -> None:
        remaining = set(waiting.remaining.pools)
        self._children = {
            name: is_own for name, is_own in self._children.items() if name in remaining
        }
        for name in waiting.remaining.pools:
            if name not in self._children:
                await workflow.shield(self._start_child(name))

    async def _start_child(self, name: str) -> None:
        """Start the child of a pool. Shield the call, so that ``_reinstate`` finds the child."""
        request = RetirementRequest(name, ordered_by=workflow.info().workflow_id)
        self._is_starting = True
        try:
            child = await workflow.start_child(PoolRetirement, request, options=self._options(name))
        except workflow.ChildWorkflowError:
            return  # the pool was retiring before and has an execution of its own
        finally:
            self._is_starting = False
        self._children[name] = True
        workflow.start(self._follow(name, child))

    async def _follow(self, name: str, child: workflow.ChildHandle) -> None:
        """Wait for the end of a child, then take the next step."""
        try:
            await child
        except (workflow.ChildWorkflowError, workflow.CancelledError) as error:
            assert self._waiting is not None, "set before the first child"
            self._waiting.note_failure(error)
        self._children.pop(name, None)
        if self._waiting is not None:
            self._waiting.wake()

    async def _reinstate(self, waiting: RetirementWait) -> RetirementResult:
        """Reinstate the subnet, then its pools, which cannot serve while the subnet retires."""
        outcome = await reinstate(waiting, "subnet", waiting.request.name)
        await workflow.wait_condition(lambda: not self._is_starting)
        for name in list(self._children):
            child = workflow.external(POOL_WORKFLOW, retirement_id("pool", name))
            try:
                await child.cancel()
            except workflow.ApplicationError:
                self._children.pop(name, None)  # the child has ended
        with suppress(workflow.TimeoutError):
            await workflow.wait_condition(lambda: not any(self._children.values()), CHILDREN_END_S)
        return outcome
