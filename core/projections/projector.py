"""The projector: keeps a ``Projection`` up to date with the log.

The projector reads the state keys at one revision and applies the events after this revision. State
keys equal the state computed from the log (invariant I5, docs/contributing/architecture.md). After
an interruption the projector continues from its cursor, or reads the state keys again if the next
segments are in the archive. Every controller replica runs a projector, so that a new leader is up
to date.

An event that this release cannot apply is listed in ``faults``. The event's transaction has also
written the state keys, so the projector reads them again. The projection stays correct, and is at
most ``REBUILD_PAUSE_S`` late (docs/contributing/decisions/0022).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from core.errors import Compacted, LogCorrupt, LogGap, StoreUnavailable
from core.eventstore.codec import DECODING_ERRORS, SEGMENT_REMEDY, error_text
from core.eventstore.keys import Keys, key_text
from core.eventstore.kv import KeyValueStore
from core.eventstore.log_reader import LOG_START, Cursor, LogReader, Segment
from core.eventstore.state_reader import read_ledger
from core.eventstore.undecodable_values import Faults
from core.process.retry import Backoff
from core.projections.change_buffer import ChangeBuffer
from core.projections.projection import Projection

UNAVAILABLE_PAUSE_S = 0.5

REBUILD_PAUSE_S = 2.0
"""The shortest time between two rebuilds because of events that cannot be applied."""


class Lag(NamedTuple):
    """The number of unread segments of the log, and the seconds since this number was 0."""

    segments: int
    seconds: float


NO_LAG = Lag(0, 0.0)


class Projector:
    """Updates ``projection``, which a rebuild replaces: do not keep a reference to it.

    ``rebuilds``: how often the state keys were read. ``events``: how many events were applied.
    """

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        faults: Faults | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.faults = Faults() if faults is None else faults
        self.projection = Projection()
        self.cursor: Cursor = LOG_START
        self.ready = False
        self.rebuilds = 0
        self.events = 0
        self._store = store
        self._keys = keys
        self._reader = LogReader(store, keys, self.faults)
        self._monotonic = monotonic
        self._without_lag_at = monotonic()
        self._built_at = -REBUILD_PAUSE_S
        self._is_stale = False
        self._last_response = -math.inf
        self._advanced = asyncio.Condition()

    def age_s(self) -> float:
        """Seconds since the last answer of etcd; infinite before the first answer.

        All events before that answer are applied.
        """
        return self._monotonic() - self._last_response

    async def run(self) -> None:
        """Follow the log until cancelled. Raises StoreRejected."""
        backoff = Backoff(UNAVAILABLE_PAUSE_S)
        while True:
            try:
                await self._resume()
                async for segments, cursor in self._reader.follow(self.cursor):
                    await self._advance(segments, cursor)
            except (Compacted, LogGap):
                self.ready = False
            except LogCorrupt:  # reported where it was raised
                self._is_stale = True
                await asyncio.sleep(self._built_at + REBUILD_PAUSE_S - self._monotonic())
            except StoreUnavailable:
                await backoff.wait()

    @contextmanager
    def follow(self) -> Iterator[ChangeBuffer]:
        """A buffer with the names of all objects, to which each later change adds a name."""
        changes = ChangeBuffer()
        changes.add_names_of(self.projection.ledger)
        # A rebuild gives this list to the new projection.
        followers = self.projection.followers
        followers.append(changes)
        try:
            yield changes
        finally:
            followers.remove(changes)

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; it is checked after every change of the projection."""
        async with self._advanced:
            await self._advanced.wait_for(condition)

    async def measure_lag(self) -> Lag:
        """Compare the cursor with the newest segment of each writer. Raises StoreUnavailable."""
        _, heads = await self._reader.heads()
        applied_seqs = self.cursor.seqs
        unread_segments = sum(
            head.seq - applied_seqs.get(writer, 0) for writer, head in heads.items()
        )
        now = self._monotonic()
        if self.ready and unread_segments <= 0:
            self._without_lag_at = now
            return NO_LAG
        return Lag(max(unread_segments, 0), now - self._without_lag_at)

    async def _resume(self) -> None:
        if self.ready and not self._is_stale:
            await self._advance(*await self._reader.catch_up(self.cursor))
        else:
            await self._load()

    async def _load(self) -> None:
        revision, heads = await self._reader.heads()
        ledger = await read_ledger(self._store, self._keys, revision=revision, faults=self.faults)
        before = self.projection
        projection = Projection(ledger)
        projection.followers = before.followers
        for changes in projection.followers:
            changes.add_names_of(before.ledger)
            changes.add_names_of(ledger)
        self.projection = projection
        self.cursor = Cursor(revision, {writer: head.seq for writer, head in heads.items()})
        self.rebuilds += 1
        self.ready = True
        self._is_stale = False
        self._built_at = self._without_lag_at = self._last_response = self._monotonic()
        await self._notify()

    async def _advance(self, segments: list[Segment], cursor: Cursor) -> None:
        for segment in segments:
            self._apply(segment)
        self.cursor = cursor
        self._last_response = self._monotonic()
        await self._notify()

    def _apply(self, segment: Segment) -> None:
        """Raises LogCorrupt, after which a rebuild is needed."""
        try:
            events = segment.events()
            self.projection.apply_all(events)
        except (LogCorrupt, *DECODING_ERRORS) as error:
            key = key_text(self._keys, self._keys.log(segment.writer, segment.seq))
            why = error.message if isinstance(error, LogCorrupt) else error_text(error)
            message = f"segment {key} cannot be applied: {why}"
            corrupt = LogCorrupt(message, subject=key, remedy=SEGMENT_REMEDY)
            self.faults.report("segment", key, corrupt)
            raise corrupt from error
        self.events += len(events)

    async def _notify(self) -> None:
        async with self._advanced:
            self._advanced.notify_all()
