"""The log's extent and its events over time, for the time slider."""

from __future__ import annotations

from typing import Final

from core.archive.sealed_log import FileSummary
from core.audit.indexed_log import IndexedLog, LogInstant
from core.audit.log_clock import Bucket, LogClock
from core.errors import BadInput
from ops.console.json_values import Document, instant_at, instant_document, time_ms_of, time_text

BUCKETS_DEFAULT: Final = 200
BUCKETS_MAX: Final = 1_000


def log_extent(
    log: IndexedLog, instant: LogInstant, cluster: str, buckets: int, window: tuple[str, str]
) -> Document:
    """``Log`` of console-api.yaml. Raises BadInput.

    ``window``: start and end of the histogram; "" is the start or end of the log.
    """
    clock, cursor = instant.log.clock, log.view.sealed.cursor
    files_before_index = [
        file
        for file in log.view.sealed.summaries()
        if file.last_position <= instant.log.first_position
    ]
    first_position, first_ms = clock.first
    begins_ms: list[int] = []
    if files_before_index:
        first_file = files_before_index[0]
        first_position, first_ms = first_file.first_position, _begin_ms(log, first_file)
        # The start time of a file is the end time of the previous file.
        begins_ms = [first_ms, *(file.clock_ms for file in files_before_index[:-1])]
    density = _in_window(clock, buckets, *window) if any(window) else clock.density(buckets)
    archived_buckets = [
        Bucket(begin_ms, file.first_position - 1, file.events)
        for begin_ms, file in zip(begins_ms, files_before_index, strict=True)
    ]
    pruned = cursor.pruned
    return {
        "at": instant_document(instant),
        "first": instant_at(first_position, first_ms),
        "last": instant_at(clock.position, clock.clock_ms),
        "now": time_text(log.now_ms()),
        "cluster": cluster,
        "archive": bool(cursor.files),
        "prunedBefore": pruned.position if pruned.files else None,
        "unread": [
            {
                "first": part.first_position,
                "last": part.last_position,
                "message": str(part),
                "remedy": part.remedy,
            }
            for part in log.unread.parts()
        ],
        "unreadLeftOut": log.unread.unlisted,  # a count
        "events": clock.events + sum(file.events for file in files_before_index),
        "density": [
            {
                "time": time_text(bucket.begin_ms),
                "position": bucket.position,
                "events": bucket.events,
            }
            for bucket in ([] if any(window) else archived_buckets) + density
        ],
    }


def _begin_ms(log: IndexedLog, file: FileSummary) -> int:
    """The time of the first segment, or of the last if the first cannot be read."""
    begin = file.first_position
    batches = log.view.sealed.segments(begin - 1, begin)
    first = [
        event for _, batch in batches for segment in batch for event in log.view.events_of(segment)
    ]
    return min(first[0].recorded_at_ms, file.clock_ms) if first else file.clock_ms


def _in_window(clock: LogClock, buckets: int, begin: str, end: str) -> list[Bucket]:
    begin_ms = time_ms_of(begin, "from") if begin else clock.first[1]
    end_ms = time_ms_of(end, "to") if end else clock.clock_ms + 1
    if end_ms <= begin_ms:
        raise BadInput(
            f"the end {time_text(end_ms)} is not after the start {time_text(begin_ms)}",
            subject="to",
            remedy="pass a later time as `to`, or an earlier time as `from`",
        )
    return clock.density(buckets, begin_ms, end_ms)
