"""The commands of workflow code.

A command has the class of the event that records it. So replay compares their ``IDENTITY_FIELDS``.
The engine adds only ``new_run_id`` of WorkflowExecutionContinuedAsNew.
"""

from __future__ import annotations

from typing import NamedTuple

from workflows.model import events as ev
from workflows.model.failures import Failure
from workflows.model.payloads import Payload

Command = (
    ev.ActivityTaskScheduled
    | ev.ActivityTaskCancelRequested
    | ev.TimerStarted
    | ev.TimerCanceled
    | ev.StartChildWorkflowExecutionInitiated
    | ev.SignalExternalWorkflowExecutionInitiated
    | ev.RequestCancelExternalWorkflowExecutionInitiated
    | ev.UpsertWorkflowSearchAttributes
    | ev.MarkerRecorded
    | ev.WorkflowExecutionUpdateAccepted
    | ev.WorkflowExecutionUpdateCompleted
    | ev.WorkflowExecutionCompleted
    | ev.WorkflowExecutionFailed
    | ev.WorkflowExecutionCanceled
    | ev.WorkflowExecutionContinuedAsNew
)

COMMAND_NAMES: dict[type[Command], str] = {
    ev.ActivityTaskScheduled: "ScheduleActivityTask",
    ev.ActivityTaskCancelRequested: "RequestCancelActivityTask",
    ev.TimerStarted: "StartTimer",
    ev.TimerCanceled: "CancelTimer",
    ev.StartChildWorkflowExecutionInitiated: "StartChildWorkflowExecution",
    ev.SignalExternalWorkflowExecutionInitiated: "SignalExternalWorkflowExecution",
    ev.RequestCancelExternalWorkflowExecutionInitiated: "RequestCancelExternalWorkflowExecution",
    ev.UpsertWorkflowSearchAttributes: "UpsertWorkflowSearchAttributes",
    ev.MarkerRecorded: "RecordMarker",
    ev.WorkflowExecutionUpdateAccepted: "AcceptWorkflowUpdate",
    ev.WorkflowExecutionUpdateCompleted: "CompleteWorkflowUpdate",
    ev.WorkflowExecutionCompleted: "CompleteWorkflowExecution",
    ev.WorkflowExecutionFailed: "FailWorkflowExecution",
    ev.WorkflowExecutionCanceled: "CancelWorkflowExecution",
    ev.WorkflowExecutionContinuedAsNew: "ContinueAsNewWorkflowExecution",
}

IDENTITY_FIELDS: dict[type[Command], tuple[str, ...]] = {
    ev.ActivityTaskScheduled: ("activity_id", "activity_type"),
    ev.ActivityTaskCancelRequested: ("activity_id",),
    ev.TimerStarted: ("timer_id",),
    ev.TimerCanceled: ("timer_id",),
    ev.StartChildWorkflowExecutionInitiated: ("child_id", "workflow_type", "workflow_id"),
    ev.SignalExternalWorkflowExecutionInitiated: ("request_id", "workflow_id", "signal_name"),
    ev.RequestCancelExternalWorkflowExecutionInitiated: ("request_id", "workflow_id"),
    ev.UpsertWorkflowSearchAttributes: (),
    ev.MarkerRecorded: ("marker_name", "key"),
    ev.WorkflowExecutionUpdateAccepted: ("update_id", "update_name"),
    ev.WorkflowExecutionUpdateCompleted: ("update_id",),
    ev.WorkflowExecutionCompleted: (),
    ev.WorkflowExecutionFailed: (),
    ev.WorkflowExecutionCanceled: (),
    ev.WorkflowExecutionContinuedAsNew: ("workflow_type",),
}
"""The fields in which a replayed command must equal its event; others may differ."""


class UpdateRequest(NamedTuple):
    """An update that waits for its validator. Only accepted updates become events."""

    update_id: str
    update_name: str
    args: tuple[Payload, ...] = ()
    identity: str = ""
    traceparent: str = ""


class UpdateRejection(NamedTuple):
    """A rejected update, which the history does not record."""

    update_id: str
    failure: Failure


class Decision(NamedTuple):
    """The outcome of one workflow task. ``closed``: the last command ends the run."""

    commands: tuple[Command, ...]
    rejections: tuple[UpdateRejection, ...] = ()
    closed: bool = False


def is_recorded_by(command: Command, recorded: ev.Attributes) -> bool:
    """Whether ``recorded`` is the event of ``command``."""
    if type(command) is not type(recorded):
        return False
    return all(
        getattr(command, name) == getattr(recorded, name) for name in IDENTITY_FIELDS[type(command)]
    )


def describe(command: ev.Attributes) -> str:
    """The text for messages: ``ScheduleActivityTask(activity_id=3, activity_type='release')``."""
    kind = type(command)
    if kind not in IDENTITY_FIELDS:
        return kind.__name__
    fields = ", ".join(f"{name}={getattr(command, name)!r}" for name in IDENTITY_FIELDS[kind])
    return f"{COMMAND_NAMES[kind]}({fields})"
