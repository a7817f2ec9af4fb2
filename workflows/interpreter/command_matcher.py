"""Compares the commands that code produced with the events that must record them.

After a workflow task the commands wait here, in order, for their events: read back at once when a
history is replayed, or with the next events when the interpreter is cached. A difference is a
NonDeterminismError that names the event, what was expected and what was requested.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from workflows.model import events as ev
from workflows.model.commands import Command, describe, same
from workflows.model.errors import NonDeterminismError


class Matcher:
    """The commands that have no event yet."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[Command] = deque()

    def expect(self, commands: Iterable[Command]) -> None:
        """These were produced; their events come next."""
        self._waiting.extend(commands)

    def match(self, event: ev.HistoryEvent) -> None:
        """``event`` records a command: it must be the next one."""
        recorded = event.attributes
        if self._waiting and same(self._waiting[0], recorded):
            self._waiting.popleft()
            return
        if isinstance(recorded, ev.MarkerRecorded) and recorded.deprecated:
            return  # the code no longer asks for a patch that every history has: as announced
        requested = describe(self._waiting[0]) if self._waiting else "nothing"
        raise NonDeterminismError(event.event_id, expected=describe(recorded), requested=requested)

    def nothing_left(self, event_id: int, what: str) -> None:
        """At ``event_id`` the events of the last task are over; ``what`` is there instead."""
        if self._waiting:
            raise NonDeterminismError(event_id, expected=what, requested=describe(self._waiting[0]))
