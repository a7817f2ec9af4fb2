"""Attempts of activities in the test environment: run for real, with pauses in skipped time."""

from __future__ import annotations

import inspect
from typing import NamedTuple

from workflows.api import activity
from workflows.api.definitions import Registry
from workflows.model import events as ev
from workflows.model.errors import (
    ApplicationError,
    CancelledError,
    LimitExceeded,
    PayloadError,
    WorkflowError,
)
from workflows.model.failures import Failure, failure_of
from workflows.model.payloads import Payload, to_payload
from workflows.model.policies import RetryState, TimeoutType
from workflows.testing.execution import Attempt


class Again(NamedTuple):
    """There is another attempt."""

    attempt: Attempt


class Paused(NamedTuple):
    """That was the last attempt: a human has to look."""

    failure: Failure


Outcome = ev.Attributes | Again | Paused


async def run_attempt(
    registry: Registry, attempt: Attempt, started: ev.WorkflowExecutionStarted, now_ms: int
) -> Outcome:
    """Run an activity once: the event that closes it, or what comes next."""
    activity_id = attempt.scheduled.activity_id
    details: list[tuple[object, ...]] = [attempt.details]
    try:
        result = await _call(registry, attempt, started, details)
        return ev.ActivityTaskCompleted(activity_id, result)
    except CancelledError:
        return ev.ActivityTaskCanceled(activity_id)
    except Exception as error:  # noqa: BLE001 - an activity may raise whatever it likes
        return _after(error, attempt._replace(details=details[-1]), now_ms)


async def _call(
    registry: Registry,
    attempt: Attempt,
    started: ev.WorkflowExecutionStarted,
    details: list[tuple[object, ...]],
) -> Payload:
    scheduled = attempt.scheduled
    definition = registry.activities.get(scheduled.activity_type)
    if definition is None:
        raise WorkflowError(f"no activity {scheduled.activity_type} is registered")
    info = activity.Info(
        scheduled.activity_id,
        scheduled.activity_type,
        started.workflow_type,
        started.workflow_id,
        started.run_id,
        attempt.number,
        attempt.details,
    )
    activity.enter(info, lambda *said: details.append(said))
    handler = definition.handler
    result = handler.function(*handler.arguments(scheduled.args))
    if inspect.isawaitable(result):
        result = await result
    return to_payload(result, what=f"the result of activity {handler.name}")


def _after(error: Exception, attempt: Attempt, now_ms: int) -> Outcome:
    failure, scheduled = failure_of(error), attempt.scheduled
    policy, number = scheduled.retry_policy, attempt.number
    final = isinstance(error, PayloadError | LimitExceeded) or failure.non_retryable
    if final or failure.type in policy.non_retryable:
        return ev.ActivityTaskFailed(
            scheduled.activity_id, failure, RetryState.NON_RETRYABLE_FAILURE
        )
    if policy.maximum_attempts and number >= policy.maximum_attempts:
        return Paused(failure)
    own_s = error.next_retry_delay_s if isinstance(error, ApplicationError) else 0.0
    due_ms = now_ms + round((own_s or policy.pause_s(number)) * 1000)
    bound_s = scheduled.timeouts.schedule_to_close_s
    if bound_s and due_ms > attempt.scheduled_ms + bound_s * 1000:
        return ev.ActivityTaskTimedOut(
            scheduled.activity_id,
            TimeoutType.SCHEDULE_TO_CLOSE,
            RetryState.TIMEOUT,
            failure,
        )
    return Again(attempt._replace(number=number + 1, due_ms=due_ms, last_failure=failure))
