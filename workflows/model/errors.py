"""The errors of workflows: what workflow code catches, and what stops a workflow task.

    WorkflowError
    ├── FailureError                fails the execution when workflow code raises it
    │   ├── ApplicationError
    │   ├── ActivityError
    │   ├── ChildWorkflowError
    │   ├── TimeoutError
    │   └── TerminatedError
    ├── WorkflowTaskError           fails the workflow task: the execution waits for corrected code
    │   ├── NonDeterminismError
    │   │   └── PatchMissingError
    │   ├── DeadlockError
    │   ├── ForbiddenCallError
    │   ├── UnhandledError
    │   └── HistoryError
    ├── QueryError
    ├── PayloadError
    └── LimitExceeded
    CancelledError                  a BaseException: ``except Exception`` does not catch it

Histories record these errors as data (``workflows.model.failures``).
"""

from __future__ import annotations


class WorkflowError(Exception):
    """Base of all errors here, except CancelledError."""


class FailureError(WorkflowError):
    """Base of errors that fail an execution, activity or update."""


class ApplicationError(FailureError):
    """A failure that workflow or activity code raises.

    Retry policies match ``type`` (default: the class name). ``next_retry_delay_s``, unless 0,
    replaces the next pause of the policy.
    """

    def __init__(
        self,
        message: str,
        *details: object,
        type: str = "",  # noqa: A002 - Temporal's name
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
        type: str,  # noqa: A002 - Temporal's name
        subject: str = "",
        retry_state: str = "",
    ) -> None:
        super().__init__(message)
        self.type = type
        self.subject = subject
        self.retry_state = retry_state


class ActivityError(_SubjectError):
    """Activity ``subject`` of ``type`` failed and is not retried; ``__cause__`` has the reason."""


class ChildWorkflowError(_SubjectError):
    """Child ``subject`` of ``type`` did not complete; ``__cause__`` has the reason."""


class TimeoutError(FailureError):  # noqa: A001 - Temporal's name; always used as errors.TimeoutError
    """A timeout was reached; ``type`` is a ``policies.TimeoutType``, or "Wait"."""

    def __init__(
        self,
        message: str,
        *,
        type: str = "Wait",  # noqa: A002 - Temporal's name
    ) -> None:
        super().__init__(message)
        self.type = type


class TerminatedError(FailureError):
    """A user or the end of the parent terminated the execution."""


class CancelledError(BaseException):
    """The task, or what the task awaits, was cancelled."""


class WorkflowTaskError(WorkflowError):
    """A workflow task failed. The worker drops the run's state from memory."""


class NonDeterminismError(WorkflowTaskError):
    """The code and the history differ at event ``event_id``."""

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
    """Workflow code ran for ``limits.DEADLOCK_S`` without awaiting."""


class ForbiddenCallError(WorkflowTaskError):
    """Workflow code called a function that may differ in replay: a clock, randomness, I/O."""


class UnhandledError(WorkflowTaskError):
    """Workflow code raised ``__cause__``, which is not a FailureError."""


class HistoryError(WorkflowTaskError):
    """Events of the history are missing, repeated or unknown."""


class QueryError(WorkflowError):
    """The query is unknown, failed, or tried to change the workflow. Nothing was changed."""


class PayloadError(WorkflowError):
    """A value cannot be stored or read."""


class LimitExceeded(WorkflowError):
    """A limit was reached. The message names the limit and the remedy."""
