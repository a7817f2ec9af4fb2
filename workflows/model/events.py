"""The events of a run's history: Temporal's event types, each with typed attributes.

Events are numbered from 1 without gaps. The type of an event is the name of the class of its
attributes. New fields go to the end, with a default.

All events of one activity, timer, child or request have the same ``activity_id``, ``timer_id``,
``child_id`` or ``request_id``; these count from 1. Retries add no events: ActivityTaskStarted is
written together with the event that closes the activity.

After WorkflowTaskCompleted comes one event for each command of the task, in order. Workflow code
receives all other events at the next WorkflowTaskStarted.
"""

# ruff: noqa: RUF012 - a mapping defaults to {}; no event is ever changed in place
from __future__ import annotations

from typing import NamedTuple

from workflows.model.failures import Failure
from workflows.model.payloads import Payload
from workflows.model.policies import (
    IdReusePolicy,
    ParentClosePolicy,
    RetryPolicy,
    RetryState,
    Timeouts,
    TimeoutType,
)

SearchAttributes = dict[str, Payload]


class ParentRef(NamedTuple):
    """The parent execution. ``child_id``: the child's id in the parent's history."""

    workflow_type: str
    workflow_id: str
    run_id: str
    child_id: int


# ------------------------------------------------------------------------- the run as a whole


class WorkflowExecutionStarted(NamedTuple):
    """The first event. ``trigger``: the event of the IPAM log that caused the start, or "".

    ``continued_run_id``: the previous run. ``first_run_id``: the first run of the chain.
    """

    workflow_type: str
    workflow_id: str
    run_id: str
    task_queue: str
    args: tuple[Payload, ...] = ()
    run_timeout_s: float = 0.0
    execution_timeout_s: float = 0.0
    search_attributes: SearchAttributes = {}
    memo: dict[str, Payload] = {}
    parent: ParentRef | None = None
    first_run_id: str = ""
    continued_run_id: str = ""
    identity: str = ""
    traceparent: str = ""
    trigger: str = ""


class WorkflowExecutionCompleted(NamedTuple):
    """The workflow function returned."""

    result: Payload = None


class WorkflowExecutionFailed(NamedTuple):
    """The workflow function raised a FailureError."""

    failure: Failure


class WorkflowExecutionTimedOut(NamedTuple):
    """The run or execution timeout was reached."""

    message: str = ""


class WorkflowExecutionCanceled(NamedTuple):
    """The workflow function raised CancelledError after a cancel request."""

    message: str = ""


class WorkflowExecutionTerminated(NamedTuple):
    """The execution was terminated, without running workflow code."""

    reason: str
    identity: str = ""


class WorkflowExecutionContinuedAsNew(NamedTuple):
    """A new run continues the run. The engine sets ``new_run_id``."""

    workflow_type: str
    args: tuple[Payload, ...] = ()
    task_queue: str = ""
    search_attributes: SearchAttributes = {}
    new_run_id: str = ""


class WorkflowExecutionSignaled(NamedTuple):
    """A signal was received. A repeated ``request_id`` adds no event."""

    signal_name: str
    args: tuple[Payload, ...] = ()
    identity: str = ""
    request_id: str = ""
    traceparent: str = ""


class WorkflowExecutionCancelRequested(NamedTuple):
    """Cancellation of the run was requested."""

    reason: str = ""
    identity: str = ""


class WorkflowExecutionPaused(NamedTuple):
    """The execution waits for a user. ``activity_id`` 0: no activity caused the pause."""

    reason: str
    activity_id: int = 0
    failure: Failure | None = None


class WorkflowExecutionUnpaused(NamedTuple):
    """A paused execution continues."""

    reason: str = ""
    identity: str = ""


class WorkflowExecutionUpdateAccepted(NamedTuple):
    """An update was accepted by its validator."""

    update_id: str
    update_name: str
    args: tuple[Payload, ...] = ()
    identity: str = ""


class WorkflowExecutionUpdateCompleted(NamedTuple):
    """The handler of an update returned, or raised a FailureError."""

    update_id: str
    result: Payload = None
    failure: Failure | None = None


class UpsertWorkflowSearchAttributes(NamedTuple):
    """Search attributes were set. A value of None removes the attribute."""

    search_attributes: SearchAttributes


# ----------------------------------------------------------------------------- workflow tasks


class WorkflowTaskScheduled(NamedTuple):
    """A workflow task was scheduled: the code has events to process."""

    task_queue: str = ""
    attempt: int = 1


class WorkflowTaskStarted(NamedTuple):
    """A worker took the task. ``workflow.now()`` returns the time of this event.

    ``suggest_continue_as_new`` is recorded for replay.
    """

    identity: str = ""
    history_bytes: int = 0
    suggest_continue_as_new: bool = False


class WorkflowTaskCompleted(NamedTuple):
    """The task was executed. The events of its commands follow."""

    identity: str = ""


class WorkflowTaskTimedOut(NamedTuple):
    """The task took too long. It is repeated."""

    timeout_type: TimeoutType = TimeoutType.START_TO_CLOSE


class WorkflowTaskFailed(NamedTuple):
    """A WorkflowTaskError stopped the code. The task is repeated."""

    failure: Failure
    identity: str = ""


# --------------------------------------------------------------------------------- activities


class ActivityTaskScheduled(NamedTuple):
    """The run scheduled an activity. ``task_queue`` "": the task queue of the run."""

    activity_id: int
    activity_type: str
    args: tuple[Payload, ...] = ()
    task_queue: str = ""
    timeouts: Timeouts = Timeouts()
    retry_policy: RetryPolicy = RetryPolicy()


class ActivityTaskStarted(NamedTuple):
    """A worker started the attempt that closed the activity."""

    activity_id: int
    attempt: int = 1
    identity: str = ""
    last_failure: Failure | None = None


class ActivityTaskCompleted(NamedTuple):
    """The activity returned."""

    activity_id: int
    result: Payload = None


class ActivityTaskFailed(NamedTuple):
    """The activity failed and is not retried."""

    activity_id: int
    failure: Failure
    retry_state: RetryState = RetryState.NON_RETRYABLE_FAILURE


class ActivityTaskTimedOut(NamedTuple):
    """The activity timed out and is not retried. ``failure``: why the last attempt failed."""

    activity_id: int
    timeout_type: TimeoutType
    retry_state: RetryState = RetryState.TIMEOUT
    failure: Failure | None = None


class ActivityTaskCancelRequested(NamedTuple):
    """The run requested the cancellation of the activity."""

    activity_id: int


class ActivityTaskCanceled(NamedTuple):
    """The activity stopped after a cancel request."""

    activity_id: int
    details: tuple[Payload, ...] = ()


# ------------------------------------------------------------------------- timers and markers


class TimerStarted(NamedTuple):
    """The run started a timer that fires ``start_to_fire_s`` after this event."""

    timer_id: int
    start_to_fire_s: float


class TimerFired(NamedTuple):
    """The timer has fired."""

    timer_id: int


class TimerCanceled(NamedTuple):
    """The run has cancelled the timer."""

    timer_id: int


class MarkerRecorded(NamedTuple):
    """The run uses the patch ``key``, also in replay. ``marker_name`` is "patch"."""

    marker_name: str
    key: str
    deprecated: bool = False


# --------------------------------------------------------------------------- other executions


class StartChildWorkflowExecutionInitiated(NamedTuple):
    """The run requested the start of a child."""

    child_id: int
    workflow_type: str
    workflow_id: str
    args: tuple[Payload, ...] = ()
    task_queue: str = ""
    run_timeout_s: float = 0.0
    execution_timeout_s: float = 0.0
    parent_close_policy: ParentClosePolicy = ParentClosePolicy.TERMINATE
    id_reuse_policy: IdReusePolicy = IdReusePolicy.ALLOW_DUPLICATE
    search_attributes: SearchAttributes = {}


class StartChildWorkflowExecutionFailed(NamedTuple):
    """The child was not started, because its id is in use."""

    child_id: int
    message: str


class ChildWorkflowExecutionStarted(NamedTuple):
    """The child has recorded its first event."""

    child_id: int
    run_id: str


class ChildWorkflowExecutionCompleted(NamedTuple):
    """The child returned."""

    child_id: int
    result: Payload = None


class ChildWorkflowExecutionFailed(NamedTuple):
    """The child failed."""

    child_id: int
    failure: Failure


class ChildWorkflowExecutionCanceled(NamedTuple):
    """The child was cancelled."""

    child_id: int


class ChildWorkflowExecutionTimedOut(NamedTuple):
    """The child timed out."""

    child_id: int


class ChildWorkflowExecutionTerminated(NamedTuple):
    """The child was terminated."""

    child_id: int


class SignalExternalWorkflowExecutionInitiated(NamedTuple):
    """The run sends a signal. ``run_id`` "": the current run of ``workflow_id``."""

    request_id: int
    workflow_type: str
    workflow_id: str
    signal_name: str
    args: tuple[Payload, ...] = ()
    run_id: str = ""


class SignalExternalWorkflowExecutionFailed(NamedTuple):
    """The signal was not delivered, because the execution is not open."""

    request_id: int
    message: str = ""


class ExternalWorkflowExecutionSignaled(NamedTuple):
    """The history of the other execution has the signal."""

    request_id: int


class RequestCancelExternalWorkflowExecutionInitiated(NamedTuple):
    """The run requested a cancellation. ``child_id`` 0: the execution is not a child."""

    request_id: int
    workflow_type: str
    workflow_id: str
    child_id: int = 0
    run_id: str = ""


class RequestCancelExternalWorkflowExecutionFailed(NamedTuple):
    """The request was not delivered, because the execution is not open."""

    request_id: int
    message: str = ""


class ExternalWorkflowExecutionCancelRequested(NamedTuple):
    """The history of the other execution has the cancel request."""

    request_id: int


Attributes = (
    WorkflowExecutionStarted
    | WorkflowExecutionCompleted
    | WorkflowExecutionFailed
    | WorkflowExecutionTimedOut
    | WorkflowExecutionCanceled
    | WorkflowExecutionTerminated
    | WorkflowExecutionContinuedAsNew
    | WorkflowExecutionSignaled
    | WorkflowExecutionCancelRequested
    | WorkflowExecutionPaused
    | WorkflowExecutionUnpaused
    | WorkflowExecutionUpdateAccepted
    | WorkflowExecutionUpdateCompleted
    | UpsertWorkflowSearchAttributes
    | WorkflowTaskScheduled
    | WorkflowTaskStarted
    | WorkflowTaskCompleted
    | WorkflowTaskTimedOut
    | WorkflowTaskFailed
    | ActivityTaskScheduled
    | ActivityTaskStarted
    | ActivityTaskCompleted
    | ActivityTaskFailed
    | ActivityTaskTimedOut
    | ActivityTaskCancelRequested
    | ActivityTaskCanceled
    | TimerStarted
    | TimerFired
    | TimerCanceled
    | MarkerRecorded
    | StartChildWorkflowExecutionInitiated
    | StartChildWorkflowExecutionFailed
    | ChildWorkflowExecutionStarted
    | ChildWorkflowExecutionCompleted
    | ChildWorkflowExecutionFailed
    | ChildWorkflowExecutionCanceled
    | ChildWorkflowExecutionTimedOut
    | ChildWorkflowExecutionTerminated
    | SignalExternalWorkflowExecutionInitiated
    | SignalExternalWorkflowExecutionFailed
    | ExternalWorkflowExecutionSignaled
    | RequestCancelExternalWorkflowExecutionInitiated
    | RequestCancelExternalWorkflowExecutionFailed
    | ExternalWorkflowExecutionCancelRequested
)

EVENT_TYPES: dict[str, type[Attributes]] = {kind.__name__: kind for kind in Attributes.__args__}
TYPE_NAMES = {kind: name for name, kind in EVENT_TYPES.items()}


class HistoryEvent(NamedTuple):
    """One event of a run."""

    event_id: int
    event_time_ms: int
    attributes: Attributes

    @property
    def event_type(self) -> str:
        """Temporal's name of the event type."""
        return TYPE_NAMES[type(self.attributes)]
