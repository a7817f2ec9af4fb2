"""The log's extent and its events over time, for the time slider."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from core.archive.sealed_log import FileSummary
from core.audit.indexed_log import IndexedLog, LogInstant
from core.audit.log_clock import Bucket
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
    archived = _ArchivedEvents(begins_ms, files_before_index)
    if any(window):
        begin_ms, end_ms = _window_ms(window, first_ms, clock.clock_ms + 1)
        density = archived.added_to(clock.density(buckets, begin_ms, end_ms), end_ms)
    else:
        density = archived.buckets() + clock.density(buckets)
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
            for bucket in density
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


def _window_ms(window: tuple[str, str], first_ms: int, last_ms: int) -> tuple[int, int]:
    """Start and end of the histogram; by default ``first_ms`` and ``last_ms``. Raises BadInput."""
    begin, end = window
    begin_ms = time_ms_of(begin, "from") if begin else first_ms
    end_ms = time_ms_of(end, "to") if end else last_ms
    if end_ms <= begin_ms:
        raise BadInput(
            f"the end {time_text(end_ms)} is not after the start {time_text(begin_ms)}",
            subject="to",
            remedy="pass a later time as `to`, or an earlier time as `from`",
        )
    return begin_ms, end_ms


class _ArchivedEvents:
    """The events of the files before the index, over time."""

    def __init__(self, begins_ms: Sequence[int], files: Sequence[FileSummary]) -> None:
        self._begins_ms = begins_ms
        self._files = files
        self._events_before = list(accumulate((file.events for file in files), initial=0))

    def buckets(self) -> list[Bucket]:
        """One bucket for each file."""
        return [
            Bucket(begin_ms, file.first_position - 1, file.events)
            for begin_ms, file in zip(self._begins_ms, self._files, strict=True)
        ]

    def added_to(self, buckets: Sequence[Bucket], end_ms: int) -> list[Bucket]:
        """The buckets of the index, up to ``end_ms``, with the events of the files."""
        edges_ms = [*(bucket.begin_ms for bucket in buckets), end_ms]
        counts = [self._count_before(edge_ms) for edge_ms in edges_ms]
        return [
            bucket._replace(
                position=self._position_at(bucket),
                events=bucket.events + counts[number + 1] - counts[number],
            )
            for number, bucket in enumerate(buckets)
        ]

    def _count_before(self, time_ms: int) -> int:
        """The number of events, as if each file's events were evenly distributed in time."""
        index = bisect_right(self._begins_ms, time_ms) - 1
        if index < 0:
            return 0
        file, begin_ms = self._files[index], self._begins_ms[index]
        length_ms = file.clock_ms + 1 - begin_ms
        part_ms = min(time_ms - begin_ms, length_ms)
        return self._events_before[index] + file.events * part_ms // length_ms

    def _position_at(self, bucket: Bucket) -> int:
        """The last position before the file in which the bucket begins, or the bucket's own."""
        if not self._files or bucket.begin_ms > self._files[-1].clock_ms:
            return bucket.position
        index = bisect_right(self._begins_ms, bucket.begin_ms) - 1
        return self._files[max(index, 0)].first_position - 1
