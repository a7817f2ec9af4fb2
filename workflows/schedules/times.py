"""The times of a schedule, and the starts that are due. Pure: the same in every replay."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Final

from cronsim import CronSim, CronSimError

from core.errors import BadInput
from workflows.model.limits import TIMER_S_MAX
from workflows.schedules.schedule import (
    BUFFERED_STARTS_MAX,
    CATCHUP_WINDOW_S_MAX,
    CATCHUP_WINDOW_S_MIN,
    INTERVAL_S_MIN,
    RUNNING_ACTIONS_MAX,
    OverlapPolicy,
    Schedule,
    ScheduleInterval,
    ScheduleProgress,
    ScheduleSpec,
)

TIMES_MAX: Final = 1_000
"""Times that one workflow task handles."""

_CRON_NAMES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}

_CRON_FIELDS: Final = 5

_BUFFERED_MAX: Final = {
    OverlapPolicy.SKIP: 0,
    OverlapPolicy.BUFFER_ONE: 1,
    OverlapPolicy.BUFFER_ALL: BUFFERED_STARTS_MAX,
}


def check_schedule(schedule: Schedule) -> None:
    """Raise BadInput for a schedule without times, or with a value beyond a limit."""
    spec, policy = schedule.spec, schedule.policy
    for interval in spec.intervals:
        every_s, offset_s = interval
        if not (INTERVAL_S_MIN <= every_s <= TIMER_S_MAX and 0 <= offset_s < every_s):
            remedy = f"use {INTERVAL_S_MIN:g} s to 100 years, and an offset below the interval"
            raise _bad_input(
                f"an interval of {every_s:g} s with an offset of {offset_s:g} s", remedy
            )
    for expression in spec.cron:
        try:
            next(_cron(expression, 0))
        except (CronSimError, StopIteration) as error:
            remedy = "use five fields: minute, hour, day of the month, month, day of the week"
            why = str(error) or "it never matches"
            raise _bad_input(f"cron expression {expression!r} ({why})", remedy) from None
    if not 0 <= spec.jitter_s <= TIMER_S_MAX:
        raise _bad_input(f"a jitter of {spec.jitter_s:g} s", "use 0 s to 100 years")
    if not (spec.intervals or spec.cron):
        raise _bad_input("a schedule without times", "give an interval or a cron expression")
    if not 0 <= policy.catchup_window_s <= CATCHUP_WINDOW_S_MAX:
        remedy = f"use 0 s to {CATCHUP_WINDOW_S_MAX:g} s (CATCHUP_WINDOW_S_MAX)"
        raise _bad_input(f"a catch-up window of {policy.catchup_window_s:g} s", remedy)


def next_ms(spec: ScheduleSpec, after_ms: int) -> int:
    """The first time after ``after_ms``, without jitter."""
    times = [_next_of(interval, after_ms) for interval in spec.intervals]
    times += [_ms(next(_cron(expression, after_ms))) for expression in spec.cron]
    return min(times)


def start_ms(schedule_id: str, spec: ScheduleSpec, at_ms: int) -> int:
    """The scheduled time with its jitter."""
    if not spec.jitter_s:
        return at_ms
    jitter_ms_max = min(round(spec.jitter_s * 1000), next_ms(spec, at_ms) - at_ms - 1)
    digest = blake2b(f"{schedule_id}/{at_ms}".encode(), digest_size=8).digest()
    return at_ms + jitter_ms_max * int.from_bytes(digest, "big") // 2**64


def upcoming(spec: ScheduleSpec, after_ms: int) -> Iterator[int]:
    """Yield the times after ``after_ms``, without end."""
    while True:
        after_ms = next_ms(spec, after_ms)
        yield after_ms


def take_due(
    schedule_id: str,
    schedule: Schedule,
    progress: ScheduleProgress,
    now_ms: int,
    *,
    running: int,
    jitter_counts_as_late: bool = False,
) -> ScheduleProgress:
    """The progress after at most ``TIMES_MAX`` due times. ``running``: count of running actions.

    ``jitter_counts_as_late``: as in runs that began before ``scheduler.LATE_AFTER_JITTER``.
    """
    due_ms: dict[int, int] = {}  # by scheduled time
    for at_ms in upcoming(schedule.spec, progress.handled_ms):
        at_with_jitter_ms = start_ms(schedule_id, schedule.spec, at_ms)
        if at_with_jitter_ms > now_ms or len(due_ms) == TIMES_MAX:
            break
        due_ms[at_ms] = at_with_jitter_ms
    if not due_ms:
        return progress
    window_s, jitter_s = schedule.policy.catchup_window_s, schedule.spec.jitter_s
    if jitter_counts_as_late:
        due_ms, jitter_s = {at_ms: at_ms for at_ms in due_ms}, 0.0
    else:
        window_s = max(window_s, CATCHUP_WINDOW_S_MIN)
    earliest_ms = now_ms - round(window_s * 1000)
    not_missed = [at_ms for at_ms in due_ms if due_ms[at_ms] >= earliest_ms]
    handled_ms = max(due_ms)
    if not not_missed:
        # The next task begins with the first time whose start may be in the catch-up window.
        handled_ms = max(handled_ms, earliest_ms - round(jitter_s * 1000) - 1)
    after = progress._replace(
        handled_ms=handled_ms,
        missed_catchup_window=progress.missed_catchup_window + len(due_ms) - len(not_missed),
    )
    for at_ms in not_missed:
        after = buffer_start(schedule.policy.overlap, after, at_ms, running=running)
    return after


def buffer_start(
    overlap: OverlapPolicy, progress: ScheduleProgress, at_ms: int, *, running: int
) -> ScheduleProgress:
    """The progress with one more waiting start, or with one more skipped start."""
    buffered = progress.buffered
    if overlap is OverlapPolicy.CANCEL_OTHER:
        skipped = progress.skipped_overlap + len(buffered)
        return progress._replace(buffered=(at_ms,), skipped_overlap=skipped)
    if overlap is OverlapPolicy.ALLOW_ALL:
        buffered_max = RUNNING_ACTIONS_MAX - running
    else:
        buffered_max = _BUFFERED_MAX[overlap] + (not running)  # one more if no action runs
    if len(buffered) >= buffered_max:
        return progress._replace(skipped_overlap=progress.skipped_overlap + 1)
    return progress._replace(buffered=(*buffered, at_ms))


def _next_of(interval: ScheduleInterval, after_ms: int) -> int:
    every_ms, offset_ms = round(interval.every_s * 1000), round(interval.offset_s * 1000)
    return ((after_ms - offset_ms) // every_ms + 1) * every_ms + offset_ms


def _cron(expression: str, after_ms: int) -> CronSim:
    fields = _CRON_NAMES.get(expression, expression)
    if len(fields.split()) != _CRON_FIELDS:
        raise CronSimError("Wrong number of fields")
    return CronSim(fields, datetime.fromtimestamp(after_ms / 1000, UTC))


def _ms(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def _bad_input(what: str, remedy: str) -> BadInput:
    return BadInput(f"{what} is not valid", subject="schedule", remedy=remedy)
