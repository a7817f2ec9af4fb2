"""How a run ends: from the outcome of its workflow function to the last command."""

from __future__ import annotations

from typing import Any

from workflows.api.context import ContinueAsNew
from workflows.api.futures import Future
from workflows.model import events as ev
from workflows.model.commands import Command
from workflows.model.errors import CancelledError, FailureError, UnhandledError
from workflows.model.failures import failure_of
from workflows.model.payloads import to_payload


def closing_command(outcome: Future[Any], name: str, *, cancel_requested: bool) -> Command:
    """The command that ends the run; UnhandledError if the code is broken instead."""
    error = outcome.exception()
    match error:
        case None:
            what = f"the result of {name}"
            return ev.WorkflowExecutionCompleted(to_payload(outcome.result(), what=what))
        case ContinueAsNew():
            return error.command
        case CancelledError() if cancel_requested:
            return ev.WorkflowExecutionCanceled(str(error))
        case FailureError() | CancelledError():
            return ev.WorkflowExecutionFailed(failure_of(error))
    raise UnhandledError(f"{name} let an exception through: {error!r}") from error
