"""Lists and histories of executions as they were at a past instant. Reads only.

The head of a run (its stored state) is computed from the events up to the instant. A list has the
runs that were open at the instant, and those that had closed at most ``RETENTION_S`` before. Runs
that have left the store are read from the archive.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from itertools import takewhile
from threading import Lock
from typing import NamedTuple

from core.errors import ExecutionNotFound, LogCorrupt
from core.eventstore.kv import Get, KeyValue, KeyValueStore
from workflows.engine.client.visibility import Filter, Visibility, newest_first_key
from workflows.engine.run.head_projection import head_of_history
from workflows.engine.store.archive_files import ExecutionFiles, read_archived
from workflows.engine.store.history_reader import history_of
from workflows.engine.store.keys import WorkflowKeys
from workflows.engine.store.records import RunHead, reserved_head
from workflows.engine.store.unusable_values import DECODING_ERRORS
from workflows.engine.worker.retention import ARCHIVE_RETENTION_S, RETENTION_S
from workflows.model.errors import HistoryError, LimitExceeded
from workflows.model.events import HistoryEvent, WorkflowExecutionPaused, WorkflowExecutionStarted
from workflows.model.policies import ExecutionStatus

_TIME_DIGITS = 12
"""A run id begins with its start time in milliseconds, in hexadecimal."""

ARCHIVED_READ_MAX = 1_000
"""The limit of archived executions per list; the newest are read."""

HISTORIES_READ_MAX = 5_000
"""The limit of changed runs per list."""

HISTORIES_PER_READ = 64
"""etcd accepts 128 operations."""

DELETED_PERIOD_MS_MIN = 60_000
"""A list reports a period whose runs were deleted only if the period is longer."""

ARCHIVED_CACHED_MAX = 4_096
"""The limit of cached heads. An archived head never changes."""


class PastExecutions(NamedTuple):
    """Runs at an instant, the newest first, and what the list lacks.

    ``not_read``: archived runs beyond ``ARCHIVED_READ_MAX``. ``unreadable``: damaged runs.
    ``deleted_before_ms``: the list lacks runs that closed earlier and were deleted; 0: it
    lacks none.
    """

    heads: Sequence[RunHead]
    not_read: int = 0
    unreadable: int = 0
    deleted_before_ms: int = 0


class ArchivedHeads:
    """The heads of archived executions, cached. Safe to call from several threads."""

    def __init__(self, files: ExecutionFiles) -> None:
        self.files = files
        self._heads: OrderedDict[str, RunHead] = OrderedDict()
        self._lock = Lock()

    def head(self, run_id: str) -> RunHead | None:
        """The head of a run; None if the run is not archived. Blocks. Raises LogCorrupt."""
        with self._lock:
            head = self._heads.get(run_id)
            if head is not None:
                self._heads.move_to_end(run_id)
                return head
        execution = self.files.read(run_id)
        if execution is None:
            return None
        with self._lock:
            self._heads[run_id] = execution[0]
            while len(self._heads) > ARCHIVED_CACHED_MAX:
                self._heads.popitem(last=False)
        return execution[0]


class PastVisibility:
    """Reads executions as they were at ``at_ms``."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: WorkflowKeys,
        archive: ArchivedHeads,
        at_ms: int,
        now_ms: int,
    ) -> None:
        self._store = store
        self._keys = keys
        self._archive = archive
        self._at_ms = at_ms
        self._now_ms = now_ms
        self._closed_after_ms = at_ms - round(RETENTION_S * 1000)

    async def executions(self, query: Filter = Filter()) -> PastExecutions:
        """All executions that match at the instant. Raises StoreUnavailable, LimitExceeded."""
        started = Filter(
            query.workflow_type, id_prefix=query.id_prefix, started_ms=(0, self._at_ms + 1)
        )
        present = Visibility(self._store, self._keys)
        stored = [head async for head in present.heads(started)]
        stored_ids = {head.run_id for head in stored}
        archived_heads, not_read, unreadable = await asyncio.to_thread(
            self._archived_heads, stored_ids
        )
        known = stored + [head for head in archived_heads if started.matches(head)]
        past = [head for head in known if self._is_unchanged(head)]
        changed = [head for head in known if _changed_after(head, self._at_ms)]
        async for head, events in self._histories(changed):
            if not events:
                unreadable += 1
            elif (at_instant := head_at(head, events, self._at_ms)) is not None:
                past.append(at_instant)
        heads = sorted(filter(query.matches, past), key=newest_first_key)
        unreadable += len(present.left_out)
        return PastExecutions(heads, not_read, unreadable, self._deleted_before_ms())

    async def history(
        self, workflow_id: str, run_id: str = ""
    ) -> tuple[RunHead, list[HistoryEvent]]:
        """A run with its events up to the instant. ``run_id`` "": the newest run at the instant.

        Raises ExecutionNotFound, StoreUnavailable.
        """
        if not run_id:
            run_id = await self._newest_run(workflow_id)
        present = Visibility(self._store, self._keys, self._archive.files)
        head, events = await present.history(workflow_id, run_id)
        until = events_until(events, self._at_ms)
        past = head_at(head, events, self._at_ms) if events else None
        if past is None and not events and not _changed_after(head, self._at_ms):
            past = head  # the run has no events until a worker starts it
        if past is None:
            raise ExecutionNotFound(
                f"run {run_id} of workflow {workflow_id} started after the requested time",
                subject=workflow_id,
                remedy="choose a later time, or find an earlier run in the list",
            )
        return past, until

    async def _newest_run(self, workflow_id: str) -> str:
        past = await self.executions(Filter(id_prefix=workflow_id))
        for head in past.heads:
            if head.workflow_id == workflow_id:
                return head.run_id
        raise ExecutionNotFound(
            f"workflow {workflow_id} had no run at the requested time",
            subject=workflow_id,
            remedy="choose a time at which a run was open or had closed less than"
            f" {RETENTION_S / 3600:.0f} hours before; old runs are deleted from the archive",
        )

    def _is_unchanged(self, head: RunHead) -> bool:
        """Whether the list has the run's present head."""
        if _changed_after(head, self._at_ms):
            return False
        return head.is_open or head.closed_ms > self._closed_after_ms

    def _archived_heads(self, stored_ids: set[str]) -> tuple[list[RunHead], int, int]:
        """Read heads. Returns also the numbers of unread and of unreadable runs. Blocks."""
        run_ids = self._archive.files.runs_closed_after(self._closed_after_ms) - stored_ids
        started = sorted(
            (run_id for run_id in run_ids if _started_ms(run_id) <= self._at_ms), reverse=True
        )
        heads, unreadable = [], 0
        for run_id in started[:ARCHIVED_READ_MAX]:
            try:
                head = self._archive.head(run_id)
            except LogCorrupt:
                unreadable += 1
                continue
            if head is not None:
                heads.append(head)
        return heads, max(len(started) - ARCHIVED_READ_MAX, 0), unreadable

    async def _histories(
        self, heads: Sequence[RunHead]
    ) -> AsyncIterator[tuple[RunHead, list[HistoryEvent]]]:
        """Yield each run with its events, [] if they are unreadable."""
        if len(heads) > HISTORIES_READ_MAX:
            what = f"{len(heads):,} executions changed after the requested time, more than"
            raise LimitExceeded(
                f"{what} {HISTORIES_READ_MAX:,} (HISTORIES_READ_MAX): filter by type or id"
            )
        for begin in range(0, len(heads), HISTORIES_PER_READ):
            part = heads[begin : begin + HISTORIES_PER_READ]
            ranges = [Get(*self._keys.history(head.workflow_id, head.run_id)) for head in part]
            result = await self._store.read(ranges)
            for head, answer in zip(part, result.ranges, strict=True):
                yield head, await self._events(head, tuple(answer.kvs))

    async def _events(self, head: RunHead, segments: tuple[KeyValue, ...]) -> list[HistoryEvent]:
        """The events, from the archive if the store has none; [] if unreadable."""
        try:
            if segments:
                return history_of(segments)
            execution = await read_archived(self._archive.files, head.run_id)
        except (HistoryError, *DECODING_ERRORS):
            return []
        return execution[1] if execution is not None else []

    def _deleted_before_ms(self) -> int:
        """As in ``PastExecutions``."""
        kept_s = ARCHIVE_RETENTION_S if self._archive.files.exists() else RETENTION_S
        deleted_before_ms = self._now_ms - round(kept_s * 1000)
        deleted_period_ms = deleted_before_ms - self._closed_after_ms
        return deleted_before_ms if deleted_period_ms > DELETED_PERIOD_MS_MIN else 0


def head_at(head: RunHead, events: Sequence[HistoryEvent], at_ms: int) -> RunHead | None:
    """The head of a run at an instant; None before the start. ``events``: the whole history."""
    if head.started_ms > at_ms:
        return None
    if not _changed_after(head, at_ms):
        return head
    until = events_until(events, at_ms)
    if not until:
        first = events[0].attributes
        assert isinstance(first, WorkflowExecutionStarted), "a history begins with its start"
        return reserved_head(first, head.started_ms)
    past = head_of_history(until)
    reason = _pause_reason(until) if past.status is ExecutionStatus.PAUSED else ""
    return past._replace(reason=reason, started_ms=head.started_ms, traceparent=head.traceparent)


def events_until(events: Sequence[HistoryEvent], at_ms: int) -> list[HistoryEvent]:
    """The events of a history up to an instant."""
    return list(takewhile(lambda event: event.event_time_ms <= at_ms, events))


def _pause_reason(events: Sequence[HistoryEvent]) -> str:
    reasons = [
        event.attributes.reason
        for event in events
        if isinstance(event.attributes, WorkflowExecutionPaused)
    ]
    return reasons[-1] if reasons else ""


def _changed_after(head: RunHead, at_ms: int) -> bool:
    return max(head.last_ms, head.closed_ms) > at_ms


def _started_ms(run_id: str) -> int:
    return int(run_id[:_TIME_DIGITS], 16)
