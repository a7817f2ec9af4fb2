"""The history of a GUID: which virtual functions had the GUID, and when. No I/O."""

from __future__ import annotations

from core.audit.history_entries import EntryList, HistoryEntry, HistorySubject, Stamp, stamp_of
from core.domain.events import GuidsAssigned, GuidsReleased, Recorded
from core.domain.sriov.model import VfGuid


class GuidHistory(EntryList):
    """Collects the assignments of one GUID, each with its release."""

    def __init__(self, subject: HistorySubject) -> None:
        super().__init__(subject)
        self._open: HistoryEntry | None = None

    def take(self, recorded: Recorded) -> None:
        """Add the next event of the log."""
        event = recorded.event
        if not isinstance(event, GuidsAssigned | GuidsReleased):
            return
        for guid in event.guids:
            if guid.guid == self.subject.name:
                if isinstance(event, GuidsAssigned):
                    self._begin(event.node, guid, stamp_of(recorded))
                else:
                    self._end(stamp_of(recorded), event.reason)

    def open_entries(self) -> list[HistoryEntry]:
        """The current assignment, if there is one."""
        return [] if self._open is None else [self._open]

    def _begin(self, node: str, guid: VfGuid, at: Stamp) -> None:
        self._end(at, "taken")  # ends an earlier assignment that was not released
        text = f"virtual function {guid.vf} of {guid.nic}"
        self._open = HistoryEntry("held", guid.guid, at, node=node, text=text)

    def _end(self, at: Stamp, reason: str) -> None:
        if self._open is not None:
            self.add(self._open._replace(ended=at, reason=reason))
            self._open = None
