"""The API of activities: plain or async functions that may do I/O, and may be repeated.

An activity runs at least once. ``info()`` returns its attempt; ``heartbeat`` records progress, and
raises CancelledError once the attempt was cancelled.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

from workflows.api.definitions import DEFINITION, HandlerRole, define_activity, handler_of
from workflows.api.inspection import MARK
from workflows.model.errors import WorkflowError
from workflows.model.payloads import Payload

F = TypeVar("F", bound=Callable[..., Any])


class ActivityInfo(NamedTuple):
    """The data of the current attempt.

    ``idempotency_key`` is the same for all attempts and for no other activity.
    ``heartbeat_details`` are what the attempt before this one reported last.
    """

    activity_id: int
    activity_type: str
    workflow_type: str
    workflow_id: str
    run_id: str
    attempt: int = 1
    heartbeat_details: tuple[Payload, ...] = ()

    @property
    def idempotency_key(self) -> str:
        """Names this activity of this run."""
        return f"{self.run_id}/{self.activity_id}"


class _Attempt(NamedTuple):
    info: ActivityInfo
    heartbeat: Callable[..., None]


_CURRENT: ContextVar[_Attempt | None] = ContextVar("orbweaver_activity_attempt", default=None)


def enter(info: ActivityInfo, heartbeat: Callable[..., None]) -> None:
    """For workers: what runs in the present context from now on is this attempt."""
    _CURRENT.set(_Attempt(info, heartbeat))


def defn(*, name: str = "") -> Callable[[F], F]:
    """Decorate an activity function; ``name``: of the type, by default that of the function."""

    def decorate(function: F) -> F:
        type_name = name or function.__name__
        setattr(function, MARK, HandlerRole("activity", type_name))
        if "." not in function.__qualname__.rpartition("<locals>.")[2]:
            handler = handler_of(function, type_name, method=False)
            setattr(function, DEFINITION, define_activity(type_name, handler))
        return function

    return decorate


def info() -> ActivityInfo:
    """The present attempt."""
    return _attempt().info


def heartbeat(*details: object) -> None:
    """Say that the attempt is alive and how far it is; CancelledError if it is not wanted."""
    _attempt().heartbeat(*details)


def _attempt() -> _Attempt:
    attempt = _CURRENT.get()
    if attempt is None:
        raise WorkflowError("this function was called outside an activity")
    return attempt
