"""Recorded histories replay under the code of today, for ever; one must fail, on purpose."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workflows.testing.sample import REGISTRY
from workflows.model.codec import from_json, to_json
from workflows.model.errors import HistoryError, NonDeterminismError
from workflows.testing import replay, replay_file

HISTORIES = Path(__file__).parent / "histories"
BROKEN = HISTORIES / "non-deterministic.json"
GOOD = sorted(set(HISTORIES.glob("*.json")) - {BROKEN})


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_a_recorded_history_replays(path: Path) -> None:
    history = from_json(path.read_bytes())

    assert replay_file(REGISTRY, path).closed
    assert from_json(to_json(history)) == history


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_a_history_cut_anywhere_between_two_tasks_replays(path: Path) -> None:
    history = from_json(path.read_bytes())
    cuts = [e.event_id - 1 for e in history if e.event_type == "WorkflowTaskScheduled"]

    assert cuts
    for cut in cuts:
        assert not replay(REGISTRY, history[:cut]).closed


def test_the_non_deterministic_history_is_refused_with_event_expected_and_seen() -> None:
    with pytest.raises(NonDeterminismError) as caught:
        replay_file(REGISTRY, BROKEN)

    assert caught.value.event_id == 5
    assert "activity_type='treble'" in caught.value.expected
    assert "activity_type='double'" in caught.value.seen


def test_a_history_with_an_unknown_event_or_field_is_refused() -> None:
    text = GOOD[0].read_text(encoding="utf-8")
    with pytest.raises(HistoryError, match="event 1 of the JSON history"):
        from_json(text.replace("WorkflowExecutionStarted", "WorkflowExecutionBegun"))
    with pytest.raises(HistoryError, match="has no"):
        from_json(text.replace('"task_queue"', '"queue"', 1))
