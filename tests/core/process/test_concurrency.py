"""Periodic tasks of a process wake up together, so that an idle process wakes up rarely."""

from __future__ import annotations

import asyncio

import pytest

from core.process.concurrency import until_tick_s


@pytest.mark.parametrize(
    ("now", "period_s", "left_s"),
    [(101.3, 1.0, 0.7), (101.3, 2.0, 0.7), (101.3, 7.0, 3.7), (105.0, 7.0, 7.0)],
)
async def test_a_wait_ends_at_the_next_multiple_of_the_period(
    monkeypatch: pytest.MonkeyPatch, now: float, period_s: float, left_s: float
) -> None:
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)

    assert until_tick_s(period_s) == pytest.approx(left_s)


async def test_a_wait_that_starts_just_before_a_tick_skips_that_tick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: 103.999)

    assert until_tick_s(2.0) == pytest.approx(2.001)
