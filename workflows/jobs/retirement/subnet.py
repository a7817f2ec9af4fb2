"""The workflow that retires a subnet: child executions delete its pools first.

A pool that was retiring before its subnet keeps its own execution. Cancelling the retirement
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
"""Seconds in which cancelled children reinstate their pools."""


@workflow.defn(name=SUBNET_WORKFLOW)
class SubnetRetirement:
    """The workflow of one retiring subnet."""

    def __init__(self) -> None:
        self._retirement: RetirementWait | None = None
        self._children: dict[str, bool] = {}
        """Pool name -> whether this run awaits the child. An earlier run may have started it."""
        self._is_starting = False

    @workflow.run
    async def run(
        self, request: RetirementRequest, continued: ContinuedRetirement = ContinuedRetirement()
    ) -> RetirementResult:
        """Wait until the subnet is deleted or reinstated."""
        retirement = self._retirement = RetirementWait(request, continued)
        self._children = dict.fromkeys(continued.children, False)
        try:
            while True:
                state = await take_step(retirement, "subnet", request.name)
                if state != "held":
                    return RetirementResult(
                        "deleted" if state == "gone" else "serving", retirement.took_s()
                    )
                if retirement.is_overdue and retirement.request.at_deadline == "reinstate":
                    return await self._reinstate(retirement)
                if workflow.info().is_continue_as_new_suggested():
                    self._continue(retirement)
                await self._start_children(retirement)
                await retirement.wait()
        except workflow.CancelledError:
            await self._reinstate(retirement)
            raise

    @workflow.query
    def status(self) -> dict[str, Payload]:
        """The status, and the pools with a child execution."""
        if self._retirement is None:
            return {}
        return {**self._retirement.status(), "children": list(self._children)}

    @staticmethod
    def _options(name: str) -> workflow.ChildOptions:
        return workflow.ChildOptions(
            retirement_id("pool", name), parent_close=workflow.ParentClosePolicy.ABANDON
        )

    def _continue(self, retirement: RetirementWait) -> NoReturn:
        continued = retirement.continued()._replace(children=tuple(self._children))
        workflow.continue_as_new(retirement.request, continued)

    async def _start_children(self, retirement: RetirementWait) -> None:
        remaining = set(retirement.remaining.pools)
        self._children = {
            name: is_own for name, is_own in self._children.items() if name in remaining
        }
        for name in retirement.remaining.pools:
            if name not in self._children:
                await workflow.shield(self._start_child(name))

    async def _start_child(self, name: str) -> None:
        """Start the child of a pool. Shield the call, so that ``_reinstate`` finds the child."""
        request = RetirementRequest(name, ordered_by=workflow.info().workflow_id)
        self._is_starting = True
        try:
            child = await workflow.start_child(PoolRetirement, request, options=self._options(name))
        except workflow.ChildWorkflowError:
            return  # the pool was retiring before, and has its own execution
        finally:
            self._is_starting = False
        self._children[name] = True
        workflow.start(self._await_end(name, child))

    async def _await_end(self, name: str, child: workflow.ChildHandle) -> None:
        try:
            await child
        except (workflow.ChildWorkflowError, workflow.CancelledError) as error:
            assert self._retirement is not None, "set before the first child"
            self._retirement.note_failure(error)
        self._children.pop(name, None)
        if self._retirement is not None:
            self._retirement.wake()

    async def _reinstate(self, retirement: RetirementWait) -> RetirementResult:
        """Reinstate the subnet, then its pools: no pool may serve while the subnet retires."""
        outcome = await reinstate(retirement, "subnet", retirement.request.name)
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
