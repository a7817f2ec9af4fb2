"""Silent probes are counted; an answer resets the count, a probe that failed does not change it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workflows.jobs.quarantine.prober import ProbeResult
from workflows.jobs.quarantine.schedule import (
    PAUSE_S,
    PAUSE_S_MAX,
    SILENT_PROBES,
    ProbeProgress,
    with_result,
)

SILENT = ProbeResult("silent")
ANSWERED = ProbeResult("answered", "02:00:00:00:00:01")
UNABLE = ProbeResult("unable", text="no link")
ANSWERS = st.lists(st.sampled_from([SILENT, ANSWERED, UNABLE]), max_size=40)


def progress_after(answers: list[ProbeResult]) -> ProbeProgress:
    """The progress after probes with these results."""
    progress = ProbeProgress()
    for answer in answers:
        progress = with_result(progress, answer, at_s=0.0)
    return progress


def test_three_silent_probes_in_a_row_are_enough() -> None:
    assert not progress_after([SILENT] * (SILENT_PROBES - 1)).may_lift
    assert progress_after([SILENT] * SILENT_PROBES).may_lift


def test_an_answer_resets_the_count_and_is_recorded() -> None:
    progress = progress_after([SILENT, SILENT, ANSWERED, SILENT])

    assert (progress.silent, progress.answers, progress.mac) == (1, 1, ANSWERED.mac)


def test_pauses_double_with_each_answer_and_are_reset_by_silence() -> None:
    assert progress_after([ANSWERED]).pause_s == 2 * PAUSE_S
    assert progress_after([ANSWERED] * 20).pause_s == PAUSE_S_MAX
    assert progress_after([ANSWERED] * 20 + [SILENT]).pause_s == PAUSE_S


@given(ANSWERS)
def test_probes_that_could_not_be_made_do_not_count_as_silent(
    answers: list[ProbeResult],
) -> None:
    decisive = [answer for answer in answers if answer.verdict != "unable"]

    assert progress_after(answers).silent == progress_after(decisive).silent
    assert not progress_after([UNABLE] * len(answers)).may_lift


@given(ANSWERS)
def test_a_quarantine_ends_only_after_consecutive_silent_probes(answers: list[ProbeResult]) -> None:
    verdicts = [answer.verdict for answer in answers if answer.verdict != "unable"]

    is_silent = len(verdicts) >= SILENT_PROBES and set(verdicts[-SILENT_PROBES:]) == {"silent"}
    assert progress_after(answers).may_lift == is_silent
