"""The retirement of a subnet: the parent of its pools' retirements, then the subnet is deleted.

Id ``retire/subnet/<name>``. All pools retire with the subnet; some of them at a time have a child
execution each, which deletes its pool, and the next ones follow. A pool that was retiring before
has an execution of its own: it is waited for, and never cancelled from here. Cancelling this one
makes the subnet serve again, then the pools that it took with it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final, NoReturn

from workflows.api import workflow
from workflows.jobs.retirement.pool import PoolRetirement, give_back, take_step
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
"""How long cancelled children may take to let their pools serve again."""


@workflow.defn(name=SUBNET_WORKFLOW)
class SubnetRetirement:
    """The execution.

    ``_children``: pools whose retirement it has started and that go on; True if by this run, which
    then hears of their ends, False if by one before it.
    """

    def __init__(self) -> None:
        self._vigil: RetirementWait | None = None
        self._children: dict[str, bool] = {}
        self._is_starting = False

    @workflow.run
    async def run(
        self, order: RetirementRequest, carry: ContinuedRetirement = ContinuedRetirement()
    ) -> RetirementResult:
        """Until the subnet is deleted, or serves again."""
        vigil = self._vigil = RetirementWait(order, carry)
        self._children = dict.fromkeys(carry.children, False)
        try:
            while True:
                state = await take_step(vigil, "subnet", order.name)
                if state != "held":
                    return RetirementResult(
                        "deleted" if state == "gone" else "serving", vigil.took_s()
                    )
                if vigil.is_overdue and vigil.order.at_deadline == "reinstate":
                    return await self._give_back(vigil)
                if workflow.info().is_continue_as_new_suggested():
                    self._continue(vigil)
                await self._start_children(vigil)
                await vigil.wait()
        except workflow.CancelledError:
            await self._give_back(vigil)
            raise

    @workflow.query
    def status(self) -> dict[str, Payload]:
        """Which pools are left, and which of them have a child execution of this one."""
        if self._vigil is None:
            return {}
        return {**self._vigil.status(), "children": list(self._children)}

    @staticmethod
    def _options(name: str) -> workflow.ChildOptions:
        """Its pool retires whatever becomes of this run."""
        return workflow.ChildOptions(
            retirement_id("pool", name), parent_close=workflow.ParentClosePolicy.ABANDON
        )

    def _continue(self, vigil: RetirementWait) -> NoReturn:
        carry = vigil.carry()._replace(children=tuple(self._children))
        workflow.continue_as_new(vigil.order, carry)

    async def _start_children(self, vigil: RetirementWait) -> None:
        there = set(vigil.left.pools)
        self._children = {name: ours for name, ours in self._children.items() if name in there}
        for name in vigil.left.pools:
            if name not in self._children:
                await workflow.shield(self._start_child(name))

    async def _start_child(self, name: str) -> None:
        """Goes on when the run is cancelled meanwhile, which must know the child then."""
        order = RetirementRequest(name, ordered_by=workflow.info().workflow_id)
        self._is_starting = True
        try:
            child = await workflow.start_child(PoolRetirement, order, options=self._options(name))
        except workflow.ChildWorkflowError:
            return  # it retires on its own already
        finally:
            self._is_starting = False
        self._children[name] = True
        workflow.start(self._follow(name, child))

    async def _follow(self, name: str, child: workflow.ChildHandle) -> None:
        """When a child is done, the next look sees what it left."""
        try:
            await child
        except (workflow.ChildWorkflowError, workflow.CancelledError) as error:
            assert self._vigil is not None, "set before the first child"
            self._vigil.failed(error)
        self._children.pop(name, None)
        if self._vigil is not None:
            self._vigil.wake()

    async def _give_back(self, vigil: RetirementWait) -> RetirementResult:
        """The subnet first: until it serves, its pools may not."""
        outcome = await give_back(vigil, "subnet", vigil.order.name)
        await workflow.wait_condition(lambda: not self._is_starting)
        for name in list(self._children):
            child = workflow.external(POOL_WORKFLOW, retirement_id("pool", name))
            try:
                await child.cancel()
            except workflow.ApplicationError:
                self._children.pop(name, None)  # it has ended meanwhile
        with suppress(workflow.TimeoutError):
            await workflow.wait_condition(lambda: not any(self._children.values()), CHILDREN_END_S)
        return outcome
