"""Streams new events to many readers, which share one watch of the log.

The watch runs while there are readers. A reader that falls ``BACKLOG_MAX`` events behind is
disconnected. The client connects again with ``Last-Event-ID``, the id of the last event received.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from core.audit.indexed_log import IndexedLog
from core.domain.events import Recorded
from core.errors import Compacted, LogCorrupt, LogGap, NotReady, Overloaded, StoreUnavailable
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.eventstore.log_reader import LogReader, Segment
from core.process.retry import Backoff
from core.process.supervision import BackgroundTasks
from ops.console.events import EventPosition

READERS_MAX: Final = 64
BACKLOG_MAX: Final = 1_000
"""Events in the queue of one reader."""

START_S_MAX: Final = 5.0
"""How long a reader waits for the start of the watch."""

RECONNECT_PAUSE_S: Final = 0.5
"""The first pause after an outage; later pauses are longer."""


class Gap(NamedTuple):
    """Replaces events that cannot be sent. The stream continues after ``position``."""

    position: int


class EventReader:
    """The queue of one reader. ``is_open`` False: the queue overflowed, or the feed was closed."""

    def __init__(self) -> None:
        self.is_open = True
        self._events: deque[Recorded | Gap] = deque()
        self._last = EventPosition(0, 0)
        self._changed = asyncio.Event()

    def begin(self, events: Iterable[Recorded | Gap]) -> None:
        """Add the events from before the reader opened. ``BACKLOG_MAX`` does not limit them."""
        self._events.extend(recorded for recorded in events if self._advance(recorded))

    def put(self, recorded: Recorded | Gap) -> None:
        """Add an event, or close the reader if the queue is full; ignore an old event."""
        if not self._advance(recorded):
            return
        if len(self._events) >= BACKLOG_MAX:
            self.is_open = False
        elif self.is_open:
            self._events.append(recorded)
        self._changed.set()

    def _advance(self, recorded: Recorded | Gap) -> bool:
        """Whether this is a gap, or an event after ``_last``. Sets ``_last`` to the event."""
        if isinstance(recorded, Gap):
            return True
        event_position = EventPosition(recorded.position, recorded.index_in_segment)
        if event_position <= self._last:
            return False
        self._last = event_position
        return True

    def end(self) -> None:
        """Accept no further events."""
        self.is_open = False
        self._changed.set()

    async def next_events(self, timeout_s: float) -> list[Recorded | Gap]:
        """Wait for events and take them; an empty list after the timeout or at the end."""
        if not self._events and self.is_open:
            self._changed.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
            except TimeoutError:
                return []
        return self.take()

    def take(self) -> list[Recorded | Gap]:
        """Take the queued events."""
        events = [*self._events]
        self._events.clear()
        return events


class EventFeed:
    """Follows the log and passes new events to all readers."""

    def __init__(self, store: KeyValueStore, keys: Keys, log: IndexedLog) -> None:
        self._log_reader = LogReader(store, keys)
        self._log = log
        self._readers: set[EventReader] = set()
        self._tasks = BackgroundTasks("event feed")
        self._watch: asyncio.Task[None] | None = None
        self._following = asyncio.Event()
        self._read_up_to = 0

    @asynccontextmanager
    async def open(self, after: EventPosition | None) -> AsyncIterator[EventReader]:
        """Open a reader of the events after a position; ``after`` None: only new events.

        Raises Overloaded, or NotReady if etcd does not answer.
        """
        if len(self._readers) >= READERS_MAX:
            raise Overloaded(
                f"{READERS_MAX} clients read the stream of events, which is the limit",
                subject="events",
                remedy="close other pages, or read /events",
            )
        reader, live = EventReader(), EventReader()
        self._readers.add(live)
        try:
            await self._start()
            missed = await self._missed_events(after) if after is not None else []
            # ``live`` has the events since the start of the watch. An await before ``reader``
            # replaces ``live`` would lose events.
            overflow_gap = [] if live.is_open else [Gap(self._read_up_to)]
            reader.begin([*missed, *live.take(), *overflow_gap])
            self._readers.discard(live)
            self._readers.add(reader)
            yield reader
        finally:
            self._readers -= {reader, live}
            if not self._readers and self._watch is not None:
                self._watch.cancel()
                self._watch = None
                self._following.clear()

    async def close(self) -> None:
        """End every reader and the watch."""
        for reader in self._readers:
            reader.end()
        await self._tasks.close()

    async def _start(self) -> None:
        """Start the watch, and wait until it follows the log. Raises NotReady."""
        if self._watch is None or self._watch.done():
            self._following.clear()
            self._watch = self._tasks.start(self._follow())
        try:
            async with asyncio.timeout(START_S_MAX):
                await self._following.wait()
        except TimeoutError:
            raise NotReady(
                "the watch of the log has not started yet",
                remedy="check etcd with `orbctl status`, then try again",
            ) from None

    async def _missed_events(self, after: EventPosition) -> list[Recorded | Gap]:
        """The events after a position; a gap replaces events that are not in memory."""
        index = (await self._log.at_position(self._read_up_to)).log
        recent = [*index.recent]
        events: list[Recorded | Gap] = [
            recorded
            for recorded in recent
            if EventPosition(recorded.position, recorded.index_in_segment) > after
        ]
        if recent:  # may lack the first events of its oldest segment
            gap = Gap(recent[0].position - 1)
            before_recent = EventPosition(recent[0].position, recent[0].index_in_segment - 1)
        else:
            gap, before_recent = Gap(index.position), EventPosition(index.position, 0)
        # Whether ``recent`` has every event of the index, and the index begins before ``after``.
        has_all = index.clock.events <= len(recent) and after.position >= index.first_position
        return events if has_all or before_recent <= after else [gap, *events]

    async def _follow(self) -> None:
        """Publish new events and advance ``_read_up_to``; after an outage, publish a gap first."""
        backoff, had_outage = Backoff(RECONNECT_PAUSE_S), False
        while True:
            try:
                cursor = await self._log_reader.cursor_now()
                self._read_up_to = cursor.position
                if had_outage:
                    self._publish(Gap(cursor.position))
                    had_outage = False
                self._following.set()
                async for segments, _ in self._log_reader.follow(cursor):
                    for segment in segments:
                        self._publish_segment(segment)
                        self._read_up_to = segment.position
            except (Compacted, LogGap, LogCorrupt, StoreUnavailable):
                self._following.clear()
                had_outage = True
                await backoff.wait()

    def _publish_segment(self, segment: Segment) -> None:
        try:
            events = segment.events()
        except LogCorrupt as error:
            self._log.unread.note(segment.position, segment.position, error)
            self._publish(Gap(segment.position))
            return
        for recorded in events:
            self._publish(recorded)

    def _publish(self, recorded: Recorded | Gap) -> None:
        for reader in self._readers:
            reader.put(recorded)
