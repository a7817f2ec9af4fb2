"""Silence counts, an answer resets the count, and an inconclusive probe changes nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workflows.jobs.quarantine.prober import ProbeResult
from workflows.jobs.quarantine.schedule import (
    PAUSE_S,
    PAUSE_S_MAX,
    SILENT_PROBES,
    ProbeProgress,
    after,
)

SILENT = ProbeResult("silent")
ANSWERED = ProbeResult("answered", "02:00:00:00:00:01")
UNABLE = ProbeResult("unable", text="no link")
ANSWERS = st.lists(st.sampled_from([SILENT, ANSWERED, UNABLE]), max_size=40)


def played(answers: list[ProbeResult]) -> ProbeProgress:
    progress = ProbeProgress()
    for answer in answers:
        progress = after(progress, answer, 0.0)
    return progress


def test_three_silent_probes_in_a_row_are_enough() -> None:
    assert not played([SILENT] * (SILENT_PROBES - 1)).is_enough
    assert played([SILENT] * SILENT_PROBES).is_enough


def test_an_answer_starts_the_count_anew_and_is_remembered() -> None:
    progress = played([SILENT, SILENT, ANSWERED, SILENT])

    assert (progress.silent, progress.answers, progress.mac) == (1, 1, ANSWERED.mac)


def test_pauses_double_while_somebody_answers_and_shrink_with_silence() -> None:
    assert played([ANSWERED]).pause_s == 2 * PAUSE_S
    assert played([ANSWERED] * 20).pause_s == PAUSE_S_MAX
    assert played([ANSWERED] * 20 + [SILENT]).pause_s == PAUSE_S


@given(ANSWERS)
def test_probes_that_could_not_be_made_never_bring_an_address_back(
    answers: list[ProbeResult],
) -> None:
    without = [answer for answer in answers if answer.verdict != "unable"]

    assert played(answers).silent == played(without).silent
    assert not played([UNABLE] * len(answers)).is_enough


@given(ANSWERS)
def test_enough_means_the_last_word_of_every_prober_was_silence(answers: list[ProbeResult]) -> None:
    said = [answer.verdict for answer in answers if answer.verdict != "unable"]

    is_silent = len(said) >= SILENT_PROBES and set(said[-SILENT_PROBES:]) == {"silent"}
    assert played(answers).is_enough == is_silent
