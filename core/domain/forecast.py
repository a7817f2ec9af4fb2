"""Forecast when a pool or subnet will be full. Pure.

The forecast is Student's prediction interval for the sum of future steps of growth (Hahn and
Meeker, Statistical Intervals, chapter 4). Growth is measured by claims, because a resize also
changes the free addresses.

The history is whole weeks in steps of a day, so that the usual course of a day or a week does not
look like a trend. Only the last week is used if it differs from the weeks before. Only the last day
is used, in steps of an hour, after a surge or without a whole week of history.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from itertools import pairwise
from statistics import NormalDist, fmean, median, stdev
from typing import Final, NamedTuple

HOURS_PER_DAY: Final = 24
HOURS_PER_WEEK: Final = 7 * HOURS_PER_DAY
WEEKS_MAX: Final = 4
HOURS_MAX: Final = WEEKS_MAX * HOURS_PER_WEEK

COVERAGE: Final = 0.8

CHANGE_ERRORS: Final = 1.6
"""Earlier weeks are ignored if the last week differs by more standard errors than this."""

SURGE_SPREADS: Final = 3.0
"""Only the last day is used if it exceeds the mean by more standard deviations than this."""

PEAK_SPREADS: Final = 2.0
"""A peak differs from the running median by more standard deviations than this."""

EXPECTED_S_MAX: Final = 5 * 365 * 86_400.0
"""A pool that becomes full later gets no forecast."""

LATEST_S_MAX: Final = 10 * EXPECTED_S_MAX
"""A pool whose interval ends later gets no forecast, because the growth may be chance."""

_MAD_TO_SIGMA: Final = 1.4826
"""Standard deviation / median absolute deviation."""

_HOUR_S: Final = 3600.0


class Forecast(NamedTuple):
    """Seconds from now until no address is left.

    ``earliest_s``, ``latest_s``: the interval with the probability ``COVERAGE``.
    ``expected_s``: the time if the growth stays at the mean.
    ``per_day``: the mean growth in addresses a day.
    ``days``: the length of the history.
    """

    earliest_s: float
    expected_s: float
    latest_s: float
    per_day: float
    days: int


class NoTrend(NamedTuple):
    """The reason for no forecast."""

    reason: str


FULL_NOW: Final = Forecast(earliest_s=0.0, expected_s=0.0, latest_s=0.0, per_day=0.0, days=0)


class Horizon(NamedTuple):
    """A range of forecasts, up to ``below_s``. ``short``: name in tables."""

    name: str
    short: str
    below_s: float


_DAY_S: Final = 86_400.0
HORIZONS: Final = (
    Horizon("full", "full", sys.float_info.min),
    Horizon("within-a-day", "<1d", _DAY_S),
    Horizon("within-three-days", "<3d", 3 * _DAY_S),
    Horizon("within-a-week", "<7d", 7 * _DAY_S),
    Horizon("within-a-month", "<30d", 30 * _DAY_S),
    Horizon("within-a-quarter", "<90d", 90 * _DAY_S),
    Horizon("later", ">90d", math.inf),
)
"""From near to far."""

FULL_SOON_S: Final = 3 * _DAY_S
"""A pool that is full within this time is FullSoon; the alert has the same limit."""


class _Window(NamedTuple):
    hours: int
    step_hours: int
    mean: float
    """Per hour."""
    sigma: float
    """Standard deviation of the growth of a step."""

    @property
    def steps(self) -> int:
        return self.hours // self.step_hours

    @property
    def error(self) -> float:
        return self.sigma / math.sqrt(self.steps) / self.step_hours

    def differs_from(self, other: _Window) -> bool:
        return abs(self.mean - other.mean) > CHANGE_ERRORS * math.hypot(self.error, other.error)


def forecast_exhaustion(net_growth: Sequence[int], left: int) -> Forecast | NoTrend:
    """Forecast when the ``left`` addresses are used up.

    ``net_growth``: claims minus releases of each hour since the pool or subnet was created, oldest
    first. The last hour ends now.
    """
    if left <= 0:
        return FULL_NOW
    hourly = net_growth[-HOURS_MAX:]
    if len(hourly) < HOURS_PER_DAY:
        return NoTrend("the history is shorter than a day")
    window = _window_of(hourly)
    if window.mean <= 0:
        return NoTrend(f"no growth in {_days(window)}")
    quantile = student_quantile((1 + COVERAGE) / 2, window.steps - 1)
    if window.mean <= quantile * window.error:
        return NoTrend(f"the growth in {_days(window)} may be chance")
    expected_s = left / window.mean * _HOUR_S
    if expected_s > EXPECTED_S_MAX:
        return NoTrend("it will not be full within five years")
    earliest, latest = _crossings(window, left, quantile)
    if latest * _HOUR_S > LATEST_S_MAX:
        return NoTrend(f"the growth in {_days(window)} may be chance")
    per_day = window.mean * HOURS_PER_DAY
    return Forecast(earliest * _HOUR_S, expected_s, latest * _HOUR_S, per_day, _day_count(window))


def horizon_of(forecast: Forecast | NoTrend) -> Horizon | None:
    """The nearest horizon beyond the expected time; None: there is no forecast."""
    if isinstance(forecast, NoTrend):
        return None
    return next(horizon for horizon in HORIZONS if forecast.expected_s < horizon.below_s)


def _window_of(hourly: Sequence[int]) -> _Window:
    day = _measured(hourly[-HOURS_PER_DAY:], step_hours=1)
    weeks = len(hourly) // HOURS_PER_WEEK
    if not weeks:
        return day
    window = week = _measured(hourly[-HOURS_PER_WEEK:], HOURS_PER_DAY)
    if weeks > 1:
        before = _measured(hourly[-weeks * HOURS_PER_WEEK : -HOURS_PER_WEEK], HOURS_PER_DAY)
        if not week.differs_from(before):
            window = _measured(hourly[-weeks * HOURS_PER_WEEK :], HOURS_PER_DAY)
    surplus = (day.mean - window.mean) * HOURS_PER_DAY
    return day if surplus > SURGE_SPREADS * window.sigma else window


def _measured(hourly: Sequence[int], step_hours: int) -> _Window:
    levels = [0]
    for start in range(0, len(hourly), step_hours):
        levels.append(levels[-1] + sum(hourly[start : start + step_hours]))
    smooth = without_peaks(levels)
    steps = [after - before for before, after in pairwise(smooth)]
    return _Window(len(hourly), step_hours, fmean(steps) / step_hours, stdev(steps))


def without_peaks(levels: Sequence[int]) -> list[int]:
    """The levels without single peaks and dips. A change of level that lasts is kept.

    Source: Tukey, Exploratory Data Analysis, chapter 7.
    """
    steps = [after - before for before, after in pairwise(levels)]
    middle = median(steps)
    spread = PEAK_SPREADS * _MAD_TO_SIGMA * median(abs(step - middle) for step in steps)
    smooth = list(levels)
    for index in range(1, len(levels) - 1):
        expected = sorted((smooth[index - 1], *levels[index : index + 2]))[1]
        if abs(levels[index] - expected) > spread:
            smooth[index] = expected
    extrapolated = 3 * smooth[-2] - 2 * smooth[-3]
    expected = sorted((levels[-1], smooth[-2], extrapolated))[1]
    if abs(levels[-1] - expected) > spread:
        smooth[-1] = expected
    return smooth


def _crossings(window: _Window, left: int, quantile: float) -> tuple[float, float]:
    """The hours after which the upper and the lower bound of the growth reach ``left``.

    After t steps, the growth is within ``m t ± q s sqrt(t + t²/n)``: m is the mean and s the
    standard deviation of n steps, q the quantile. Squaring gives a quadratic equation in t. Its
    roots are real, because m exceeds q s / sqrt(n).
    """
    mean = window.mean * window.step_hours
    chance = (quantile * window.sigma) ** 2
    a = max(mean**2 - chance / window.steps, sys.float_info.min)
    b = 2 * left * mean + chance
    root = math.sqrt(max(b * b - 4 * a * left**2, 0.0))
    # From the product of the roots: (b - root) / (2 * a) loses all digits if b is near root.
    latest = (b + root) / (2 * a)
    earliest = left**2 / (a * latest)
    return earliest * window.step_hours, latest * window.step_hours


def student_quantile(probability: float, freedom: int) -> float:
    """The quantile of Student's distribution with 3 degrees of freedom or more.

    Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5. For a probability of 0.9, the
    error is below 0.001.
    """
    z: float = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, start=1))


def _day_count(window: _Window) -> int:
    return window.hours // HOURS_PER_DAY


def _days(window: _Window) -> str:
    return last_days(_day_count(window))


def last_days(days: int) -> str:
    """The length of a history, as text."""
    return f"the last {days} days" if days > 1 else "the last day"
