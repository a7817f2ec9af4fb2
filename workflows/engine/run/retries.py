"""Decides whether and when a failed attempt of an activity is retried. Pure."""

from __future__ import annotations

from typing import NamedTuple

from tenacity import RetryCallState, Retrying, stop_after_attempt, stop_never, wait_exponential
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from workflows.model.failures import Failure, FailureKind
from workflows.model.policies import RetryPolicy, RetryState, Timeouts, TimeoutType


class RetryAfter(NamedTuple):
    """Make another attempt after a pause."""

    pause_s: float


class StopRetrying(NamedTuple):
    """Make no further attempt. ``state``: the reason."""

    state: RetryState


Verdict = RetryAfter | StopRetrying

_RETRYING = Retrying()
"""tenacity requires this object, which runs nothing."""

TIMEOUTS_WITHOUT_RETRY = (TimeoutType.SCHEDULE_TO_CLOSE, TimeoutType.SCHEDULE_TO_START)
"""Timeouts after which there is no further attempt."""


def wait_of(policy: RetryPolicy) -> wait_base:
    """The pauses, as tenacity's wait strategy."""
    return wait_exponential(
        multiplier=policy.initial_interval_s,
        exp_base=policy.backoff_coefficient,
        max=policy.interval_ceiling_s,
    )


def stop_of(policy: RetryPolicy) -> stop_base:
    """The limit of attempts, as tenacity's stop strategy."""
    attempts = policy.maximum_attempts
    return stop_after_attempt(attempts) if attempts else stop_never


def after_failure(
    policy: RetryPolicy,
    timeouts: Timeouts,
    failure: Failure,
    *,
    attempt: int,
    age_s: float,
) -> Verdict:
    """Decide after ``attempt`` failed. ``age_s``: seconds since the activity was scheduled."""
    if failure.kind is FailureKind.CANCELED:
        return StopRetrying(RetryState.CANCEL_REQUESTED)
    if failure.kind is FailureKind.TIMEOUT and failure.type in TIMEOUTS_WITHOUT_RETRY:
        return StopRetrying(RetryState.TIMEOUT)
    if failure.non_retryable or failure.type in policy.non_retryable:
        return StopRetrying(RetryState.NON_RETRYABLE_FAILURE)
    state = RetryCallState(_RETRYING, None, (), {})
    state.attempt_number = attempt
    if stop_of(policy)(state):
        return StopRetrying(RetryState.MAXIMUM_ATTEMPTS_REACHED)
    pause_s = failure.next_retry_delay_s or wait_of(policy)(state)
    bound_s = timeouts.schedule_to_close_s
    if bound_s and age_s + pause_s >= bound_s:
        return StopRetrying(RetryState.TIMEOUT)
    return RetryAfter(pause_s)
