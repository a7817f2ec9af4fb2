"""Options of the activities of jobs, and texts for the queries of jobs.

The options limit the total time of an activity's attempts, not the number of attempts.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from workflows.api import workflow
from workflows.api.workflow import ActivityOptions, CancellationType, RetryPolicy


def step_options(
    attempt_s: float,
    all_attempts_s: float,
    *,
    first_pause_s: float = 1.0,
    pause_s_max: float = 30.0,
    cancellation: CancellationType = CancellationType.TRY_CANCEL,
) -> ActivityOptions:
    """Options of an activity.

    ``attempt_s``: seconds of one attempt. ``all_attempts_s``: seconds of all attempts and pauses.
    """
    return ActivityOptions(
        start_to_close_s=attempt_s,
        schedule_to_close_s=all_attempts_s,
        retry=RetryPolicy(initial_interval_s=first_pause_s, maximum_interval_s=pause_s_max),
        cancellation=cancellation,
    )


FAULT_CHARS_MAX: Final = 500


def now_s() -> float:
    """The time of the current workflow task, in Unix seconds."""
    return workflow.now().timestamp()


def utc(at_s: float) -> str:
    """A time as ISO 8601 text, to the second. The time 0 means never, and gives ""."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds") if at_s else ""


def failure_text(error: BaseException) -> str:
    """The message of a failure, followed by the messages of its causes."""
    messages = [str(error)]
    cause = error.__cause__
    while cause is not None:
        messages.append(str(cause))
        cause = cause.__cause__
    return ": ".join(messages)[:FAULT_CHARS_MAX]
