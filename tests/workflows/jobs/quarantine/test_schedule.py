"""The count of silent probes, and the pause between probes."""

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
RESULTS = st.lists(st.sampled_from([SILENT, ANSWERED, UNABLE]), max_size=40)


def progress_after(results: list[ProbeResult]) -> ProbeProgress:
    progress = ProbeProgress()
    for result in results:
        progress = with_result(progress, result, at_s=0.0)
    return progress


def test_a_quarantine_may_be_lifted_after_three_silent_probes_in_a_row() -> None:
    assert not progress_after([SILENT] * (SILENT_PROBES - 1)).may_lift
    assert progress_after([SILENT] * SILENT_PROBES).may_lift


def test_an_answer_resets_the_count_and_is_recorded() -> None:
    progress = progress_after([SILENT, SILENT, ANSWERED, SILENT])

    assert (progress.silent, progress.answers, progress.mac) == (1, 1, ANSWERED.mac)


def test_each_answer_doubles_the_pause_and_a_silent_probe_resets_the_pause() -> None:
    assert progress_after([ANSWERED]).pause_s == 2 * PAUSE_S
    assert progress_after([ANSWERED] * 20).pause_s == PAUSE_S_MAX
    assert progress_after([ANSWERED] * 20 + [SILENT]).pause_s == PAUSE_S


@given(RESULTS)
def test_probes_that_could_not_be_made_do_not_count_as_silent(
    results: list[ProbeResult],
) -> None:
    decisive = [result for result in results if result.verdict != "unable"]

    assert progress_after(results).silent == progress_after(decisive).silent
    assert not progress_after([UNABLE] * len(results)).may_lift


@given(RESULTS)
def test_a_quarantine_may_be_lifted_only_if_the_last_probes_were_silent(
    results: list[ProbeResult],
) -> None:
    verdicts = [result.verdict for result in results if result.verdict != "unable"]

    is_silent = len(verdicts) >= SILENT_PROBES and set(verdicts[-SILENT_PROBES:]) == {"silent"}
    assert progress_after(results).may_lift == is_silent
