"""Options of activities, children and starts, and the data of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from workflows.model.events import ParentRef, SearchAttributes
from workflows.model.payloads import Payload
from workflows.model.policies import (
    CancellationType,
    IdConflictPolicy,
    IdReusePolicy,
    ParentClosePolicy,
    RetryPolicy,
)


class ActivityOptions(NamedTuple):
    """Options of an activity. Timeouts are in seconds; 0: no limit.

    ``start_to_close_s`` bounds one attempt, ``schedule_to_close_s`` all attempts; one of the two is
    required. ``schedule_to_start_s`` bounds the wait in the queue, ``heartbeat_s`` the time between
    heartbeats.
    """

    start_to_close_s: float = 0.0
    schedule_to_close_s: float = 0.0
    schedule_to_start_s: float = 0.0
    heartbeat_s: float = 0.0
    retry: RetryPolicy = RetryPolicy()
    cancellation: CancellationType = CancellationType.TRY_CANCEL


class ChildOptions(NamedTuple):
    """Options of a child. ``workflow_id`` "": the parent's id, a slash and the child's number."""

    workflow_id: str = ""
    run_timeout_s: float = 0.0
    execution_timeout_s: float = 0.0
    parent_close: ParentClosePolicy = ParentClosePolicy.TERMINATE
    id_reuse: IdReusePolicy = IdReusePolicy.ALLOW_DUPLICATE
    cancellation: CancellationType = CancellationType.WAIT_CANCELLATION_COMPLETED
    search_attributes: SearchAttributes | None = None


class WorkflowInfo(NamedTuple):
    """The data of a run at the current workflow task.

    ``continued_run_id``: the run before this one in its continue-as-new chain, "" for none.
    ``first_run_id``: the first run of the chain. ``trigger``: the id of the log event that caused
    the start.
    """

    workflow_type: str
    workflow_id: str
    run_id: str
    first_run_id: str
    continued_run_id: str
    task_queue: str
    parent: ParentRef | None
    start_time_ms: int
    run_timeout_s: float
    trigger: str
    traceparent: str
    search_attributes: SearchAttributes
    history_events: int
    history_bytes: int
    continue_as_new_suggested: bool
    memo: Mapping[str, Payload] = {}

    def is_continue_as_new_suggested(self) -> bool:
        """Whether the history is so long that the run should continue as new."""
        return self.continue_as_new_suggested


class StartOptions(NamedTuple):
    """Options of a start. Timeouts are in seconds; 0: no limit.

    ``trigger``: as in ``WorkflowInfo``. ``link_attributes``: attributes of the link from the
    span of the start to the span ``traceparent``.
    """

    reuse: IdReusePolicy = IdReusePolicy.ALLOW_DUPLICATE
    conflict: IdConflictPolicy = IdConflictPolicy.FAIL
    run_timeout_s: float = 0.0
    execution_timeout_s: float = 0.0
    search_attributes: SearchAttributes = {}  # noqa: RUF012 - never changed in place
    memo: dict[str, Payload] = {}  # noqa: RUF012 - never changed in place
    traceparent: str = ""
    trigger: str = ""
    link_attributes: Mapping[str, str] = {}


USE_EXISTING: Final = StartOptions(conflict=IdConflictPolicy.USE_EXISTING)
"""Start unless an execution with the id is open."""
