"""The times of a schedule, and which times are buffered, skipped or missed."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from itertools import islice

import pytest

from core.errors import BadInput
from workflows.schedules.schedule import (
    BUFFERED_STARTS_MAX,
    RUNNING_ACTIONS_MAX,
    OverlapPolicy,
    Schedule,
    ScheduleAction,
    ScheduleInterval,
    SchedulePolicy,
    ScheduleProgress,
    ScheduleSpec,
)
from workflows.schedules.times import TIMES_MAX, check_schedule, start_ms, take_due, upcoming

MINUTE_MS = 60_000
HOURLY = ScheduleSpec((ScheduleInterval(3_600),))
EVERY_MINUTE = ScheduleSpec((ScheduleInterval(60),))


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def _schedule(
    overlap: OverlapPolicy = OverlapPolicy.SKIP,
    window_s: float = 3_600.0,
    spec: ScheduleSpec = EVERY_MINUTE,
) -> Schedule:
    return Schedule(ScheduleAction("order"), spec, SchedulePolicy(overlap, window_s))


@pytest.mark.parametrize(
    ("spec", "times"),
    [
        (
            ScheduleSpec((ScheduleInterval(3_600, offset_s=600),)),
            ["2026-12-01T10:10", "2026-12-01T11:10"],
        ),
        (ScheduleSpec(cron=("30 3 * * *",)), ["2026-12-02T03:30", "2026-12-03T03:30"]),
        (ScheduleSpec(cron=("@monthly",)), ["2027-01-01T00:00", "2027-02-01T00:00"]),
        (ScheduleSpec(cron=("0 0 29 2 *",)), ["2028-02-29T00:00", "2032-02-29T00:00"]),
        (
            ScheduleSpec((ScheduleInterval(86_400),), ("0 9 * * MON-FRI",)),
            ["2026-12-02T00:00", "2026-12-02T09:00"],
        ),
    ],
)
def test_a_schedule_has_the_times_of_all_its_intervals_and_cron_expressions(
    spec: ScheduleSpec, times: list[str]
) -> None:
    check_schedule(_schedule(spec=spec))

    assert list(islice(upcoming(spec, _ms("2026-12-01T09:30")), 2)) == [_ms(t) for t in times]


@pytest.mark.parametrize(
    "spec",
    [
        ScheduleSpec(),
        ScheduleSpec((ScheduleInterval(0.5),)),
        ScheduleSpec((ScheduleInterval(60, offset_s=60),)),
        ScheduleSpec(cron=("61 * * * *",)),
        ScheduleSpec(cron=("0 0 31 2 *",)),
        ScheduleSpec(cron=("tomorrow",)),
        ScheduleSpec((ScheduleInterval(math.inf),)),
        HOURLY._replace(jitter_s=-1.0),
        HOURLY._replace(jitter_s=math.nan),
        ScheduleSpec(cron=("* * * * * *",)),
    ],
)
def test_a_schedule_with_impossible_times_is_rejected(spec: ScheduleSpec) -> None:
    with pytest.raises(BadInput, match="is not valid"):
        check_schedule(_schedule(spec=spec))


def test_a_catch_up_window_longer_than_the_limit_is_rejected() -> None:
    with pytest.raises(BadInput, match="CATCHUP_WINDOW_S_MAX"):
        check_schedule(_schedule(window_s=8 * 86_400))


def test_jitter_delays_starts_by_repeatable_times_below_the_limit() -> None:
    spec = HOURLY._replace(jitter_s=600)
    times = list(islice(upcoming(spec, 0), 50))
    delays = [start_ms("prune", spec, at_ms) - at_ms for at_ms in times]

    assert delays == [start_ms("prune", spec, at_ms) - at_ms for at_ms in times]
    assert 0 <= min(delays) < max(delays) < 600_000
    assert len(set(delays)) > 40
    assert delays != [start_ms("other", spec, at_ms) - at_ms for at_ms in times]


def test_starts_are_in_order_if_the_jitter_is_longer_than_the_interval() -> None:
    spec = EVERY_MINUTE._replace(jitter_s=86_400)

    starts = [start_ms("prune", spec, at_ms) for at_ms in islice(upcoming(spec, 0), 50)]

    assert starts == sorted(starts)


@pytest.mark.parametrize(
    ("overlap", "running", "buffered", "skipped"),
    [
        (OverlapPolicy.SKIP, 0, (1,), 4),
        (OverlapPolicy.SKIP, 1, (), 5),
        (OverlapPolicy.BUFFER_ONE, 0, (1, 2), 3),
        (OverlapPolicy.BUFFER_ONE, 1, (1,), 4),
        (OverlapPolicy.BUFFER_ALL, 1, (1, 2, 3, 4, 5), 0),
        (OverlapPolicy.CANCEL_OTHER, 1, (5,), 4),
        (OverlapPolicy.ALLOW_ALL, 1, (1, 2, 3, 4, 5), 0),
        (OverlapPolicy.ALLOW_ALL, RUNNING_ACTIONS_MAX - 2, (1, 2), 3),
    ],
)
def test_the_overlap_policy_decides_which_starts_are_buffered_or_skipped(
    overlap: OverlapPolicy, running: int, buffered: tuple[int, ...], skipped: int
) -> None:
    progress = take_due(
        "prune", _schedule(overlap), ScheduleProgress(), 5 * MINUTE_MS, running=running
    )

    assert progress.buffered == tuple(number * MINUTE_MS for number in buffered)
    assert (progress.skipped_overlap, progress.handled_ms) == (skipped, 5 * MINUTE_MS)


def test_starts_beyond_the_limit_of_buffered_starts_are_skipped() -> None:
    schedule, progress = _schedule(OverlapPolicy.BUFFER_ALL, 7 * 86_400), ScheduleProgress()
    for _ in range(2):
        progress = take_due("prune", schedule, progress, 2_000 * MINUTE_MS, running=1)

    assert len(progress.buffered) == BUFFERED_STARTS_MAX
    assert progress.skipped_overlap == 2_000 - BUFFERED_STARTS_MAX


def test_times_older_than_the_catchup_window_are_missed() -> None:
    schedule = _schedule(OverlapPolicy.BUFFER_ALL, window_s=120)

    progress = take_due("prune", schedule, ScheduleProgress(), 10 * MINUTE_MS, running=0)

    assert progress.buffered == (8 * MINUTE_MS, 9 * MINUTE_MS, 10 * MINUTE_MS)
    assert progress.missed_catchup_window == 7


DAILY_AT_3 = ScheduleSpec(cron=("0 3 * * *",), jitter_s=7_200)


def _first_start() -> tuple[int, int]:
    """The first time of ``DAILY_AT_3``, and its start, which is more than a minute later."""
    at_ms = next(upcoming(DAILY_AT_3, 0))
    due_ms = start_ms("prune", DAILY_AT_3, at_ms)
    assert due_ms - at_ms > 2 * MINUTE_MS
    return at_ms, due_ms


@pytest.mark.parametrize(("late_ms", "is_missed"), [(0, False), (60_000, False), (60_001, True)])
def test_a_start_is_missed_only_if_late_by_its_jittered_time(late_ms: int, is_missed: bool) -> None:
    at_ms, due_ms = _first_start()
    schedule = _schedule(window_s=60, spec=DAILY_AT_3)

    after = take_due("prune", schedule, ScheduleProgress(), due_ms + late_ms, running=0)

    assert after.missed_catchup_window == is_missed
    assert after.buffered == (() if is_missed else (at_ms,))


def test_a_start_slightly_late_is_not_missed_with_an_empty_window() -> None:
    after = take_due("prune", _schedule(window_s=0), ScheduleProgress(), MINUTE_MS + 1, running=0)

    assert after.buffered == (MINUTE_MS,)


def test_a_missed_start_does_not_skip_the_next_jittered_start() -> None:
    spec, hour_ms = HOURLY._replace(jitter_s=3_600), 60 * MINUTE_MS
    schedule = _schedule(window_s=60, spec=spec)
    at_ms = next(
        at_ms
        for at_ms in upcoming(spec, hour_ms)
        if start_ms("prune", spec, at_ms) - at_ms > 10 * MINUTE_MS
    )
    due_ms = start_ms("prune", spec, at_ms)
    before = ScheduleProgress(handled_ms=at_ms - hour_ms - 1)

    missed = take_due("prune", schedule, before, due_ms - 1, running=0)
    after = take_due("prune", schedule, missed, due_ms, running=0)

    assert (missed.missed_catchup_window, missed.buffered) == (1, ())
    assert after.buffered == (at_ms,)


def test_a_run_without_the_patch_compares_the_window_with_the_time_without_jitter() -> None:
    _, due_ms = _first_start()
    schedule = _schedule(window_s=60, spec=DAILY_AT_3)

    after = take_due(
        "prune", schedule, ScheduleProgress(), due_ms, running=0, jitter_counts_as_late=True
    )

    assert after.missed_catchup_window == 1


def test_the_times_of_an_outage_of_three_years_are_handled_in_two_passes() -> None:
    schedule, now_ms = _schedule(window_s=90), 3 * 366 * 86_400_000
    first = take_due("prune", schedule, ScheduleProgress(), now_ms, running=0)
    second = take_due("prune", schedule, first, now_ms, running=0)

    assert (first.missed_catchup_window, first.buffered) == (TIMES_MAX, ())
    assert len(second.buffered) == 1
    assert take_due("prune", schedule, second, now_ms, running=0) is second
