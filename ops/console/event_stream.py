"""New events to many readers: one watch of the log for all, a bounded queue for each.

The watch runs while there are readers. A reader that falls ``BACKLOG_MAX`` events behind is ended
and connects again; ``Last-Event-ID`` says from where. What cannot be repeated is announced as a
gap, with a position of its own, so that a client does not request the same again.
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
from core.eventstore.log import LogReader
from core.process.retry import Backoff
from core.process.supervision import BackgroundTasks
from ops.console.events import EventPosition

READERS_MAX: Final = 64
BACKLOG_MAX: Final = 1_000
"""Events that wait for one reader."""

START_S_MAX: Final = 5.0
"""How long the first reader waits until the log is followed."""

AWAY_PAUSE_S: Final = 0.5


class Gap(NamedTuple):
    """In place of events: some were missed. What follows in the stream is after ``position``."""

    position: int


class EventReader:
    """One reader's events. ``is_open`` False: it was too slow, or the feed was closed."""

    def __init__(self) -> None:
        self.is_open = True
        self._events: deque[Recorded | Gap] = deque()
        self._last = EventPosition(0, 0)
        self._changed = asyncio.Event()

    def begin(self, events: Iterable[Recorded | Gap]) -> None:
        """Add what was missed, which its source limits and no client has had time to read."""
        self._events.extend(recorded for recorded in events if self._is_new(recorded))

    def put(self, recorded: Recorded | Gap) -> None:
        """Add an event, if it is newer than the last one; without space the reader ends."""
        if not self._is_new(recorded):
            return
        if len(self._events) >= BACKLOG_MAX:
            self.is_open = False
        elif self.is_open:
            self._events.append(recorded)
        self._changed.set()

    def _is_new(self, recorded: Recorded | Gap) -> bool:
        if isinstance(recorded, Gap):
            return True
        here = EventPosition(recorded.position, recorded.place)
        if here <= self._last:
            return False
        self._last = here
        return True

    def end(self) -> None:
        """No further events."""
        self.is_open = False
        self._changed.set()

    async def next_events(self, timeout_s: float) -> list[Recorded | Gap]:
        """What has come, gaps among it; none after the timeout or at the end."""
        if not self._events and self.is_open:
            self._changed.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
            except TimeoutError:
                return []
        return self.take()

    def take(self) -> list[Recorded | Gap]:
        """What has come until now."""
        events = [*self._events]
        self._events.clear()
        return events


class EventFeed:
    """The log as it grows."""

    def __init__(self, store: KeyValueStore, keys: Keys, log: IndexedLog) -> None:
        self._log_reader = LogReader(store, keys)
        self._log = log
        self._readers: set[EventReader] = set()
        self._tasks = BackgroundTasks("event feed")
        self._watch: asyncio.Task[None] | None = None
        self._following = asyncio.Event()
        self._begun = 0

    @asynccontextmanager
    async def open(self, after: EventPosition | None) -> AsyncIterator[EventReader]:
        """A reader of the events after a position, or of new ones only.

        Raises Overloaded for more than ``READERS_MAX`` readers, NotReady when etcd does not answer.
        """
        if len(self._readers) >= READERS_MAX:
            raise Overloaded(
                f"{READERS_MAX} clients read the stream of events, as many as are allowed",
                subject="events",
                remedy="close other pages, or read /events",
            )
        reader, live = EventReader(), EventReader()
        self._readers.add(live)
        try:
            await self._start()
            missed = await self._missed(after) if after is not None else []
            # From here on without a pause: what came in the meantime, then what comes.
            lost = [] if live.is_open else [Gap(self._begun)]
            reader.begin([*missed, *live.take(), *lost])
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
        """Have the log followed, so that nothing is missed after ``_begun``."""
        if self._watch is None or self._watch.done():
            self._following.clear()
            self._watch = self._tasks.start(self._follow())
        try:
            async with asyncio.timeout(START_S_MAX):
                await self._following.wait()
        except TimeoutError:
            raise NotReady("the log cannot be followed yet", remedy="check etcd") from None

    async def _missed(self, after: EventPosition) -> list[Recorded | Gap]:
        """The events after a position, from memory: ``RECENT_EVENTS`` at most, after a gap."""
        index = (await self._log.at_position(self._begun)).log
        recent = [*index.recent]
        events: list[Recorded | Gap] = [
            recorded
            for recorded in recent
            if EventPosition(recorded.position, recorded.place) > after
        ]
        begin = recent[0].position if recent else index.position
        has_all = index.clock.events <= len(recent) and after.position >= index.first_position
        return events if has_all or begin <= after.position else [Gap(begin), *events]

    async def _follow(self) -> None:
        """Publish what is written, and move ``_begun`` along; after an outage a gap, then go on."""
        backoff, was_away = Backoff(AWAY_PAUSE_S), False
        while True:
            try:
                cursor = await self._log_reader.cursor_now()
                self._begun = cursor.position
                if was_away:
                    self._publish(Gap(cursor.position))
                    was_away = False
                self._following.set()
                async for segments, _ in self._log_reader.follow(cursor):
                    for segment in segments:
                        for recorded in segment.events():
                            self._publish(recorded)
                        self._begun = segment.position
            except (Compacted, LogGap, LogCorrupt, StoreUnavailable):
                self._following.clear()
                was_away = True
                await backoff.wait()

    def _publish(self, recorded: Recorded | Gap) -> None:
        for reader in self._readers:
            reader.put(recorded)
