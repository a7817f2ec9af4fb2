"""Changes that wait for a listener: one for each Pod, and reasons to scan."""

from __future__ import annotations

import pytest

from core.domain.reclaim.cluster import PodState
from ops.kubernetes.watches import pending_changes
from ops.kubernetes.watches.pending_changes import PendingChanges, deletion_of
from workflows.jobs.reclaim.context import PodChange, ScanRequest

ENDING = PodState("shop", "web-0", "u1", deletion_s=1.0)


async def test_of_a_pod_the_newest_change_is_told_once() -> None:
    one = PendingChanges()
    one.add(PodChange(ENDING))
    one.add(PodChange(ENDING._replace(phase="Failed")))
    one.add(PodChange(PodState("shop", "web-1", "u2", "Failed")))

    told = [await one.next(), await one.next()]

    assert [change.pod.phase for change in told if isinstance(change, PodChange)] == ["Failed"] * 2


async def test_a_reported_deletion_is_never_taken_back() -> None:
    one = PendingChanges()
    one.add(deletion_of(ENDING))
    one.add(PodChange(ENDING))

    change = await one.next()

    assert isinstance(change, PodChange)
    assert change.deletion_report == "Pod shop/web-0, UID u1, was deleted"


async def test_reasons_to_look_come_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_changes, "SCAN_GAP_S", 0.0)
    one = PendingChanges()
    for number in range(9):
        one.request_scan(f"reason {number}")

    assert await one.next() == ScanRequest("reason 0")
    one.add(PodChange(ENDING))
    assert await one.next() == PodChange(ENDING)


async def test_what_finds_no_room_is_left_to_a_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_changes, "SCAN_GAP_S", 0.0)
    monkeypatch.setattr(pending_changes, "WAITING_MAX", 1)
    one = PendingChanges()
    one.add(PodChange(ENDING))
    one.add(PodChange(ENDING._replace(uid="u2")))

    told = [await one.next(), await one.next()]

    assert PodChange(ENDING) in told
    assert any(isinstance(change, ScanRequest) for change in told)
