"""Policies of workflows and activities: retries, timeouts, cancellation, children.

Names and defaults are Temporal's (docs/reference/workflow-defaults.md). Instants are integer
milliseconds since 1970 (``_ms``), durations are float seconds (``_s``). A duration of 0 means no
limit.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

MAXIMUM_INTERVAL_FACTOR = 100.0


class RetryPolicy(NamedTuple):
    """When a failed attempt is retried.

    ``maximum_interval_s`` 0: 100 times the initial interval. ``maximum_attempts`` 0: no limit.
    ``non_retryable``: types of application failures that are not retried.

    ``pause_when_exhausted``: after the last attempt the execution pauses; otherwise the failure is
    raised in workflow code. If workflow code passes None, the event records False. None in an
    event means True: the event is older than this field.
    """

    initial_interval_s: float = 1.0
    backoff_coefficient: float = 2.0
    maximum_interval_s: float = 0.0
    maximum_attempts: int = 0
    non_retryable: tuple[str, ...] = ()
    pause_when_exhausted: bool | None = None

    @property
    def pauses(self) -> bool:
        """Whether the execution pauses after the last attempt, if an event has this policy."""
        return self.pause_when_exhausted is not False

    @property
    def interval_ceiling_s(self) -> float:
        """The longest pause between two attempts."""
        return self.maximum_interval_s or self.initial_interval_s * MAXIMUM_INTERVAL_FACTOR


class Timeouts(NamedTuple):
    """The timeouts of an activity.

    ``schedule_to_close_s`` limits all attempts with their pauses, ``schedule_to_start_s`` the wait
    in the queue (not retried), ``start_to_close_s`` one attempt. One of the ``..._to_close_s`` is
    required.
    """

    schedule_to_close_s: float = 0.0
    schedule_to_start_s: float = 0.0
    start_to_close_s: float = 0.0
    heartbeat_s: float = 0.0


class TimeoutType(StrEnum):
    """Which timeout was reached."""

    SCHEDULE_TO_CLOSE = "ScheduleToClose"
    SCHEDULE_TO_START = "ScheduleToStart"
    START_TO_CLOSE = "StartToClose"
    HEARTBEAT = "Heartbeat"


class RetryState(StrEnum):
    """Why there is no further attempt."""

    NON_RETRYABLE_FAILURE = "NonRetryableFailure"
    TIMEOUT = "Timeout"
    MAXIMUM_ATTEMPTS_REACHED = "MaximumAttemptsReached"
    CANCEL_REQUESTED = "CancelRequested"


class CancellationType(StrEnum):
    """What happens when workflow code cancels an activity or child.

    TRY_CANCEL requests the cancellation and raises CancelledError at once. ABANDON raises
    CancelledError without a request.
    """

    TRY_CANCEL = "TryCancel"
    WAIT_CANCELLATION_COMPLETED = "WaitCancellationCompleted"
    ABANDON = "Abandon"


class ParentClosePolicy(StrEnum):
    """What happens to a child when its parent closes."""

    TERMINATE = "Terminate"
    ABANDON = "Abandon"
    REQUEST_CANCEL = "RequestCancel"


class IdReusePolicy(StrEnum):
    """Whether the id of a closed execution may be used again."""

    ALLOW_DUPLICATE = "AllowDuplicate"
    ALLOW_DUPLICATE_FAILED_ONLY = "AllowDuplicateFailedOnly"
    REJECT_DUPLICATE = "RejectDuplicate"


class IdConflictPolicy(StrEnum):
    """What happens to a start if the id belongs to an open execution."""

    FAIL = "Fail"
    USE_EXISTING = "UseExisting"
    TERMINATE_EXISTING = "TerminateExisting"


class UpdateStage(StrEnum):
    """The stages of an update. ADMITTED: stored, but not yet accepted by its validator."""

    ADMITTED = "Admitted"
    ACCEPTED = "Accepted"
    COMPLETED = "Completed"


class ExecutionStatus(StrEnum):
    """The status of an execution. PAUSED: a user must retry, reset, cancel or terminate."""

    RUNNING = "Running"
    PAUSED = "Paused"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELED = "Canceled"
    TERMINATED = "Terminated"
    CONTINUED_AS_NEW = "ContinuedAsNew"
    TIMED_OUT = "TimedOut"

    @property
    def open(self) -> bool:
        """Whether the execution has not closed."""
        return self in {ExecutionStatus.RUNNING, ExecutionStatus.PAUSED}
