"""Retry policies (tenacity), each with a time limit."""

from __future__ import annotations

from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_delay,
    wait_exponential_jitter,
    wait_random_exponential,
)

from core.errors import (
    LostRace,
    OutcomeUnknown,
    StoreFull,
    StoreUnavailable,
)
from core.process.retry import is_retryable

SETTLE_S_MAX = 8.0
"""Time limit of ``retry_unknown_outcome``."""

LOST_RACE_S_MAX = 8.0

UNAVAILABLE_S_MAX = 5.0


def _may_succeed_later(error: BaseException) -> bool:
    return is_retryable(error) and not _is_full(error)


def _is_full(error: BaseException) -> bool:
    """Whether etcd is full. Retries do not help: an administrator must free space."""
    return isinstance(error, StoreFull) or (isinstance(error, OutcomeUnknown) and error.is_full)


def retry_unknown_outcome() -> AsyncRetrying:
    """Retries the request that reads the outcome of an earlier transaction.

    The request is idempotent, so it is retried even after OutcomeUnknown.
    """
    return AsyncRetrying(
        retry=retry_if_exception(
            lambda error: (
                isinstance(error, OutcomeUnknown | StoreUnavailable) and not _is_full(error)
            )
        ),
        wait=wait_exponential_jitter(multiplier=0.02, max=1.0, jitter=0.05),
        stop=stop_after_delay(SETTLE_S_MAX),
        reraise=True,
    )


def retry_lost_races(seconds: float = LOST_RACE_S_MAX) -> AsyncRetrying:
    """Retries a command after lost races, and while etcd is not available.

    The pauses are random, so that two processes that lost a race do not collide again.
    """
    return AsyncRetrying(
        retry=retry_if_exception(lambda error: isinstance(error, LostRace | StoreUnavailable)),
        wait=wait_random_exponential(multiplier=0.002, max=0.25),
        stop=stop_after_delay(seconds),
        reraise=True,
    )


def retry_unavailable(seconds: float = UNAVAILABLE_S_MAX) -> AsyncRetrying:
    """Retries reads and idempotent steps while etcd is not available."""
    return AsyncRetrying(
        retry=retry_if_exception(_may_succeed_later),
        wait=wait_exponential_jitter(multiplier=0.05, max=1.0, jitter=0.1),
        stop=stop_after_delay(seconds),
        reraise=True,
    )
