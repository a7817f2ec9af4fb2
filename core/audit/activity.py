"""What happens now: claims, releases and refusals of the last minute, by pool and by writer.

Counted by the seconds at which writers recorded their events; a writer's clock that is ahead counts
as now. Pure and bounded: sums of one minute, a time for each writer, and the newest refusals.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from core.domain.events import AddressesClaimed, AddressesReleased, AllocationRefused, Recorded

WINDOW_S: Final = 60
"""The last minute, in whole seconds."""

REFUSALS_MAX: Final = 20
"""Newest refusals that are remembered."""

What = Literal["claimed", "released", "refused", "event"]


class RecentRefusal(NamedTuple):
    """One refused ADD. ``pod``: NAMESPACE/NAME."""

    recorded_at_ms: int
    pod: str
    reason: str
    message: str


class PoolActivity(NamedTuple):
    """Addresses claimed and released, and ADDs refused, in the last minute."""

    claimed: int
    released: int
    refused: int


class Minute(NamedTuple):
    """The sums of the last minute, by what happened and pool or writer."""

    sums: Counter[tuple[What, str]]

    def of_pool(self, pool: str) -> PoolActivity:
        """The activity of one pool; "" for refused ADDs that no pool was a candidate for."""
        return PoolActivity(
            self.sums["claimed", pool], self.sums["released", pool], self.sums["refused", pool]
        )

    def events_of(self, writer: str) -> int:
        """Events of one writer."""
        return self.sums["event", writer]


class Activity:
    """``newest_ms``: when each writer recorded its newest event."""

    def __init__(self) -> None:
        self.newest_ms: dict[str, int] = {}
        self.refusals: deque[RecentRefusal] = deque(maxlen=REFUSALS_MAX)
        self._seconds: dict[int, Counter[tuple[What, str]]] = {}
        self._last_s = 0

    def note(self, events: Iterable[Recorded]) -> None:
        """Count events, in log order."""
        for recorded in events:
            counts = self._counts_at(recorded.recorded_at_ms // 1000)
            counts["event", recorded.writer] += 1
            self.newest_ms[recorded.writer] = recorded.recorded_at_ms
            match recorded.event:
                case AddressesClaimed(endpoint, new_nics):
                    for index in new_nics:
                        for _, pool in endpoint.nics[index].addresses():
                            counts["claimed", pool] += 1
                case AddressesReleased() as released:
                    for release in released.releases:
                        counts["released", release.pool] += 1
                case AllocationRefused() as refused:
                    self._note_refusal(refused, recorded.recorded_at_ms, counts)

    def minute(self, now_ms: int) -> Minute:
        """The last minute before this time, and what is recorded after it."""
        total: Counter[tuple[What, str]] = Counter()
        for second, counts in self._seconds.items():
            if second > now_ms // 1000 - WINDOW_S:
                total.update(counts)
        return Minute(total)

    def _counts_at(self, second: int) -> Counter[tuple[What, str]]:
        """The sums of a second; seconds before the window are forgotten."""
        if second > self._last_s:
            self._last_s = second
            first = second - WINDOW_S
            self._seconds = {at: sums for at, sums in self._seconds.items() if at > first}
        if second <= self._last_s - WINDOW_S:
            return Counter()
        return self._seconds.setdefault(second, Counter())

    def _note_refusal(
        self, refused: AllocationRefused, at_ms: int, counts: Counter[tuple[What, str]]
    ) -> None:
        pod = f"{refused.namespace}/{refused.name}"
        self.refusals.append(RecentRefusal(at_ms, pod, refused.reason, refused.message))
        for pool in {verdict.pool for verdict in refused.verdicts} or {""}:
            counts["refused", pool] += refused.times
