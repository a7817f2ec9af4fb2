"""The handle of an execution in a test.

Requests such as ``signal`` return when nothing more happens at the current time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from workflows.engine.store.records import RunHead
from workflows.model.events import HistoryEvent
from workflows.model.payloads import from_payload
from workflows.model.policies import ExecutionStatus

if TYPE_CHECKING:
    from workflows.testing.environment import WorkflowEnvironment


class TimeSkippingHandle:
    """The handle of the newest run of an id."""

    def __init__(self, environment: WorkflowEnvironment, workflow_id: str) -> None:
        self._environment = environment
        self.workflow_id = workflow_id

    async def head(self) -> RunHead:
        """The head of the newest run. Raises ExecutionNotFound."""
        return (await self._environment.visibility.describe(self.workflow_id)).head

    async def status(self) -> ExecutionStatus:
        """The status of the newest run."""
        return (await self.head()).status

    async def history(self) -> Sequence[HistoryEvent]:
        """The events of the newest run."""
        _, events = await self._environment.visibility.history(self.workflow_id)
        return events

    async def event_types(self) -> list[str]:
        """The types of the newest run's events, except workflow task events."""
        names = [event.event_type for event in await self.history()]
        return [name for name in names if not name.startswith("WorkflowTask")]

    async def result(self) -> Any:  # noqa: ANN401 - whatever the workflow returns
        """Skip time until the execution has ended, and return its result.

        Raises ExecutionFailed, caused by the failure; StuckError if it is paused or never ends.
        """
        environment = self._environment
        payload = await environment.call(environment.client.result(self.workflow_id))
        name = (await self.head()).workflow_type  # a continued run may have another type
        kind = environment.registry.workflows[name].run.result_type
        return from_payload(payload, kind, what=f"the result of {name}")

    async def signal(self, signal: str | Callable[..., Any], *args: object) -> None:
        """Signal the execution."""
        await self._environment.client.signal(self.workflow_id, signal, *args)
        await self._environment.settle()

    async def query(self, query: str | Callable[..., Any], *args: object) -> Any:  # noqa: ANN401 - whatever the handler returns
        """Query the open or closed execution. Raises CallRejected."""
        await self._environment.settle()
        return await self._environment.client.query(self.workflow_id, query, *args)

    async def update(self, update: str | Callable[..., Any], *args: object) -> Any:  # noqa: ANN401 - whatever the handler returns
        """Update the execution, and skip time until the handler has returned.

        Raises CallRejected, or the failure of the handler.
        """
        environment = self._environment
        return await environment.call(environment.client.update(self.workflow_id, update, *args))

    async def cancel(self, reason: str = "") -> None:
        """Request the cancellation."""
        await self._environment.client.cancel(self.workflow_id, reason)
        await self._environment.settle()

    async def terminate(self, reason: str = "") -> None:
        """Terminate the execution."""
        await self._environment.client.terminate(self.workflow_id, reason)
        await self._environment.settle()

    async def pause(self, reason: str = "") -> None:
        """Pause the execution."""
        await self._environment.client.pause(self.workflow_id, reason)
        await self._environment.settle()

    async def retry(self, reason: str = "") -> None:
        """Resume the execution. Raises CallRejected if it is not paused."""
        await self._environment.client.retry(self.workflow_id, reason)
        await self._environment.settle()
