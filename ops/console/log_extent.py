"""The extent of the log, and its events over time: what a time slider shows. Pure."""

from __future__ import annotations

from typing import Final

from core.audit.indexed_log import IndexedLog, LogInstant
from core.audit.log_clock import Bucket, LogClock
from core.errors import BadInput
from ops.console.values import Document, instant_at, instant_document, time_ms_of, time_text

BUCKETS_DEFAULT: Final = 200
BUCKETS_MAX: Final = 1_000


def log_extent(
    log: IndexedLog, instant: LogInstant, cluster: str, buckets: int, window: tuple[str, str]
) -> Document:
    """``Log`` of the contract. ``window``: the texts of its begin and end, "" for the log's own.

    Raises BadInput.
    """
    clock, cursor = instant.log.clock, log.view.sealed.cursor
    earlier = [
        file
        for file in log.view.sealed.summaries()
        if file.last_position <= instant.log.first_position
    ]
    first_position, first_ms = clock.first
    if earlier:
        first_position, first_ms = earlier[0].first_position, earlier[0].clock_ms
    density = _in_window(clock, buckets, *window) if any(window) else clock.density(buckets)
    before = [Bucket(file.clock_ms, file.first_position - 1, file.events) for file in earlier]
    pruned = cursor.pruned
    return {
        "at": instant_document(instant),
        "first": instant_at(first_position, first_ms),
        "last": instant_at(clock.position, clock.clock_ms),
        "now": time_text(log.now_ms()),
        "cluster": cluster,
        "archive": bool(cursor.files),
        "prunedBefore": pruned.position if pruned.files else None,
        "events": clock.events + sum(file.events for file in earlier),
        "density": [
            {
                "time": time_text(bucket.begin_ms),
                "position": bucket.position,
                "events": bucket.events,
            }
            for bucket in ([] if any(window) else before) + density
        ],
    }


def _in_window(clock: LogClock, buckets: int, begin: str, end: str) -> list[Bucket]:
    begin_ms = time_ms_of(begin, "from") if begin else clock.first[1]
    end_ms = time_ms_of(end, "to") if end else clock.clock_ms + 1
    if end_ms <= begin_ms:
        raise BadInput("the end is not after the begin", subject="to")
    return clock.density(buckets, begin_ms, end_ms)
