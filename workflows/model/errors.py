"""The errors of workflows: what workflow code catches, and what stops a workflow task.

    WorkflowError
    ├── FailureError                fails the execution when workflow code lets it through
    │   ├── ApplicationError        raised by workflow and activity code; says how it is retried
    │   ├── ActivityError           an activity failed for good; the cause says why
    │   ├── ChildWorkflowError      a child failed, timed out or was terminated
    │   ├── TimeoutError            one of the four timeouts, or a bounded wait
    │   └── TerminatedError         it was terminated
    ├── WorkflowTaskError           fails the workflow *task*: the execution waits for better code
    │   ├── NonDeterminismError     history and code disagree
    │   │   └── PatchMissingError   newer code wrote the history
    │   ├── DeadlockError           workflow code did not give way for 2 s
    │   ├── ForbiddenCallError      workflow code reached for clock, randomness or I/O
    │   ├── UnhandledError          workflow code let an exception outside FailureError through
    │   └── HistoryError            events that are missing, doubled or unknown
    ├── QueryError                  a query that is unknown, failed or would have changed something
    ├── PayloadError                a value that cannot be stored or read
    └── LimitExceeded               a bound of workflows.model.limits, by name
    CancelledError                  a BaseException: ``except Exception`` does not swallow it

They are a tree apart from core/errors.py, because they are part of the language in which workflows
are written: they travel through histories as data (``workflows.model.failures``).
"""

from __future__ import annotations


class WorkflowError(Exception):
    """Base of the tree."""


class FailureError(WorkflowError):
    """Base of what fails an execution, an activity or an update rather than a workflow task."""


class ApplicationError(FailureError):
    """A failure of an application, with a type.

    ``type`` is what retry policies match (by default the name of the class), ``non_retryable``
    ends the retries whatever the policy says, ``next_retry_delay_s`` (0: as the policy says)
    replaces the next pause.
    """

    def __init__(
        self,
        message: str,
        *details: object,
        type: str = "",  # noqa: A002 - the word of the model
        non_retryable: bool = False,
        next_retry_delay_s: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.details = details
        self.type = type or self.__class__.__name__
        self.non_retryable = non_retryable
        self.next_retry_delay_s = next_retry_delay_s


class _OfOther(FailureError):
    def __init__(
        self,
        message: str,
        *,
        type: str,  # noqa: A002 - the word of the model
        subject: str = "",
        retry_state: str = "",
    ) -> None:
        super().__init__(message)
        self.type = type
        self.subject = subject
        self.retry_state = retry_state


class ActivityError(_OfOther):
    """Activity ``subject`` of ``type`` failed for good; ``__cause__`` has the reason."""


class ChildWorkflowError(_OfOther):
    """Child ``subject`` of ``type`` did not complete; ``__cause__`` has the reason."""


class TimeoutError(FailureError):  # noqa: A001 - Temporal's name; always used as errors.TimeoutError
    """A bounded wait ended; ``type`` is a ``policies.TimeoutType``, or "Wait"."""

    def __init__(
        self,
        message: str,
        *,
        type: str = "Wait",  # noqa: A002 - the word of the model
    ) -> None:
        super().__init__(message)
        self.type = type


class TerminatedError(FailureError):
    """Ended by a person or by its parent."""


class CancelledError(BaseException):
    """The task, or what it awaits, was cancelled."""


class WorkflowTaskError(WorkflowError):
    """The task failed. Discard the interpreter; the history is unchanged."""


class NonDeterminismError(WorkflowTaskError):
    """At ``event_id`` the history has ``expected``, the code requested ``requested``."""

    def __init__(self, event_id: int, *, expected: str, requested: str) -> None:
        super().__init__(
            f"event {event_id}: the history expects {expected}, the code requested {requested} "
            "(guard the change with workflow.patched, or go back to the code that wrote this)"
        )
        self.event_id = event_id
        self.expected = expected
        self.requested = requested


class PatchMissingError(NonDeterminismError):
    """The history has the marker of a patch that the code does not have: newer code wrote it."""


class DeadlockError(WorkflowTaskError):
    """Workflow code ran for ``limits.DEADLOCK_S`` without awaiting anything."""


class ForbiddenCallError(WorkflowTaskError):
    """Workflow code called something that differs from replay to replay."""


class UnhandledError(WorkflowTaskError):
    """A bug in workflow code; ``__cause__`` is the exception."""


class HistoryError(WorkflowTaskError):
    """The events given are not the next ones of this run."""


class QueryError(WorkflowError):
    """The query has no answer; nothing was changed."""


class PayloadError(WorkflowError):
    """The message names the value."""


class LimitExceeded(WorkflowError):
    """The message names the limit and what would help."""
