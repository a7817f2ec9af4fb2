"""Recorded histories of the controllers' jobs replay under the code of today, for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from workflows.api.definitions import Registry
from workflows.jobs.archive.archive import ArchiveLog
from workflows.jobs.autopools.application import AutoPools
from workflows.jobs.provider.binding import ExternalBinding
from workflows.jobs.quarantine.probe import ProbeQuarantine
from workflows.jobs.retirement.pool import PoolRetirement
from workflows.jobs.retirement.subnet import SubnetRetirement
from workflows.model.codec import from_json
from workflows.testing import replay, replay_file

HISTORIES = sorted((Path(__file__).parent / "jobs").glob("*.json"))
REGISTRY = Registry(
    [PoolRetirement, SubnetRetirement, ProbeQuarantine, ArchiveLog, AutoPools, ExternalBinding], []
)


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_a_recorded_history_replays(path: Path) -> None:
    assert replay_file(REGISTRY, path).closed


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_a_history_cut_anywhere_between_two_tasks_replays(path: Path) -> None:
    history = from_json(path.read_bytes())
    cuts = [e.event_id - 1 for e in history if e.event_type == "WorkflowTaskStarted"]

    assert cuts
    for cut in cuts:
        assert not replay(REGISTRY, history[:cut]).closed
