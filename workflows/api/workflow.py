"""The API of workflow code.

Workflow code uses activities for I/O, and functions of this module for time and randomness. A
forbidden call (``workflows.api.forbidden_calls``) fails the workflow task.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from random import Random
from typing import Any, NoReturn, TypeVar, overload

from workflows.api.children import (
    ChildHandle,
    ExternalHandle,
    execute_child,
    external,
    start_child,
)
from workflows.api.context import ContinueAsNew, Future, Task, current
from workflows.api.definitions import (
    DEFINITION_ATTRIBUTE,
    ROLE_ATTRIBUTE,
    HandlerRole,
    activity_definition,
    define_workflow,
)
from workflows.api.logs import logger
from workflows.api.options import ActivityOptions, ChildOptions, WorkflowInfo
from workflows.api.waits import (
    first_done,
    gather,
    shield,
    sleep,
    start,
    wait_condition,
    wait_for,
)
from workflows.model.errors import (
    ActivityError,
    ApplicationError,
    CancelledError,
    ChildWorkflowError,
    TerminatedError,
    TimeoutError,  # noqa: A004 - Temporal's name
)
from workflows.model.events import WorkflowExecutionContinuedAsNew
from workflows.model.payloads import Payload, to_payload, to_payloads
from workflows.model.policies import CancellationType, ParentClosePolicy, RetryPolicy

__all__ = [
    "ActivityError",
    "ActivityOptions",
    "ApplicationError",
    "CancellationType",
    "CancelledError",
    "ChildHandle",
    "ChildOptions",
    "ChildWorkflowError",
    "ExternalHandle",
    "Future",
    "ParentClosePolicy",
    "RetryPolicy",
    "Task",
    "TerminatedError",
    "TimeoutError",
    "WorkflowInfo",
    "all_handlers_finished",
    "continue_as_new",
    "defn",
    "deprecate_patch",
    "execute_activity",
    "execute_child",
    "external",
    "first_done",
    "gather",
    "info",
    "is_replaying",
    "logger",
    "now",
    "patched",
    "query",
    "random",
    "run",
    "set_query_handler",
    "set_signal_handler",
    "shield",
    "signal",
    "sleep",
    "start",
    "start_activity",
    "start_child",
    "update",
    "upsert_search_attributes",
    "uuid4",
    "validator",
    "wait_condition",
    "wait_for",
]

C = TypeVar("C", bound=type[Any])
F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

# ----------------------------------------------------------------------------------- decorators


def defn(*, name: str = "") -> Callable[[C], C]:
    """Decorate a workflow class. ``name``: by default the class's name."""

    def decorate(cls: C) -> C:
        setattr(cls, DEFINITION_ATTRIBUTE, define_workflow(cls, name or cls.__name__))
        return cls

    return decorate


def run(method: F) -> F:
    """Mark the workflow function, one per class."""
    setattr(method, ROLE_ATTRIBUTE, HandlerRole("run", method.__name__))
    return method


def signal(method: F) -> F:
    """Mark a plain or async method as the handler of the signal of the same name."""
    setattr(method, ROLE_ATTRIBUTE, HandlerRole("signal", method.__name__))
    return method


def query(method: F) -> F:
    """Mark a plain method as the handler of the query of the same name. May only read."""
    setattr(method, ROLE_ATTRIBUTE, HandlerRole("query", method.__name__))
    return method


def update(method: F) -> F:
    """Mark a plain or async method as the handler of the update of the same name."""
    setattr(method, ROLE_ATTRIBUTE, HandlerRole("update", method.__name__))
    return method


def validator(update_name: str) -> Callable[[F], F]:
    """Mark a plain method that raises to reject an update. May only read."""

    def decorate(method: F) -> F:
        setattr(method, ROLE_ATTRIBUTE, HandlerRole("validator", update_name))
        return method

    return decorate


# --------------------------------------------------------------------------- the run and its time


def info() -> WorkflowInfo:
    """The data of the current run."""
    return current().info()


def now() -> datetime:
    """The time of the current workflow task, in UTC."""
    return datetime.fromtimestamp(current().now_ms / 1000, tz=UTC)


def random() -> Random:
    """A generator with the same numbers in every replay."""
    return current().random()


def uuid4() -> uuid.UUID:
    """A random UUID, the same in every replay."""
    return uuid.UUID(int=random().getrandbits(128), version=4)


def is_replaying() -> bool:
    """Whether the code is replayed. For logs and metrics only, not for decisions."""
    return current().replaying


def patched(patch_id: str) -> bool:
    """Whether to run the new code: False if the run has executed the old code here."""
    return current().patched(patch_id, deprecated=False)


def deprecate_patch(patch_id: str) -> None:
    """Declare that no run without the patch is left, so that the old code can be deleted."""
    current().patched(patch_id, deprecated=True)


def upsert_search_attributes(attributes: Mapping[str, Payload]) -> None:
    """Set search attributes; None removes an attribute."""
    current().upsert_search_attributes(attributes)


def continue_as_new(*args: object, workflow_type: str = "") -> NoReturn:
    """End this run and its handlers, and continue in a new run with an empty history."""
    run_info = current().info()
    payloads = to_payloads(args, what="the arguments of continue_as_new")
    raise ContinueAsNew(
        WorkflowExecutionContinuedAsNew(
            workflow_type or run_info.workflow_type,
            payloads,
            run_info.task_queue,
            to_payload(run_info.search_attributes, what="search attributes"),
        )
    )


# ------------------------------------------------------------------------------------- messages


def set_signal_handler(name: str, function: Callable[..., Any] | None) -> None:
    """Set the handler of a signal; None removes it. A new handler gets the waiting signals."""
    current().set_handler("signal", name, function)


def set_query_handler(name: str, function: Callable[..., Any] | None) -> None:
    """Set the handler of a query; None removes the handler."""
    current().set_handler("query", name, function)


def all_handlers_finished() -> bool:
    """Whether no signal or update handler runs. Workflows should wait for this before returning."""
    return current().handlers_running() == 0


# ----------------------------------------------------------------------------------- activities


@overload
def start_activity(  # noqa: D418 - tests/tidy wants every public name documented
    activity: Callable[..., Awaitable[T]], *args: object, options: ActivityOptions
) -> Future[T]:
    """An async activity."""


@overload
def start_activity(  # noqa: D418 - tests/tidy wants every public name documented
    activity: str | Callable[..., T], *args: object, options: ActivityOptions
) -> Future[T]:
    """A plain activity, or the name of an activity."""


def start_activity(
    activity: str | Callable[..., Any], *args: object, options: ActivityOptions
) -> Future[Any]:
    """Request an activity. Cancelling the future cancels the activity.

    After the last failed attempt, the future raises ActivityError with the failure as its cause.
    """
    if isinstance(activity, str):
        return current().start_activity(activity, args, options, Any)
    definition = activity_definition(activity)
    kind = definition.handler.result_type
    return current().start_activity(definition.name, args, options, kind)


@overload
async def execute_activity(  # noqa: D418 - tests/tidy wants every public name documented
    activity: Callable[..., Awaitable[T]], *args: object, options: ActivityOptions
) -> T:
    """An async activity."""


@overload
async def execute_activity(  # noqa: D418 - tests/tidy wants every public name documented
    activity: str | Callable[..., T], *args: object, options: ActivityOptions
) -> T:
    """A plain activity, or the name of an activity."""


async def execute_activity(
    activity: str | Callable[..., Any], *args: object, options: ActivityOptions
) -> Any:
    """Run an activity and return its result. Raises ActivityError."""
    return await start_activity(activity, *args, options=options)
