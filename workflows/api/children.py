"""Child and external executions in workflow code."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from workflows.api.context import ChildFutures, current
from workflows.api.definitions import workflow_definition
from workflows.api.options import ChildOptions


class ExternalHandle:
    """The handle of another execution. ``run_id`` "": whichever run is open."""

    def __init__(self, workflow_type: str, workflow_id: str, run_id: str = "") -> None:
        self.workflow_type = workflow_type
        self.workflow_id = workflow_id
        self.run_id = run_id

    async def signal(self, name: str, *args: object) -> None:
        """Signal, and wait until the execution's history has the signal.

        Raises ApplicationError if the execution is not open.
        """
        await current().signal_external(self._target, name, args)

    async def cancel(self) -> None:
        """Request cancellation, and wait until the execution's history has the request.

        Raises ApplicationError if the execution is not open.
        """
        await current().cancel_external(self._target)

    @property
    def _target(self) -> tuple[str, str, str]:
        return self.workflow_type, self.workflow_id, self.run_id


class ChildHandle(ExternalHandle):
    """The handle of a started child. ``await`` returns the result or raises ChildWorkflowError."""

    def __init__(self, futures: ChildFutures, run_id: str) -> None:
        super().__init__(futures.workflow_type, futures.workflow_id, run_id)
        self._closed = futures.closed

    def __await__(self) -> Generator[Any, None, Any]:
        return self._closed.__await__()

    async def cancel(self) -> None:
        """Cancel the child as ``ChildOptions.cancellation`` says. Does not wait for the end."""
        self._closed.cancel()


def external(workflow_type: str, workflow_id: str, run_id: str = "") -> ExternalHandle:
    """The handle of an execution that is not a child of the current one."""
    return ExternalHandle(workflow_type, workflow_id, run_id)


async def start_child(
    workflow: str | type[Any], *args: object, options: ChildOptions = ChildOptions()
) -> ChildHandle:
    """Start a child, and wait for the start. Raises ChildWorkflowError if the id is in use."""
    futures = _futures(workflow, args, options)
    return ChildHandle(futures, await futures.started)


async def execute_child(
    workflow: str | type[Any], *args: object, options: ChildOptions = ChildOptions()
) -> Any:  # noqa: ANN401 - the result of the child
    """Run a child and return its result. Raises ChildWorkflowError unless it completes."""
    return await _futures(workflow, args, options).closed


def _futures(
    workflow: str | type[Any], args: tuple[object, ...], options: ChildOptions
) -> ChildFutures:
    if isinstance(workflow, str):
        return current().start_child(workflow, args, options, Any)
    definition = workflow_definition(workflow)
    return current().start_child(definition.name, args, options, definition.run.result_type)
