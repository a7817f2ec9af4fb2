"""Steps of jobs: how long a step is tried, and texts for the queries of jobs.

The time of all attempts is limited, not their number. A step that has not succeeded by then has
failed; the execution reports it, proceeds without it and tries it again later.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from workflows.api import workflow
from workflows.api.workflow import ActivityOptions, CancellationType, RetryPolicy


def patient(
    attempt_s: float,
    attempts_s: float,
    *,
    first_pause_s: float = 1.0,
    pause_s_max: float = 30.0,
    cancellation: CancellationType = CancellationType.TRY_CANCEL,
) -> ActivityOptions:
    """At most ``attempt_s`` for one attempt and ``attempts_s`` for all, with the pauses between."""
    return ActivityOptions(
        start_to_close_s=attempt_s,
        schedule_to_close_s=attempts_s,
        retry=RetryPolicy(initial_interval_s=first_pause_s, maximum_interval_s=pause_s_max),
        cancellation=cancellation,
    )


FAULT_CHARS_MAX: Final = 500


def now_s() -> float:
    """The time of the present workflow task, Unix seconds."""
    return workflow.now().timestamp()


def utc(at_s: float) -> str:
    """A time as ISO 8601 text, to the second; "" for never (0)."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds") if at_s else ""


def words(error: BaseException) -> str:
    """The message of a failure with those of its causes."""
    messages, cause = [str(error)], error.__cause__
    while cause is not None:
        messages.append(str(cause))
        cause = cause.__cause__
    return ": ".join(messages)[:FAULT_CHARS_MAX]
