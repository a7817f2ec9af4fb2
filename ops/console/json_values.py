"""Values of docs/reference/console-api.yaml. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from core.audit.history_entries import HistoryEntry, Stamp
from core.audit.indexed_log import LogInstant
from core.audit.log_clock import unix_ms_of
from core.domain.events import AllocationRefused
from core.domain.selection.error_texts import SOURCE_TEXTS, reason_of
from core.errors import BadInput

T = TypeVar("T")
Document: TypeAlias = dict[str, Any]
"""A JSON object."""

COUNT_MAX: Final = 2**53 - 1
"""The largest safe integer of JavaScript."""

LIMIT_DEFAULT: Final = 200
LIMIT_MAX: Final = 1_000

_TIME_CHARS_MAX: Final = 64


class PageRequest(NamedTuple):
    """A page of a list. ``cursor``: number of items before the page; "" for the first page."""

    limit: int = LIMIT_DEFAULT
    cursor: str = ""

    @property
    def begin(self) -> int:
        """Number of items before the page. Raises BadInput."""
        if not self.cursor:
            return 0
        if not self.cursor.isdecimal() or len(self.cursor) > len(str(COUNT_MAX)):
            raise BadInput(
                f"{self.cursor[:64]!r} is not a cursor",
                subject="cursor",
                remedy="pass the cursor that the previous page returned",
            )
        return int(self.cursor)


def page_of(items: Sequence[T], request: PageRequest) -> tuple[Sequence[T], Document]:
    """Items of one page, and the answer's ``cursor`` and ``total``."""
    begin = request.begin
    end = begin + request.limit
    following = str(end) if end < len(items) else None
    return items[begin:end], {"cursor": following, "total": len(items)}


def clamped(count: int) -> int:
    """The count, at most ``COUNT_MAX``."""
    return min(count, COUNT_MAX)


def time_text(time_ms: int) -> str:
    """A time in RFC 3339, in UTC with milliseconds."""
    text = datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def orbctl_time_text(time_ms: int) -> str:
    """``2026-03-01 14:03:00Z``, as orbctl prints it."""
    return f"{datetime.fromtimestamp(time_ms // 1000, UTC):%Y-%m-%d %H:%M:%S}Z"


def time_ms_of(text: str, subject: str, *, or_position: bool = False) -> int:
    """Unix milliseconds of an RFC 3339 time, by default in UTC. Raises BadInput.

    ``or_position``: the error says that the parameter may also be a log position.
    """
    try:
        if len(text) > _TIME_CHARS_MAX:
            raise ValueError(text)
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return unix_ms_of(moment)
    except (ValueError, OverflowError):
        kind = "neither a log position nor a time" if or_position else "not a time"
        position = "a log position such as 1234, or " if or_position else ""
        raise BadInput(
            f"{text[:64]!r} is {kind}",
            subject=subject,
            remedy=f"write {position}a time such as 2026-03-01T14:03:00Z",
        ) from None


def instant_at(position: int, time_ms: int) -> Document:
    """An ``Instant`` of console-api.yaml."""
    return {"position": position, "time": time_text(time_ms) if time_ms else None}


def instant_document(instant: LogInstant) -> Document:
    """The member ``at`` of an answer."""
    return instant_at(instant.position, instant.time_ms)


def stamp_document(stamp: Stamp) -> Document:
    """A ``Stamp`` of console-api.yaml."""
    return {
        "position": stamp.position,
        "place": stamp.index_in_segment,
        "time": time_text(stamp.at_ms),
        "eventId": stamp.event_id,
        "actor": stamp.actor,
        "writer": stamp.writer,
        "traceId": stamp.trace_id,
    }


def entry_document(entry: HistoryEntry, upto: int) -> Document:
    """``TimelineEntry``. An end after position ``upto`` is left out."""
    is_open = entry.ended is None or entry.ended.position > upto
    hides_reason = is_open and entry.kind == "held"  # the reason is why the holding ended
    return {
        "kind": entry.kind,
        "subject": entry.subject,
        "began": stamp_document(entry.began),
        "ended": None if is_open or entry.ended is None else stamp_document(entry.ended),
        "pool": entry.pool,
        "holder": entry.holder,
        "namespace": entry.namespace,
        "pod": entry.pod,
        "uid": entry.uid,
        "node": entry.node,
        "reason": "" if hides_reason else entry.reason,
        "evidence": "" if hides_reason else entry.evidence,
        "text": entry.text,
        "refusal": refusal_document(entry.refusal) if entry.refusal is not None else None,
    }


def refusal_document(event: AllocationRefused) -> Document:
    """``Refusal`` of console-api.yaml."""
    return {
        "interface": event.interface,
        "reason": event.reason,
        "message": event.message,
        "remedy": event.remedy,
        "source": SOURCE_TEXTS.get(event.source, event.source),
        "times": event.times,
        "leftOut": event.left_out,
        "verdicts": [
            {
                "interface": verdict.interface,
                "family": verdict.family,
                "pool": verdict.pool,
                "accepted": verdict.accepted,
                "rule": verdict.rule,
                "detail": verdict.detail if verdict.accepted else reason_of(verdict),
            }
            for verdict in event.verdicts
        ],
    }
