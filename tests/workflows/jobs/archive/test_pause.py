"""The pause between two checks of the live log."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.archive.archiver import LIVE_SEGMENTS_MAX
from workflows.jobs.archive.archive import PAUSE_S_MAX, PAUSE_S_MIN, pause_s


def test_a_log_without_known_growth_is_checked_once_a_minute() -> None:
    assert pause_s(live=100, before=100, elapsed_s=60.0) == PAUSE_S_MAX
    after_archiving = pause_s(live=0, before=20_000, elapsed_s=60.0)
    assert after_archiving == PAUSE_S_MAX
    after_first_check = pause_s(live=10, before=0, elapsed_s=0.0)
    assert after_first_check == PAUSE_S_MAX


def test_a_growing_log_is_checked_after_half_the_time_to_the_limit() -> None:
    # The log has grown by 1,000 segments in 20 s, so it reaches the limit in another 20 s.
    live = LIVE_SEGMENTS_MAX - 1_000
    assert pause_s(live, before=live - 1_000, elapsed_s=20.0) == 10.0
    assert pause_s(LIVE_SEGMENTS_MAX, before=0, elapsed_s=1.0) == PAUSE_S_MIN


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0, 10**6))
def test_the_pause_is_within_the_bounds(live: int, before: int, elapsed_s: float) -> None:
    assert PAUSE_S_MIN <= pause_s(live, before, elapsed_s) <= PAUSE_S_MAX
