"""The API of activities: plain or async functions that do I/O and may run more than once."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

from workflows.api.definitions import (
    DEFINITION_ATTRIBUTE,
    ROLE_ATTRIBUTE,
    HandlerRole,
    define_activity,
    handler_of,
)
from workflows.model.errors import WorkflowError
from workflows.model.payloads import Payload

F = TypeVar("F", bound=Callable[..., Any])


class ActivityInfo(NamedTuple):
    """The data of the current attempt. ``traceparent``: the attempt's span, "" without tracing.

    ``heartbeat_details``: the details that the previous attempt reported last.
    """

    activity_id: int
    activity_type: str
    workflow_type: str
    workflow_id: str
    run_id: str
    attempt: int = 1
    heartbeat_details: tuple[Payload, ...] = ()
    traceparent: str = ""

    @property
    def idempotency_key(self) -> str:
        """A unique key of the activity, the same in all attempts."""
        return f"{self.run_id}/{self.activity_id}"


class _Attempt(NamedTuple):
    info: ActivityInfo
    heartbeat: Callable[..., None]


_CURRENT: ContextVar[_Attempt | None] = ContextVar("orbweaver_activity_attempt", default=None)


def enter(info: ActivityInfo, heartbeat: Callable[..., None]) -> None:
    """Set the current attempt. For the worker only."""
    _CURRENT.set(_Attempt(info, heartbeat))


def enter_span(traceparent: str) -> None:
    """Set the span of the attempt. For the worker only."""
    attempt = _attempt()
    _CURRENT.set(attempt._replace(info=attempt.info._replace(traceparent=traceparent)))


def defn(*, name: str = "") -> Callable[[F], F]:
    """Decorate an activity function. ``name``: by default the function's name."""

    def decorate(function: F) -> F:
        type_name = name or function.__name__
        setattr(function, ROLE_ATTRIBUTE, HandlerRole("activity", type_name))
        # A method has no object yet, so ``activity_definition`` makes its definition later.
        if "." not in function.__qualname__.rpartition("<locals>.")[2]:
            handler = handler_of(function, type_name, method=False)
            setattr(function, DEFINITION_ATTRIBUTE, define_activity(type_name, handler))
        return function

    return decorate


def info() -> ActivityInfo:
    """The data of the current attempt."""
    return _attempt().info


def heartbeat(*details: object) -> None:
    """Report progress. Raises CancelledError after a cancellation of the attempt."""
    _attempt().heartbeat(*details)


def _attempt() -> _Attempt:
    attempt = _CURRENT.get()
    if attempt is None:
        raise WorkflowError(
            "a function of workflows.api.activity was called outside an activity: call it only in"
            " code that an activity runs"
        )
    return attempt
