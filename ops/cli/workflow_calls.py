"""Client, arguments and errors of the commands about executions and schedules."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import DecodeError, json

from core.errors import OrbweaverError, Refusal, Refused
from ops.cli.action_runner import perform
from workflows.engine.client.client import Client
from workflows.engine.client.visibility import Visibility
from workflows.engine.store.keys import WorkflowKeys
from workflows.model.errors import WorkflowError

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession

Queue = Annotated[str, typer.Option("--queue", help="task queue")]
Arguments = Annotated[list[str] | None, typer.Argument(help="arguments, JSON or plain text")]


def workflow_client(session: ClusterSession, queue: str) -> Client:
    """A client for one task queue."""
    return Client(session.store, session.keys, name="orbctl", queue=queue)


def change_execution(
    context: typer.Context,
    queue: str,
    operation: Callable[[Client], Awaitable[str | None]],
    done: str,
) -> None:
    """Run the operation; print ``done`` and the result."""

    async def action(session: ClusterSession) -> None:
        with engine_errors():
            async with workflow_client(session, queue) as client:
                result = await operation(client)
        print(f"{done} {result}" if result else done)

    perform(context, action)


async def check_workflow_type(session: ClusterSession, queue: str, name: str) -> None:
    """Raise Refused if no worker of the queue has registered the type."""
    registered = await Visibility(session.store, WorkflowKeys(session.keys, queue)).types()
    if name not in registered:
        raise _unknown_type(name, queue, registered)


def _unknown_type(name: str, queue: str, registered: list[str]) -> Exception:
    remedy = f"use one of {', '.join(registered)}" if registered else "start a controller"
    message = f"no worker on task queue {queue} has registered workflow type {name!r}"
    if not registered:
        message = f"no worker has registered for task queue {queue}"
    refusal = Refusal(
        kind="NotSupported",
        rule="workflow-type",
        subject=f"Workflow/{name}",
        field="type",
        message=message,
        remedy=remedy,
    )
    return Refused((refusal,))


@contextmanager
def engine_errors() -> Iterator[None]:
    """Convert WorkflowError to OrbweaverError."""
    try:
        yield
    except WorkflowError as error:
        raise OrbweaverError(str(error)) from error


def parse_argument(text: str) -> Any:  # noqa: ANN401 - any JSON
    """Decode JSON; return other text unchanged."""
    try:
        return json.decode(text)
    except DecodeError:
        return text
