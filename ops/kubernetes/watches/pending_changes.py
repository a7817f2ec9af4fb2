"""Changes on their way to whoever listens: of each Pod the newest, so that there is an end to them.

A deletion that was reported is never replaced. Reasons to look come together: the first one waits
``LOOK_GAP_S`` for those that follow it.
"""

from __future__ import annotations

import asyncio
from typing import Final

from core.domain.reclaim.cluster import PodState
from workflows.jobs.reclaim.facts import Change, PodChange, ScanRequest

WAITING_MAX: Final = 100_000
"""Changes that one listener has not taken yet; what comes then is left to a scan."""

LOOK_GAP_S: Final = 1.0


class PendingChanges:
    """What one listener has not heard yet."""

    def __init__(self) -> None:
        self._pods: dict[str, PodChange] = {}
        self._look: ScanRequest | None = None
        self._is_pausing = False
        self._arrived = asyncio.Event()

    def tell(self, change: PodChange) -> None:
        """Something happened to a Pod."""
        uid = change.pod.uid
        known = self._pods.get(uid)
        if known is None and len(self._pods) >= WAITING_MAX:
            self.look(f"more than {WAITING_MAX} changes of Pods wait")
            return
        if known is None or not known.deletion_report:
            self._pods[uid] = change
        self._arrived.set()

    def look(self, why: str) -> None:
        """Something that no change of a Pod tells."""
        if self._look is None:
            self._look, self._is_pausing = ScanRequest(why), True
            asyncio.get_running_loop().call_later(LOOK_GAP_S, self._end_pause)

    async def next(self) -> Change:
        """The oldest change; waits for one."""
        while True:
            if self._look is not None and not self._is_pausing:
                look, self._look = self._look, None
                return look
            if self._pods:
                return self._pods.pop(next(iter(self._pods)))
            self._arrived.clear()
            await self._arrived.wait()

    def _end_pause(self) -> None:
        self._is_pausing = False
        self._arrived.set()


def deletion_of(pod: PodState) -> PodChange:
    """The deletion of a Pod, reported by the API server."""
    words = f"Pod {pod.namespace}/{pod.name}, UID {pod.uid}, was deleted"
    return PodChange(pod, words)
