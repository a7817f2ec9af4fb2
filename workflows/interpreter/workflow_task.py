"""One workflow task as a row of turns: an event, then everything that it makes ready to run.

Each event has a turn of its own, so code sees them one by one, however they were batched. What code
lets through here, other than by its workflow function, fails the task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from workflows.interpreter import execution_context
from workflows.interpreter.inputs import apply, in_order
from workflows.interpreter.run import Run
from workflows.model import events as ev
from workflows.model.commands import UpdateRejection, UpdateRequest
from workflows.model.errors import (
    ApplicationError,
    UnhandledError,
    WorkflowTaskError,
)
from workflows.model.failures import failure_of
from workflows.model.payloads import Payload


def react(
    run: Run, started: ev.HistoryEvent, batch: Sequence[ev.HistoryEvent], *, replaying: bool
) -> None:
    """Do the task ``started`` with the events that came before it."""
    run.begin(started, replaying=replaying)
    if any(isinstance(event.attributes, ev.WorkflowExecutionStarted) for event in batch):
        _turn(run, run.create)
    for event in in_order(batch):
        if run.closed:
            return  # what came with the event that ended it is of no account
        _turn(run, lambda event=event: apply(run, event))  # type: ignore[misc]


def take_updates(run: Run, requests: Iterable[UpdateRequest]) -> tuple[UpdateRejection, ...]:
    """Validate updates and run the handlers of those that are let in."""
    rejections: list[UpdateRejection] = []
    for request in requests:
        _turn(run, lambda request=request: _consider(run, request, rejections))  # type: ignore[misc]
    return tuple(rejections)


def repeat_updates(run: Run, accepted: Iterable[ev.WorkflowExecutionUpdateAccepted]) -> None:
    """Run the handlers of updates that the history says were let in."""
    for update in accepted:
        _turn(run, lambda update=update: run.messages.update(update))  # type: ignore[misc]


def ask(run: Run, name: str, args: Sequence[Payload]) -> Payload:
    """The answer of a query."""
    with execution_context.watched(f"query {name}"):
        answer = run.messages.query(name, args)
    execution_context.check()
    return answer


def _consider(run: Run, request: UpdateRequest, rejections: list[UpdateRejection]) -> None:
    if run.closed:
        error = ApplicationError("the run has ended", type="WorkflowClosed", non_retryable=True)
        rejections.append(UpdateRejection(request.update_id, failure_of(error)))
        return
    rejection = run.messages.validate(request)
    if rejection is not None:
        rejections.append(rejection)
        return
    run.messages.update(ev.WorkflowExecutionUpdateAccepted(*request))


def _turn(run: Run, apply_input: Callable[[], object]) -> None:
    if run.closed:
        apply_input()
        return
    try:
        with execution_context.watched(run.definition.name):
            apply_input()
            run.loop.run_until_idle()
    except WorkflowTaskError:
        raise
    except Exception as error:
        raise UnhandledError(f"{run.definition.name}: {error!r}") from error
    execution_context.check()
