"""Parts of a log that cannot be read: a reader that answers queries skips them, and reports them.

A reader that changes or verifies a log never skips: such a part is an error for it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.domain.events import Recorded
from core.errors import LogCorrupt
from core.eventstore.segments import Segment

UNREAD_PARTS_MAX: Final = 100
"""Parts that one reader lists; further ones are only counted."""


class UnreadPart(NamedTuple):
    """The events from one position to another, and why they are not in an answer."""

    first_position: int
    last_position: int
    why: str
    remedy: str

    def __str__(self) -> str:
        first, last = self.first_position, self.last_position
        where = f"position {first}" if first == last else f"positions {first} to {last}"
        return f"the log at {where} is left out: {self.why}"


class UnreadParts:
    """The parts that one reader has skipped. ``left_out``: how many are only counted."""

    def __init__(self) -> None:
        self._parts: dict[tuple[int, int], UnreadPart] = {}
        self.left_out = 0

    def __len__(self) -> int:
        return len(self._parts) + self.left_out

    def parts(self) -> list[UnreadPart]:
        """The listed parts, in log order."""
        return [part for _, part in sorted(self._parts.items())]

    def note(self, first: int, last: int, error: LogCorrupt) -> None:
        """Add the events in [first, last], which could not be read."""
        if (first, last) in self._parts:
            return
        if len(self._parts) == UNREAD_PARTS_MAX:
            self.left_out += 1
            return
        self._parts[first, last] = UnreadPart(first, last, error.message, error.remedy)

    def events_of(self, segment: Segment) -> list[Recorded]:
        """The events of a segment; none if it cannot be decoded."""
        try:
            return segment.events()
        except LogCorrupt as error:
            self.note(segment.position, segment.position, error)
            return []
