"""Pending changes: at most one for each Pod, and at most one request for a scan."""

from __future__ import annotations

import pytest

from core.domain.reclaim.evidence import PodState
from ops.kubernetes.watches import pending_changes
from ops.kubernetes.watches.pending_changes import PendingChanges, deletion_of
from workflows.jobs.reclaim.reclaim_context import PodChange, ScanRequest

ENDING = PodState("shop", "web-0", "u1", deletion_s=1.0)


async def test_only_the_newest_pending_change_of_a_pod_is_reported() -> None:
    pending = PendingChanges()
    pending.add(PodChange(ENDING))
    pending.add(PodChange(ENDING._replace(phase="Failed")))
    pending.add(PodChange(PodState("shop", "web-1", "u2", "Failed")))

    changes = [await pending.next(), await pending.next()]

    pods = [change.pod for change in changes if isinstance(change, PodChange)]
    assert [(pod.name, pod.phase) for pod in pods] == [("web-0", "Failed"), ("web-1", "Failed")]


async def test_a_pending_deletion_is_not_replaced_by_a_change() -> None:
    pending = PendingChanges()
    pending.add(deletion_of(ENDING))
    pending.add(PodChange(ENDING))

    change = await pending.next()

    assert isinstance(change, PodChange)
    assert change.deletion_report == "Pod shop/web-0, UID u1, was deleted"


async def test_several_reasons_request_one_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_changes, "SCAN_GAP_S", 0.0)
    pending = PendingChanges()
    for number in range(9):
        pending.request_scan(f"reason {number}")

    assert await pending.next() == ScanRequest("reason 0")
    pending.add(PodChange(ENDING))
    assert await pending.next() == PodChange(ENDING)


async def test_changes_beyond_the_limit_request_a_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_changes, "SCAN_GAP_S", 0.0)
    monkeypatch.setattr(pending_changes, "WAITING_MAX", 1)
    pending = PendingChanges()
    pending.add(PodChange(ENDING))
    pending.add(PodChange(ENDING._replace(uid="u2")))

    changes = [await pending.next(), await pending.next()]

    assert PodChange(ENDING) in changes
    assert any(isinstance(change, ScanRequest) for change in changes)
