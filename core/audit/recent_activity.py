"""Counts of the last minute: claims, releases and refusals by pool, and events by writer.

An event with a time in the future, from a writer whose clock is ahead, counts as an event of now.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from core.domain.events import AddressesClaimed, AddressesReleased, AllocationRefused, Recorded

WINDOW_S: Final = 60

REFUSALS_MAX: Final = 20

CountKind = Literal["claimed", "released", "refused", "event"]


class RecentRefusal(NamedTuple):
    """A refused ADD. ``pod``: NAMESPACE/NAME."""

    recorded_at_ms: int
    pod: str
    reason: str
    message: str


class PoolActivity(NamedTuple):
    """Addresses claimed and released, and ADDs refused."""

    claimed: int
    released: int
    refused: int


class Minute(NamedTuple):
    """The counts of one minute, by (kind, pool) or ("event", writer)."""

    sums: Counter[tuple[CountKind, str]]

    def of_pool(self, pool: str) -> PoolActivity:
        """Refused ADDs without a candidate pool count for pool ""."""
        return PoolActivity(
            self.sums["claimed", pool], self.sums["released", pool], self.sums["refused", pool]
        )

    def event_count(self, writer: str) -> int:
        return self.sums["event", writer]


class Activity:
    """The counts of the last minute, and the newest refusals.

    ``newest_ms``: the time of each writer's newest event.
    """

    def __init__(self) -> None:
        self.newest_ms: dict[str, int] = {}
        self.refusals: deque[RecentRefusal] = deque(maxlen=REFUSALS_MAX)
        self._seconds: dict[int, Counter[tuple[CountKind, str]]] = {}

    def note(self, events: Iterable[Recorded], now_ms: int) -> None:
        """Count events, in log order. Deletes counters before the window."""
        now_s = now_ms // 1000
        first = now_s - WINDOW_S
        self._seconds = {at: sums for at, sums in self._seconds.items() if at > first}
        for recorded in events:
            counts = self._counts_at(min(recorded.recorded_at_ms // 1000, now_s), first)
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
        """The counts of the minute before ``now_ms``."""
        total: Counter[tuple[CountKind, str]] = Counter()
        for second, counts in self._seconds.items():
            if second > now_ms // 1000 - WINDOW_S:
                total.update(counts)
        return Minute(total)

    def _counts_at(self, second: int, first: int) -> Counter[tuple[CountKind, str]]:
        """The counter of a second, for the caller to update.

        For a second up to ``first``, before the window, the caller gets a counter without a reader.
        """
        if second <= first:
            return Counter()
        return self._seconds.setdefault(second, Counter())

    def _note_refusal(
        self, refused: AllocationRefused, at_ms: int, counts: Counter[tuple[CountKind, str]]
    ) -> None:
        pod = f"{refused.namespace}/{refused.name}"
        self.refusals.append(RecentRefusal(at_ms, pod, refused.reason, refused.message))
        for pool in {verdict.pool for verdict in refused.verdicts} or {""}:
            counts["refused", pool] += refused.times
