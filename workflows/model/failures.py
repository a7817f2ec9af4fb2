"""Failures as data for events, and their conversion from and to ``workflows.model.errors``."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from workflows.model import errors
from workflows.model.limits import FAILURE_DEPTH_MAX, FAILURE_MESSAGE_CHARS_MAX
from workflows.model.payloads import Payload, to_payload


class FailureKind(StrEnum):
    """The class of the exception in workflow code."""

    APPLICATION = "Application"
    CANCELED = "Canceled"
    TIMEOUT = "Timeout"
    TERMINATED = "Terminated"
    ACTIVITY = "Activity"
    CHILD_WORKFLOW = "ChildWorkflow"


class Failure(NamedTuple):
    """One failure with its cause.

    ``type``: the type of the application error, activity, child workflow or timeout. ``subject``:
    the id of the activity or child. ``next_retry_delay_s`` 0: use the pause of the retry policy.
    ``retry_state``: a ``RetryState`` or "".
    """

    kind: FailureKind
    message: str
    type: str = ""
    non_retryable: bool = False
    next_retry_delay_s: float = 0.0
    details: tuple[Payload, ...] = ()
    subject: str = ""
    retry_state: str = ""
    cause: Failure | None = None


def failure_of(error: BaseException, *, depth: int = 0) -> Failure:
    """The data of an exception. Exceptions outside ``errors`` become application failures."""
    message = str(error)[:FAILURE_MESSAGE_CHARS_MAX]
    cause = None
    if error.__cause__ is not None and depth < FAILURE_DEPTH_MAX:
        cause = failure_of(error.__cause__, depth=depth + 1)
    match error:
        case errors.ApplicationError():
            details = tuple(to_payload(detail, what="failure details") for detail in error.details)
            return Failure(
                FailureKind.APPLICATION,
                message,
                error.type,
                error.non_retryable,
                error.next_retry_delay_s,
                details,
                cause=cause,
            )
        case errors.ActivityError():
            return _subject_failure(FailureKind.ACTIVITY, error, message, cause)
        case errors.ChildWorkflowError():
            return _subject_failure(FailureKind.CHILD_WORKFLOW, error, message, cause)
        case errors.TimeoutError():
            return Failure(FailureKind.TIMEOUT, message, error.type, cause=cause)
        case errors.TerminatedError():
            return Failure(FailureKind.TERMINATED, message, cause=cause)
        case errors.CancelledError():
            return Failure(FailureKind.CANCELED, message, cause=cause)
    return Failure(FailureKind.APPLICATION, message, type(error).__name__, cause=cause)


def error_of(failure: Failure) -> BaseException:
    """The exception of a failure, with its causes."""
    error = _error_without_cause(failure)
    if failure.cause is not None:
        error.__cause__ = error_of(failure.cause)
    return error


def _subject_failure(
    kind: FailureKind,
    error: errors.ActivityError | errors.ChildWorkflowError,
    message: str,
    cause: Failure | None,
) -> Failure:
    return Failure(
        kind,
        message,
        error.type,
        subject=error.subject,
        retry_state=error.retry_state,
        cause=cause,
    )


def _error_without_cause(failure: Failure) -> BaseException:
    message = failure.message
    match failure.kind:
        case FailureKind.APPLICATION:
            return errors.ApplicationError(
                message,
                *failure.details,
                type=failure.type,
                non_retryable=failure.non_retryable,
                next_retry_delay_s=failure.next_retry_delay_s,
            )
        case FailureKind.CANCELED:
            return errors.CancelledError(message)
        case FailureKind.TIMEOUT:
            return errors.TimeoutError(message, type=failure.type)
        case FailureKind.TERMINATED:
            return errors.TerminatedError(message)
        case FailureKind.ACTIVITY | FailureKind.CHILD_WORKFLOW:
            is_activity = failure.kind is FailureKind.ACTIVITY
            kind = errors.ActivityError if is_activity else errors.ChildWorkflowError
            return kind(
                message, type=failure.type, subject=failure.subject, retry_state=failure.retry_state
            )
