"""Finds the index in memory that has the state of a log at an instant.

One ``LogIndex`` covers a window of the log. Each query first adds new events to the newest window.
For an earlier instant, one archive file is read as a window, from the snapshot before the instant.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Final, NamedTuple

from core.archive.archive_directory import Files
from core.archive.archiver import LIVE_EVENTS_MAX
from core.archive.replay import LogView, open_log
from core.archive.sealed_log import FileSummary, SealedLog
from core.archive.unread_parts import UnreadPartList
from core.audit.log_index import LogIndex
from core.domain.events import Recorded
from core.errors import BadInput, Compacted, LogCorrupt, LogGap, PrunedAway
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.eventstore.log_reader import LiveLog
from core.eventstore.writer import unix_ms
from core.process.concurrency import SharedWork

WINDOW_EVENTS_MAX: Final = 2_000_000
"""The most events in a new index: some 150 MB. An index that has grown by half is replaced;
meanwhile both are in memory."""

OLD_WINDOWS_MAX: Final = 2
"""How many earlier windows are kept in memory. Each covers one archive file."""

FRESH_S: Final = 0.2
"""The shortest time between two reads of the end of the log."""

UNREAD_RECHECK_S: Final = 30.0
"""The shortest time between two tries to read unreadable parts."""

TRIES_MAX: Final = 3
"""The most tries to read new events. A try fails if an archiver seals the events meanwhile."""


class LogInstant(NamedTuple):
    """An instant of the log, and the index that has the state at this instant.

    ``time_ms``: the requested time, or the log's clock at the requested position.
    """

    log: LogIndex
    position: int
    time_ms: int
    is_now: bool = False


class IndexedLog:
    """The log of one cluster with its indexes."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        files: Files,
        *,
        now_ms: Callable[[], int] = unix_ms,
        window_events_max: int = WINDOW_EVENTS_MAX,
    ) -> None:
        self._store = store
        self._keys = keys
        self._files = files
        self._window_events_max = window_events_max
        self.unread = UnreadPartList()
        """The parts of the log that cannot be read. The indexes lack their events."""
        self._view: LogView | None = None
        self._index: LogIndex | None = None
        self._next: LogIndex | None = None  # replaces ``_index`` when it has read the log
        self._old: dict[int, LogIndex] = {}
        self._read_at = float("-inf")
        self._rechecked_at = float("-inf")
        self._reached = 0  # the revision up to which the index was read
        self._work: SharedWork[str | int, LogIndex] = SharedWork()
        self.now_ms = now_ms

    @property
    def view(self) -> LogView:
        """The log as of the last read."""
        assert self._view is not None, "the log was not read yet"
        return self._view

    async def newest(self) -> LogIndex:
        """The index of the newest window, read at most ``FRESH_S`` ago.

        Raises LogCorrupt, LogGap, Compacted, StoreUnavailable.
        """
        loop = asyncio.get_running_loop()
        if self._index is None or loop.time() - self._read_at >= FRESH_S:
            return await self._work.join("newest", self._read_new)
        return self._index

    async def now(self) -> LogInstant:
        """The current instant."""
        index = await self.newest()
        return LogInstant(index, index.position, self.now_ms(), is_now=True)

    async def at_position(self, position: int) -> LogInstant:
        """The instant after the events at a position.

        Raises PrunedAway, or BadInput if the log is shorter.
        """
        index = self._index
        if index is None or position > index.position:
            index = await self.newest()
        for _ in range(2):  # the first read may have begun before the position existed
            if position > self._reached:
                index = await self._work.join("newest", self._read_new)
        last = max(index.position, self._reached)
        if not 0 <= position <= last:
            raise BadInput(
                f"the log has no position {position}; it has reached {last}",
                subject="at",
                remedy=f"name a position from 0 to {last}",
            )
        if position < index.first_position:
            index = await self._older_index(position)
        return LogInstant(index, position, index.clock.time_of(position))

    async def at_time(self, time_ms: int) -> LogInstant:
        """The last instant at which the log's clock is not after this time. Raises PrunedAway."""
        time_ms = max(time_ms, 0)
        index = self._index
        if index is None or time_ms >= index.clock.clock_ms:
            index = await self.newest()
        if time_ms < index.clock.base_ms:
            files = self.view.sealed.summaries()
            before = [file for file in files if file.clock_ms <= time_ms]
            begin = before[-1].last_position if before else self.view.sealed.cursor.pruned.position
            index = await self._older_index(begin)
            if time_ms < index.clock.base_ms:
                self._check_not_pruned(-1)  # the time is before the oldest snapshot
        return LogInstant(index, index.clock.position_at(time_ms), min(time_ms, self.now_ms()))

    def events_between(
        self, index: LogIndex, after: int, upto: int
    ) -> AsyncIterator[list[Recorded]]:
        """The events with positions in (after, upto], segment by segment."""
        return self._part_of_log(index, after, upto).events(after, upto)

    def _part_of_log(self, index: LogIndex, after: int, upto: int) -> LogView:
        view = self.view
        # ``begin``: writer -> the number of the writer's last segment up to ``after``.
        live, begin = view.live, index.seqs_at(after)
        sealed = {
            writer: max(seq, begin.get(writer, 0))
            for writer, seq in view.sealed.cursor.seqs.items()
        }
        heads = dict(live.heads)
        if upto < index.position:
            heads |= {
                writer: seq
                for writer, seq in index.seqs_at(upto).items()
                if seq < heads.get(writer, 0)
            }
        part = LiveLog(self._store, self._keys, live.revision, heads, {**begin, **sealed})
        return LogView(view.sealed, part, self.now_ms)

    async def _read_new(self) -> LogIndex:
        for _ in range(TRIES_MAX - 1):
            with suppress(Compacted, LogGap):  # the events were sealed meanwhile: try again
                return await self._read_view()
        return await self._read_view()

    async def _read_view(self) -> LogIndex:
        self._view = view = await open_log(
            self._store, self._keys, self._files, now_ms=self.now_ms, unread=self.unread
        )
        if await self._can_read_an_unread_part(view):
            self.unread.forget()
            self._index = self._next = None  # the indexes lack the events of the part
            self._old.clear()
        index = await self._index_to_read(view)
        await index.read(self._part_of_log(index, index.position, view.revision))
        self._index, self._next = index, None
        self._read_at = asyncio.get_running_loop().time()
        self._reached = view.revision
        return index

    async def _can_read_an_unread_part(self, view: LogView) -> bool:
        now = asyncio.get_running_loop().time()
        if not len(self.unread) or now - self._rechecked_at < UNREAD_RECHECK_S:
            return False
        self._rechecked_at = now
        whole = LogView(SealedLog(self._files, view.sealed.cursor), view.live, self.now_ms)
        for part in self.unread.parts():
            with suppress(LogCorrupt):
                async for _ in whole.events(part.first_position - 1, part.last_position):
                    pass
                return True
        return False

    async def _index_to_read(self, view: LogView) -> LogIndex:
        """The current index; a new one if it is too large, or events after its end were pruned."""
        events_max = self._window_events_max + self._window_events_max // 2 + LIVE_EVENTS_MAX
        pruned = view.sealed.cursor.pruned.position
        index = self._index
        if index is not None and index.clock.events <= events_max and index.position >= pruned:
            return index
        if self._next is None or self._next.position < pruned:
            self._next = await asyncio.to_thread(self._new_index, view)
        return self._next

    def _new_index(self, view: LogView) -> LogIndex:
        remaining_events = self._window_events_max
        base = view.sealed.cursor.position
        for file in reversed(view.sealed.summaries()):
            remaining_events -= file.events
            if remaining_events < 0:
                return LogIndex(view.sealed.snapshot_up_to(base))
            base = file.first_position - 1
        return LogIndex(view.sealed.first_state())

    async def _older_index(self, position: int) -> LogIndex:
        """The index of an earlier window that has the position. Raises PrunedAway."""
        self._check_not_pruned(position)
        for index in self._old.values():
            # The last position of a window belongs to the next window.
            if index.first_position <= position < index.position:
                return index
        files = self.view.sealed.summaries()
        file = next(file for file in files if file.last_position > position)
        return await self._work.join(file.number, lambda: self._read_old(position, file))

    async def _read_old(self, position: int, file: FileSummary) -> LogIndex:
        sealed = self.view.sealed
        index = await asyncio.to_thread(lambda: LogIndex(sealed.snapshot_up_to(position)))
        await index.read(self.view, file.last_position)
        self._old[file.number] = index
        while len(self._old) > OLD_WINDOWS_MAX:
            del self._old[next(iter(self._old))]
        return index

    def _check_not_pruned(self, position: int) -> None:
        pruned = self.view.sealed.cursor.pruned
        if pruned.files and position < pruned.position:
            raise PrunedAway(
                f"the archive was pruned: no state before position {pruned.position} is known",
                subject="at",
                remedy=f"ask for position {pruned.position} or a later one, or read a copy of the"
                " archive from before the pruning",
            )
