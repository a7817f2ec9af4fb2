"""A forecast gives an interval for the time at which a pool is full, or says "no trend"."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.forecast import (
    FULL,
    HOURS_MAX,
    HOURS_PER_DAY,
    HOURS_PER_WEEK,
    LATEST_S_MAX,
    Forecast,
    NoTrend,
    forecast,
    horizon_of,
    student_quantile,
    without_peaks,
)

HISTORIES: Final = 500
DAY_S: Final = 86_400.0


class Habits:
    """The growth of an object: a daily drift with independent noise, and a daily cycle."""

    def __init__(self, random_: random.Random) -> None:
        self._random = random_
        self.drift = random_.uniform(2, 40)
        self._sigma = self.drift * random_.uniform(0.2, 2)
        self._tide = self.drift * random_.uniform(0, 10)

    def hours(self, weeks: int) -> list[int]:
        """Net growth by the hour, in whole addresses."""
        found, carry = [], 0.0
        for _ in range(weeks * 7):
            whole, before = self._day(), 0.0
            for hour in range(1, HOURS_PER_DAY + 1):
                tide = self._tide * math.sin(math.pi * hour / HOURS_PER_DAY) ** 2
                level = whole * hour / HOURS_PER_DAY + tide
                carry += level - before
                before = level
                found.append(round(carry))
                carry -= found[-1]
        return found

    def exhausted_s(self, left: int) -> float:
        """The time at which the simulated future has used the free addresses."""
        level, days = 0.0, 0
        while True:
            step = self._day()
            if level + step >= left:
                return (days + (left - level) / step) * DAY_S
            level, days = level + step, days + 1

    def _day(self) -> float:
        return self._random.gauss(self.drift, self._sigma)


def steady(habits: Habits, random_: random.Random) -> list[int]:
    return habits.hours(random_.choice((1, 2, 4)))


def with_a_peak(habits: Habits, random_: random.Random) -> list[int]:
    """A batch of Jobs that starts and ends within a day."""
    hours = steady(habits, random_)
    begin = random_.randrange(len(hours) - HOURS_PER_DAY)
    peak = round(habits.drift * random_.uniform(10, 40))
    hours[begin] += peak
    hours[begin + random_.randrange(4, 20)] -= peak
    return hours


@pytest.mark.parametrize("history", [steady, with_a_peak])
def test_the_true_moment_is_in_the_interval_in_75_to_85_of_100_histories(
    history: Callable[[Habits, random.Random], list[int]],
) -> None:
    random_ = random.Random(14)
    inside = found = 0
    for _ in range(HISTORIES):
        habits = Habits(random_)
        left = round(habits.drift * random_.uniform(7, 60))
        predicted = forecast(history(habits, random_), left)
        true_s = habits.exhausted_s(left)
        if isinstance(predicted, Forecast):
            found += 1
            inside += predicted.earliest_s <= true_s <= predicted.latest_s

    assert found > HISTORIES / 2
    assert 0.75 <= inside / found <= 0.85


def test_the_forecast_of_steady_growth_is_exact_to_an_hour() -> None:
    predicted = forecast([1] * HOURS_MAX, 480)

    assert isinstance(predicted, Forecast)
    assert predicted.expected_s == pytest.approx(20 * DAY_S)
    assert predicted.earliest_s == pytest.approx(predicted.latest_s)
    assert (predicted.per_day, predicted.days) == (24, 28)


def test_without_free_addresses_the_forecast_is_now() -> None:
    assert forecast([], 0) == FULL
    assert forecast([1] * HOURS_MAX, -3) == FULL


@pytest.mark.parametrize(
    ("hours", "reason"),
    [
        ([5] * 23, "shorter than a day"),
        ([0] * HOURS_MAX, "no growth in the last 28 days"),
        ([-1] * HOURS_PER_WEEK, "no growth in the last 7 days"),
        ([0] * 300 + [400] + [0] * 371, "may be chance"),
    ],
    ids=["young", "idle", "shrinking", "one deployment"],
)
def test_without_a_trend_nothing_is_predicted(hours: list[int], reason: str) -> None:
    found = forecast(hours, 100)

    assert isinstance(found, NoTrend)
    assert reason in found.reason


def test_an_interval_without_an_end_is_no_trend() -> None:
    for surplus in range(1, 60):
        found = forecast([-1, 1] * (HOURS_MAX // 2 - 30) + [surplus, 0] * 30, 100_000)
        if isinstance(found, Forecast):
            assert found.latest_s <= LATEST_S_MAX


def test_growth_that_would_take_decades_has_no_forecast() -> None:
    found = forecast([1] * HOURS_MAX, 2**63 - 1)

    assert isinstance(found, NoTrend)
    assert "five years" in found.reason


def test_a_leak_that_began_today_counts_more_than_four_quiet_weeks() -> None:
    quiet = [1, -1] * (HOURS_MAX // 2)

    found = forecast([*quiet[:-12], *[50] * 12], 1000)

    assert isinstance(found, Forecast)
    assert found.days == 1
    assert found.earliest_s < 2 * DAY_S


def test_after_a_week_of_new_growth_the_weeks_before_it_have_no_weight() -> None:
    before, since = [2] * (3 * HOURS_PER_WEEK), [10] * HOURS_PER_WEEK

    found = forecast([*before, *since], 2400)

    assert isinstance(found, Forecast)
    assert (found.days, found.per_day) == (7, 240)


def test_a_daily_cycle_is_not_a_trend() -> None:
    day = [10] * 8 + [0] * 8 + [-10] * 8

    found = forecast((day * 28)[: HOURS_MAX - 12], 100)

    assert isinstance(found, NoTrend)


def test_a_peak_is_smoothed_and_a_lasting_step_is_kept() -> None:
    assert without_peaks([0, 2, 3, 90, 6, 8, 9]) == [0, 2, 3, 6, 6, 8, 9]
    assert without_peaks([0, 2, 3, 5, 6, 8, 90]) == [0, 2, 3, 5, 6, 8, 12]
    assert without_peaks([0, 0, 50, 50, 50, 50]) == [0, 0, 50, 50, 50, 50]


@given(st.lists(st.integers(-50, 60), min_size=24, max_size=HOURS_MAX + 50), st.integers(1, 10_000))
def test_the_expected_moment_lies_in_its_interval(hours: list[int], left: int) -> None:
    found = forecast(hours, left)

    if isinstance(found, Forecast):
        assert 0 <= found.earliest_s <= found.expected_s * (1 + 1e-9)
        assert found.expected_s <= found.latest_s * (1 + 1e-9)


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(6, 1.4398), (13, 1.3502), (27, 1.3137), (1000, 1.2824)]
)
def test_quantiles_are_those_of_the_tables(freedom: int, quantile: float) -> None:
    assert student_quantile(0.9, freedom) == pytest.approx(quantile, abs=2e-4)


def test_a_horizon_is_the_first_coarse_step_that_the_expected_time_lies_in() -> None:
    def step(expected_s: float) -> str:
        horizon = horizon_of(Forecast(0.0, expected_s, math.inf, 1.0, 7))
        assert horizon is not None
        return horizon.short

    days = [0.0, 0.5, 1.0, 2.9, 3.0, 8.0, 31.0, 400.0]
    assert [step(day * 86_400.0) for day in days] == [
        *("full", "<1d", "<3d", "<3d", "<7d", "<30d", "<90d", ">90d"),
    ]
    assert horizon_of(NoTrend("no growth")) is None
