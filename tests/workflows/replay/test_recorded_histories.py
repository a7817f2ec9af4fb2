"""Recorded histories replay with the current code, except one that is broken on purpose.

A change that breaks a recorded history stops jobs in existing clusters. Put such a change behind
``workflow.patched``, and record a new version (``record.py``). Histories of version 1 have
``WorkflowTaskScheduled``, which the engine no longer writes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workflows.testing import sample
from workflows.api.definitions import Registry
from workflows.jobs.archive.archive import ArchiveLog
from workflows.jobs.archive.prune import PruneArchive
from workflows.jobs.autopools.application import AutoPools
from workflows.jobs.node_drain.drains import SriovDrains
from workflows.jobs.provider.binding import ExternalBinding
from workflows.jobs.quarantine.probe import ProbeQuarantine
from workflows.jobs.reclaim.pod import ReclaimPod
from workflows.jobs.reclaim.scan import ReclaimScan
from workflows.jobs.retirement.pool import PoolRetirement
from workflows.jobs.retirement.subnet import SubnetRetirement
from workflows.model.errors import HistoryError, NonDeterminismError
from workflows.model.history_json import from_json, to_json
from workflows.schedules.scheduler import Scheduler
from workflows.testing import replay, replay_file

HERE = Path(__file__).parent
JOBS = [
    ReclaimScan,
    ReclaimPod,
    PoolRetirement,
    SubnetRetirement,
    ProbeQuarantine,
    ArchiveLog,
    PruneArchive,
    Scheduler,
    AutoPools,
    ExternalBinding,
    SriovDrains,
]
REGISTRY = Registry([*sample.WORKFLOWS, *JOBS], sample.ACTIVITIES)
BROKEN = HERE / "histories" / "non-deterministic.json"
RECORDED = sorted(set(HERE.glob("*/*.json")) - {BROKEN})


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_a_recorded_history_can_be_replayed_completely_and_up_to_each_task(path: Path) -> None:
    history = from_json(path.read_bytes())
    task_starts = [
        event.event_id - 1 for event in history if event.event_type == "WorkflowTaskStarted"
    ]

    assert replay_file(REGISTRY, path).closed
    assert from_json(to_json(history)) == history
    assert task_starts
    for task_start in task_starts:
        assert not replay(REGISTRY, history[:task_start]).closed


def test_every_job_has_a_history_in_the_current_format() -> None:
    recorded_types = set()
    for path in RECORDED:
        history = from_json(path.read_bytes())
        if not any(event.event_type == "WorkflowTaskScheduled" for event in history):
            recorded_types.add(getattr(history[0].attributes, "workflow_type", ""))

    assert recorded_types >= set(Registry(JOBS).workflows)


def test_the_error_of_the_broken_history_has_the_event_id_and_both_activity_types() -> None:
    with pytest.raises(NonDeterminismError) as caught:
        replay_file(REGISTRY, BROKEN)

    assert caught.value.event_id == 4
    assert "activity_type='treble'" in caught.value.expected
    assert "activity_type='double'" in caught.value.requested


def test_a_history_with_an_unknown_event_or_field_is_rejected() -> None:
    text = RECORDED[0].read_text(encoding="utf-8")
    with pytest.raises(HistoryError, match="event 1 of the JSON history"):
        from_json(text.replace("WorkflowExecutionStarted", "WorkflowExecutionBegun"))
    with pytest.raises(HistoryError, match="unknown fields"):
        from_json(text.replace('"task_queue"', '"queue"', 1))
