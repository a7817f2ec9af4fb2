"""Recorded executions of reclaiming replay under the code of today: it may change, they may not.

They run for as long as a cluster does, so a change that breaks one of these would stop reclaiming
in clusters that are there: guard it with ``workflow.patched``, and record a new history beside.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from workflows.api.definitions import Registry
from workflows.jobs.reclaim.pod import ReclaimPod
from workflows.jobs.reclaim.scan import ReclaimScan
from workflows.model.codec import from_json
from workflows.testing import replay, replay_file

REGISTRY = Registry([ReclaimScan, ReclaimPod], [])
HISTORIES = sorted((Path(__file__).parent / "reclaims").glob("*.json"))


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_a_recorded_reclaim_replays_whole_and_cut_between_any_two_tasks(path: Path) -> None:
    history = from_json(path.read_bytes())
    cuts = [e.event_id - 1 for e in history if e.event_type == "WorkflowTaskScheduled"]

    assert replay_file(REGISTRY, path).closed
    for cut in cuts:
        assert not replay(REGISTRY, history[:cut]).closed


def test_there_are_histories_of_both_workflows() -> None:
    kinds = {path.stem.partition("-")[0] for path in HISTORIES}

    assert kinds == {"pod", "scan"}
