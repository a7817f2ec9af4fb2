"""An execution as a test holds it: message it, wait for it, look at its history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workflows.model import events as ev
from workflows.model.commands import UpdateRequest
from workflows.model.errors import (
    CancelledError,
    TerminatedError,
    TimeoutError,  # noqa: A004 - Temporal's name
    WorkflowError,
)
from workflows.model.failures import error_of
from workflows.model.payloads import Payload, from_payload, to_payloads
from workflows.model.policies import ExecutionStatus
from workflows.testing.execution import SimulatedExecution

if TYPE_CHECKING:
    from workflows.testing.environment import WorkflowEnvironment


class SimulatedHandle:
    """The latest run of an id: it follows an execution that continues as new."""

    def __init__(self, environment: WorkflowEnvironment, workflow_id: str) -> None:
        self._environment = environment
        self._updates = 0
        self.workflow_id = workflow_id

    @property
    def execution(self) -> SimulatedExecution:
        """The latest run."""
        return self._environment.runs[self.workflow_id][-1]

    @property
    def status(self) -> ExecutionStatus:
        """Of the latest run."""
        return self.execution.status

    @property
    def history(self) -> Sequence[ev.HistoryEvent]:
        """Of the latest run."""
        return self.execution.history

    @property
    def event_types(self) -> list[str]:
        """What happened, without the workflow tasks."""
        names = [event.event_type for event in self.history]
        return [name for name in names if not name.startswith("WorkflowTask")]

    async def result(self) -> Any:  # noqa: ANN401 - whatever the workflow returns
        """Skip time until it has ended: the result, or what it failed with.

        StuckError if it never ends, or is paused.
        """
        await self._environment.run_until(lambda: not self.status.open)
        end = self.execution.end
        match end:
            case ev.WorkflowExecutionCompleted():
                name = self.execution.started.workflow_type
                kind = self._environment.registry.workflows[name].run.result_type
                return from_payload(end.result, kind, what=f"the result of {name}")
            case ev.WorkflowExecutionFailed():
                raise error_of(end.failure)
            case ev.WorkflowExecutionCanceled():
                raise CancelledError(f"{self.workflow_id} was cancelled")
            case ev.WorkflowExecutionTerminated():
                raise TerminatedError(end.reason)
        raise TimeoutError(f"{self.workflow_id} ended as {self.status}")

    async def signal(self, name: str, *args: object) -> None:
        """Send a signal and let it have its effect."""
        payloads = to_payloads(args, what=f"the arguments of signal {name}")
        self._open().record(ev.WorkflowExecutionSignaled(name, payloads))
        await self._environment.settle()

    async def query(self, name: str, *args: object) -> Payload:
        """Ask; a closed execution answers too."""
        await self._environment.settle()
        return self.execution.query(name, to_payloads(args, what=f"the arguments of {name}"))

    async def update(self, name: str, *args: object) -> Payload:
        """Update and skip time until its handler is done; raises what it was refused with."""
        execution = self._open()
        self._updates += 1
        update_id = f"{name}-{self._updates}"
        payloads = to_payloads(args, what=f"the arguments of update {name}")
        execution.updates.append(UpdateRequest(update_id, name, payloads))
        execution.due = True

        def answer() -> ev.WorkflowExecutionUpdateCompleted | None:
            for event in reversed(execution.history):
                done = event.attributes
                if (
                    isinstance(done, ev.WorkflowExecutionUpdateCompleted)
                    and done.update_id == update_id
                ):
                    return done
            return None

        await self._environment.run_until(
            lambda: update_id in execution.rejected or answer() is not None
        )
        if update_id in execution.rejected:
            raise error_of(execution.rejected[update_id])
        done = answer()
        assert done is not None, "run_until waited for it"
        if done.failure is not None:
            raise error_of(done.failure)
        return done.result

    async def cancel(self, reason: str = "") -> None:
        """Ask it to end in order, and let that have its effect."""
        self._open().record(ev.WorkflowExecutionCancelRequested(reason))
        await self._environment.settle()

    def terminate(self, reason: str = "") -> None:
        """End it from outside."""
        self._open().record(ev.WorkflowExecutionTerminated(reason))

    async def retry(self) -> None:
        """Go on after a pause: the activity that failed gets its attempts again."""
        execution = self.execution
        if execution.status is not ExecutionStatus.PAUSED:
            raise WorkflowError(f"{self.workflow_id} is {execution.status}, not paused")
        execution.unpause()
        await self._environment.settle()

    def _open(self) -> SimulatedExecution:
        execution = self.execution
        if not execution.status.open:
            raise WorkflowError(f"{self.workflow_id} has ended: {execution.status}")
        return execution
