"""Parts of a log that cannot be read.

A reader for queries skips and reports these parts. A reader that changes or verifies the log raises
an error.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.domain.events import Recorded
from core.errors import LogCorrupt
from core.eventstore.log_reader import Segment

UNREAD_PARTS_LISTED_MAX: Final = 100

UNREAD_PARTS_UNLISTED_MAX: Final = 10_000


class UnreadPart(NamedTuple):
    """A range of positions whose events cannot be read; ``why``: the cause."""

    first_position: int
    last_position: int
    why: str
    remedy: str

    def __str__(self) -> str:
        first, last = self.first_position, self.last_position
        where = f"position {first}" if first == last else f"positions {first} to {last}"
        return f"the log at {where} is left out: {self.why}"


class UnreadPartList:
    """The parts that one reader has skipped."""

    def __init__(self) -> None:
        self._parts: dict[tuple[int, int], UnreadPart] = {}
        self._unlisted: set[tuple[int, int]] = set()

    @property
    def unlisted(self) -> int:
        """The number of parts that are not listed, at most ``UNREAD_PARTS_UNLISTED_MAX``."""
        return len(self._unlisted)

    def __len__(self) -> int:
        return len(self._parts) + self.unlisted

    def parts(self) -> list[UnreadPart]:
        """The listed parts, in log order."""
        return [part for _, part in sorted(self._parts.items())]

    def forget(self) -> None:
        """Forget all parts, before the log is read again."""
        self._parts.clear()
        self._unlisted.clear()

    def note(self, first: int, last: int, error: LogCorrupt) -> None:
        """Add a part: the positions from ``first`` to ``last``."""
        if (first, last) in self._parts:
            return
        if len(self._parts) < UNREAD_PARTS_LISTED_MAX:
            self._parts[first, last] = UnreadPart(first, last, error.message, error.remedy)
        elif len(self._unlisted) < UNREAD_PARTS_UNLISTED_MAX:
            self._unlisted.add((first, last))

    def events_of(self, segment: Segment) -> list[Recorded]:
        """The events of a segment; empty if the segment cannot be decoded."""
        try:
            return segment.events()
        except LogCorrupt as error:
            self.note(segment.position, segment.position, error)
            return []
