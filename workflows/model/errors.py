"""The errors of workflows: what workflow code catches, and what stops a workflow task.

    WorkflowError
    ├── FailureError                fails the execution when workflow code raises it
    │   ├── ApplicationError        raised by workflow and activity code, with retry options
    │   ├── ActivityError           an activity failed and is not retried
    │   ├── ChildWorkflowError      a child failed, timed out or was terminated
    │   ├── TimeoutError            an activity timeout, or a wait with a timeout
    │   └── TerminatedError         the execution was terminated
    ├── WorkflowTaskError           fails the workflow task: the execution waits for corrected code
    │   ├── NonDeterminismError     the code differs from the history
    │   │   └── PatchMissingError   newer code wrote the history
    │   ├── DeadlockError           workflow code ran for 2 s without awaiting
    │   ├── ForbiddenCallError      workflow code used a clock, randomness or I/O
    │   ├── UnhandledError          workflow code raised an exception that is not a FailureError
    │   └── HistoryError            missing, repeated or unknown events
    ├── QueryError                  a query that is unknown, fails, or tries a change
    ├── PayloadError                a value that cannot be stored or read
    └── LimitExceeded               a limit of workflows.model.limits was reached
    CancelledError                  a BaseException: ``except Exception`` does not catch it

Histories record these errors as data (``workflows.model.failures``).
"""

from __future__ import annotations


class WorkflowError(Exception):
    """Base of the tree."""


class FailureError(WorkflowError):
    """Base of errors that fail an execution, activity or update."""


class ApplicationError(FailureError):
    """A failure of an application, with a type.

    Retry policies match ``type``, by default the name of the class. ``non_retryable`` ends the
    retries. ``next_retry_delay_s``, unless 0, replaces the next pause of the policy.
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


class _SubjectError(FailureError):
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


class ActivityError(_SubjectError):
    """Activity ``subject`` of ``type`` failed for good; ``__cause__`` has the reason."""


class ChildWorkflowError(_SubjectError):
    """Child ``subject`` of ``type`` did not complete; ``__cause__`` has the reason."""


class TimeoutError(FailureError):  # noqa: A001 - Temporal's name; always used as errors.TimeoutError
    """A timeout was reached; ``type`` is a ``policies.TimeoutType``, or "Wait"."""

    def __init__(
        self,
        message: str,
        *,
        type: str = "Wait",  # noqa: A002 - the word of the model
    ) -> None:
        super().__init__(message)
        self.type = type


class TerminatedError(FailureError):
    """The execution was terminated, by a user or because its parent closed."""


class CancelledError(BaseException):
    """The task, or what the task awaits, was cancelled."""


class WorkflowTaskError(WorkflowError):
    """A workflow task failed. The worker drops the interpreter of the run."""


class NonDeterminismError(WorkflowTaskError):
    """At event ``event_id``, the code and the history differ."""

    def __init__(self, event_id: int, *, expected: str, requested: str) -> None:
        super().__init__(
            f"event {event_id}: the history expects {expected}, the code requested {requested} "
            "(guard the change with workflow.patched, or run the code that wrote the history)"
        )
        self.event_id = event_id
        self.expected = expected
        self.requested = requested


class PatchMissingError(NonDeterminismError):
    """Newer code wrote the history: it has the marker of a patch that this code lacks."""


class DeadlockError(WorkflowTaskError):
    """Workflow code ran for ``limits.DEADLOCK_S`` without awaiting anything."""


class ForbiddenCallError(WorkflowTaskError):
    """Workflow code called a function whose result may differ in replay."""


class UnhandledError(WorkflowTaskError):
    """A bug in workflow code; ``__cause__`` is the exception."""


class HistoryError(WorkflowTaskError):
    """Events of the history are missing, repeated or unknown."""


class QueryError(WorkflowError):
    """The query has no result, and changed nothing."""


class PayloadError(WorkflowError):
    """A value cannot be stored or read."""


class LimitExceeded(WorkflowError):
    """A limit was reached. The message names the limit and the remedy."""
