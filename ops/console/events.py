"""Pages of events of the log."""

from __future__ import annotations

from typing import Final, NamedTuple

from core.audit.event_summary import EventFilter, EventSummary, summary_of
from core.audit.history_entries import stamp_of
from core.audit.indexed_log import IndexedLog, LogInstant
from core.domain.events import AllocationRefused, Recorded
from core.errors import BadInput
from ops.console.json_values import Document, instant_document, refusal_document, time_text

EXAMINED_MAX: Final = 20_000
"""Limit for the events examined for one answer."""

CHUNK_SEGMENTS_MIN: Final = 4
CHUNK_SEGMENTS_MAX: Final = 256
"""Each backward read has twice the segments of the previous read, up to this limit."""


class EventPosition(NamedTuple):
    """The log position of an event, and its index among the events of that position."""

    position: int
    index_in_segment: int

    def __str__(self) -> str:
        return f"{self.position}.{self.index_in_segment}"


class EventConditions(NamedTuple):
    """Filters of events. "" in ``namespace`` or ``trace`` matches any."""

    filter: EventFilter = EventFilter()
    namespace: str = ""
    trace: str = ""

    def document(self, recorded: Recorded) -> Document | None:
        """The event as ``Event`` of console-api.yaml; None if a filter excludes the event."""
        if self.trace not in recorded.cause.traceparent:
            return None
        summary = summary_of(recorded)
        if self.namespace and not summary.subject.startswith(f"pod/{self.namespace}/"):
            return None
        return _document(recorded, summary) if self.filter.matches(recorded, summary) else None


def parse_event_position(text: str, subject: str = "cursor") -> EventPosition:
    """Parse ``POSITION.INDEX``. ``POSITION`` alone is after all events there. Raises BadInput."""
    position, dot, index = text.partition(".")
    if len(text) > 40 or not position.isdecimal() or (dot and not index.isdecimal()):
        raise BadInput(
            f"{text[:64]!r} is not a valid {subject} (expected POSITION.INDEX)",
            subject=subject,
            remedy="pass the cursor that the previous page returned, or the id of the last event",
        )
    return EventPosition(int(position), int(index) if dot else _AFTER_LAST)


_AFTER_LAST: Final = 2**31


async def events_after(
    log: IndexedLog,
    instant: LogInstant,
    after: EventPosition,
    conditions: EventConditions,
    limit: int,
) -> Document:
    """``EventPage`` of the events after a position, oldest first."""
    items: list[Document] = []
    examined, last = 0, after
    # Read one position earlier: the segment at ``after`` may have further events.
    begin = after.position - (after.index_in_segment != _AFTER_LAST)
    source = await log.at_position(min(max(begin, 0), instant.position))
    upto = min(source.log.position, instant.position)
    async for segment in log.events_between(source.log, max(begin, 0), upto):
        for recorded in segment:
            event_position = EventPosition(recorded.position, recorded.index_in_segment)
            if event_position <= after:
                continue
            if len(items) == limit or examined == EXAMINED_MAX:
                return _page(instant, items, examined, last)
            examined, last = examined + 1, event_position
            document = conditions.document(recorded)
            if document is not None:
                items.append(document)
    next_cursor = EventPosition(upto, _AFTER_LAST) if upto < instant.position else None
    return _page(instant, items, examined, next_cursor)


async def events_before(
    log: IndexedLog,
    instant: LogInstant,
    before: EventPosition | None,
    conditions: EventConditions,
    limit: int,
    since: int = 0,
) -> Document:
    """``EventPage`` of the events before a position, newest first.

    ``before`` None: the newest events. Events up to position ``since`` are left out.
    """
    items: list[Document] = []
    examined, bound = 0, before or EventPosition(instant.position, _AFTER_LAST)
    upto = bound.position
    chunk = CHUNK_SEGMENTS_MIN
    while upto > since:
        source = (await log.at_position(min(upto, instant.position))).log
        after = source.clock.position_before(upto, chunk)
        chunk = min(2 * chunk, CHUNK_SEGMENTS_MAX)
        if after >= upto:  # the index begins at ``upto``: continue with the older index
            after = source.first_position - 1
        for recorded in reversed(await _between(log, instant, max(after, since), upto)):
            event_position = EventPosition(recorded.position, recorded.index_in_segment)
            if event_position >= bound:
                continue
            if len(items) == limit or examined == EXAMINED_MAX:
                return _page(instant, items, examined, bound)
            examined, bound = examined + 1, event_position
            document = conditions.document(recorded)
            if document is not None:
                items.append(document)
        # Events up to ``pruned.position`` were deleted from the archive.
        has_older = after > log.view.sealed.cursor.pruned.position
        upto = after if has_older else 0
    return _page(instant, items, examined, None)


async def _between(log: IndexedLog, instant: LogInstant, after: int, upto: int) -> list[Recorded]:
    recent = instant.log.recent
    if recent and recent[0].position <= after:
        return [recorded for recorded in recent if after < recorded.position <= upto]
    index = (await log.at_position(upto)).log
    segments = log.events_between(index, after, upto)
    return [recorded async for segment in segments for recorded in segment]


def _page(
    instant: LogInstant, items: list[Document], examined: int, cursor: EventPosition | None
) -> Document:
    return {
        "at": instant_document(instant),
        "items": items,
        "cursor": None if cursor is None else str(cursor),
        "examined": examined,
    }


def _document(recorded: Recorded, summary: EventSummary) -> Document:
    stamp, event = stamp_of(recorded), recorded.event
    document: Document = {
        "position": recorded.position,
        "place": recorded.index_in_segment,
        "time": time_text(recorded.recorded_at_ms),
        "type": summary.type,
        "subject": summary.subject,
        "detail": summary.detail,
        "pools": list(summary.pools),
        "addresses": list(summary.addresses),
        "node": summary.node,
        "actor": stamp.actor,
        "writer": stamp.writer,
        "eventId": stamp.event_id,
        "traceId": stamp.trace_id,
    }
    if isinstance(event, AllocationRefused):
        document["refusal"] = refusal_document(event)
    return document
