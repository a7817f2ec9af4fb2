"""The limits of steps of jobs: how long a step is tried before its execution proceeds without it.

The time of all attempts is limited, not their number. A step that has not succeeded by then has
failed; the execution reports it and tries it again later.
"""

from __future__ import annotations

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
