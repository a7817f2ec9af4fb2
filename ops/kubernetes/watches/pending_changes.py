"""The changes that one listener has not received yet: only the newest change of each Pod.

But a deletion that the API server reported stays, even if the Pod has a later change.
"""

from __future__ import annotations

import asyncio
from typing import Final

from core.domain.reclaim.evidence import PodState
from workflows.jobs.reclaim.reclaim_context import Change, PodChange, ScanRequest

WAITING_MAX: Final = 100_000
"""If this many Pods have pending changes, the change of another Pod requests a scan instead."""

SCAN_GAP_S: Final = 1.0
"""All scan requests within this time cause one scan."""


class PendingChanges:
    """The pending changes of one listener."""

    def __init__(self) -> None:
        self._pods: dict[str, PodChange] = {}
        self._scan: ScanRequest | None = None
        self._is_pausing = False
        self._arrived = asyncio.Event()

    def add(self, change: PodChange) -> None:
        """Add the change of a Pod."""
        uid = change.pod.uid
        pending = self._pods.get(uid)
        if pending is None and len(self._pods) >= WAITING_MAX:
            self.request_scan(f"more than {WAITING_MAX} changes of Pods are pending")
            return
        if pending is None or not pending.deletion_report:
            self._pods[uid] = change
        self._arrived.set()

    def request_scan(self, why: str) -> None:
        """Request a scan, because a change may concern several Pods."""
        if self._scan is None:
            self._scan, self._is_pausing = ScanRequest(why), True
            asyncio.get_running_loop().call_later(SCAN_GAP_S, self._end_pause)

    async def next(self) -> Change:
        """Wait for a change; return a due scan request first, else the oldest change of a Pod."""
        while True:
            if self._scan is not None and not self._is_pausing:
                scan, self._scan = self._scan, None
                return scan
            if self._pods:
                return self._pods.pop(next(iter(self._pods)))
            self._arrived.clear()
            await self._arrived.wait()

    def _end_pause(self) -> None:
        self._is_pausing = False
        self._arrived.set()


def deletion_of(pod: PodState) -> PodChange:
    """The change that says that the API server reported the deletion of a Pod."""
    report = f"Pod {pod.namespace}/{pod.name}, UID {pod.uid}, was deleted"
    return PodChange(pod, report)
