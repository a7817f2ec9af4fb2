"""A forecast gives an interval for the time at which a growing pool is full."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.forecast import (
    FULL_NOW,
    HOURS_MAX,
    HOURS_PER_DAY,
    HOURS_PER_WEEK,
    LATEST_S_MAX,
    Forecast,
    NoTrend,
    forecast_exhaustion,
    horizon_of,
    student_quantile,
    without_peaks,
)

HISTORY_COUNT: Final = 500
DAY_S: Final = 86_400.0


class SimulatedGrowth:
    """The growth of a pool: a daily drift with noise, and a daily cycle."""

    def __init__(self, random_: random.Random) -> None:
        self._random = random_
        self.drift = random_.uniform(2, 40)
        self._sigma = self.drift * random_.uniform(0.2, 2)
        self._cycle = self.drift * random_.uniform(0, 10)

    def hours(self, weeks: int) -> list[int]:
        """Net growth of each hour, in addresses."""
        hours: list[int] = []
        remainder = 0.0
        for _ in range(weeks * 7):
            day_growth, previous_level = self._day(), 0.0
            for hour in range(1, HOURS_PER_DAY + 1):
                cycle = self._cycle * math.sin(math.pi * hour / HOURS_PER_DAY) ** 2
                level = day_growth * hour / HOURS_PER_DAY + cycle
                remainder += level - previous_level
                previous_level = level
                hours.append(round(remainder))
                remainder -= hours[-1]
        return hours

    def exhausted_s(self, free: int) -> float:
        """Seconds until a simulated future has used ``free`` addresses."""
        level, days = 0.0, 0
        while True:
            step = self._day()
            if level + step >= free:
                return (days + (free - level) / step) * DAY_S
            level, days = level + step, days + 1

    def _day(self) -> float:
        return self._random.gauss(self.drift, self._sigma)


def steady(growth: SimulatedGrowth, random_: random.Random) -> list[int]:
    return growth.hours(random_.choice((1, 2, 4)))


def with_a_peak(growth: SimulatedGrowth, random_: random.Random) -> list[int]:
    """Steady growth, and a batch of Jobs that ends within a day."""
    hours = steady(growth, random_)
    start_hour = random_.randrange(len(hours) - HOURS_PER_DAY)
    peak = round(growth.drift * random_.uniform(10, 40))
    hours[start_hour] += peak
    hours[start_hour + random_.randrange(4, 20)] -= peak
    return hours


@pytest.mark.parametrize("history", [steady, with_a_peak])
def test_the_interval_contains_the_actual_time_in_75_to_85_percent_of_histories(
    history: Callable[[SimulatedGrowth, random.Random], list[int]],
) -> None:
    """A forecast gives an 80 % interval."""
    random_ = random.Random(14)
    hits = forecasts = 0
    for _ in range(HISTORY_COUNT):
        growth = SimulatedGrowth(random_)
        free = round(growth.drift * random_.uniform(7, 60))
        prediction = forecast_exhaustion(history(growth, random_), free)
        actual_s = growth.exhausted_s(free)
        if isinstance(prediction, Forecast):
            forecasts += 1
            hits += prediction.earliest_s <= actual_s <= prediction.latest_s

    assert forecasts > HISTORY_COUNT / 2
    assert 0.75 <= hits / forecasts <= 0.85


def test_the_forecast_of_steady_growth_is_exact_to_an_hour() -> None:
    prediction = forecast_exhaustion([1] * HOURS_MAX, left=480)

    assert isinstance(prediction, Forecast)
    assert prediction.expected_s == pytest.approx(20 * DAY_S)
    assert prediction.earliest_s == pytest.approx(prediction.latest_s)
    assert (prediction.per_day, prediction.days) == (24, 28)


def test_the_forecast_of_a_pool_without_free_addresses_is_now() -> None:
    assert forecast_exhaustion([], left=0) == FULL_NOW
    assert forecast_exhaustion([1] * HOURS_MAX, left=-3) == FULL_NOW


@pytest.mark.parametrize(
    ("hours", "reason"),
    [
        ([5] * 23, "shorter than a day"),
        ([0] * HOURS_MAX, "no growth in the last 28 days"),
        ([-1] * HOURS_PER_WEEK, "no growth in the last 7 days"),
        ([0] * 300 + [400] + [0] * 371, "may be chance"),
    ],
    ids=["less than a day", "no growth", "negative growth", "growth in one hour only"],
)
def test_a_history_without_a_trend_has_no_forecast(hours: list[int], reason: str) -> None:
    prediction = forecast_exhaustion(hours, left=100)

    assert isinstance(prediction, NoTrend)
    assert reason in prediction.reason


def test_the_latest_time_of_a_forecast_is_limited() -> None:
    for surplus in range(1, 60):
        prediction = forecast_exhaustion(
            [-1, 1] * (HOURS_MAX // 2 - 30) + [surplus, 0] * 30, 100_000
        )
        if isinstance(prediction, Forecast):
            assert prediction.latest_s <= LATEST_S_MAX


def test_growth_that_would_take_decades_has_no_forecast() -> None:
    prediction = forecast_exhaustion([1] * HOURS_MAX, left=2**63 - 1)

    assert isinstance(prediction, NoTrend)
    assert "five years" in prediction.reason


def test_a_leak_that_began_today_is_forecast_from_the_last_day() -> None:
    quiet = [1, -1] * (HOURS_MAX // 2)

    prediction = forecast_exhaustion(quiet[:-12] + [50] * 12, left=1000)

    assert isinstance(prediction, Forecast)
    assert prediction.days == 1, "the forecast must use the last day only"
    assert prediction.earliest_s < 2 * DAY_S


def test_only_the_last_week_counts_after_a_week_of_faster_growth() -> None:
    slow, fast = [2] * (3 * HOURS_PER_WEEK), [10] * HOURS_PER_WEEK

    prediction = forecast_exhaustion(slow + fast, left=2400)

    assert isinstance(prediction, Forecast)
    assert (prediction.days, prediction.per_day) == (7, 240)


def test_a_daily_cycle_is_not_a_trend() -> None:
    day = [10] * 8 + [0] * 8 + [-10] * 8

    prediction = forecast_exhaustion((day * 28)[: HOURS_MAX - 12], left=100)

    assert isinstance(prediction, NoTrend)


def test_a_peak_is_smoothed_and_a_lasting_step_is_kept() -> None:
    assert without_peaks([0, 2, 3, 90, 6, 8, 9]) == [0, 2, 3, 6, 6, 8, 9]
    # The last level becomes the median of 90, 8 and the extrapolation 3 * 8 - 2 * 6 = 12.
    assert without_peaks([0, 2, 3, 5, 6, 8, 90]) == [0, 2, 3, 5, 6, 8, 12]
    assert without_peaks([0, 0, 50, 50, 50, 50]) == [0, 0, 50, 50, 50, 50]


@given(st.lists(st.integers(-50, 60), min_size=24, max_size=HOURS_MAX + 50), st.integers(1, 10_000))
def test_the_expected_time_lies_in_the_interval(hours: list[int], free: int) -> None:
    prediction = forecast_exhaustion(hours, free)

    if isinstance(prediction, Forecast):
        assert 0 <= prediction.earliest_s <= prediction.expected_s * (1 + 1e-9)
        assert prediction.expected_s <= prediction.latest_s * (1 + 1e-9)


@pytest.mark.parametrize(
    ("degrees_of_freedom", "quantile"), [(6, 1.4398), (13, 1.3502), (27, 1.3137), (1000, 1.2824)]
)
def test_quantiles_are_those_of_students_t_distribution(
    degrees_of_freedom: int, quantile: float
) -> None:
    assert student_quantile(0.9, degrees_of_freedom) == pytest.approx(quantile, abs=2e-4)


def test_a_forecast_has_the_nearest_horizon_that_contains_its_expected_time() -> None:
    def horizon_name(expected_s: float) -> str:
        horizon = horizon_of(Forecast(0.0, expected_s, math.inf, per_day=1.0, days=7))
        assert horizon is not None
        return horizon.short

    days = [0.0, 0.5, 1.0, 2.9, 3.0, 8.0, 31.0, 400.0]
    expected = ["full", "<1d", "<3d", "<3d", "<7d", "<30d", "<90d", ">90d"]
    assert [horizon_name(day * DAY_S) for day in days] == expected
    assert horizon_of(NoTrend("no growth")) is None
