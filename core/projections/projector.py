"""The projector: keeps a ``Projection`` up to date with the log.

It reads the state keys at one revision and applies the events after it. The state keys equal the
state computed from the log up to their revision (invariant I5 of
docs/contributing/architecture.md). After an interruption the projector continues from its cursor;
if the next segments have been moved to the archive, it reads the state keys again. Every replica of
the controller runs a projector, so that a new leader is up to date immediately. The projector does
not write; ``core.projections.publisher`` writes its checkpoint.

An event that this release cannot apply (malformed, or of a newer release) is listed in ``faults``.
Its transaction has also written the state keys, so the projector reads them again. The projection
stays correct, and is at most ``REBUILD_PAUSE_S`` late (docs/contributing/decisions/0022).
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
"""Seconds between two attempts while etcd is not available."""

REBUILD_PAUSE_S = 2.0
"""Seconds between two rebuilds from the state keys because of events that cannot be applied."""


class Lag(NamedTuple):
    """The lag behind the log: unread segments, and seconds since there were none."""

    segments: int
    seconds: float


NO_LAG = Lag(0, 0.0)


class Projector:
    """Updates ``projection``. A rebuild replaces the object: do not keep a reference to it.

    ``rebuilds``: the number of reads of the state keys. ``events``: the number of events applied.
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
        """Seconds since the last answer of etcd; all events before that are applied.

        Infinite before the first answer.
        """
        return self._monotonic() - self._last_response

    async def run(self) -> None:
        """Follow the log until cancelled. Raises StoreRejected, which an operator must resolve."""
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
        changes.add_all(self.projection.ledger)
        # The same list is used after a rebuild: the new projection takes it over.
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
        """Compare the cursor with the heads of all writers. Raises StoreUnavailable."""
        _, heads = await self._reader.heads()
        applied = self.cursor.seqs
        behind = sum(head.seq - applied.get(writer, 0) for writer, head in heads.items())
        now = self._monotonic()
        if self.ready and behind <= 0:
            self._without_lag_at = now
            return NO_LAG
        return Lag(max(behind, 0), now - self._without_lag_at)

    async def _resume(self) -> None:
        """Continue from the cursor, or rebuild from the state keys."""
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
            changes.add_all(before.ledger)
            changes.add_all(ledger)
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
        """Apply the events of a segment. Raises LogCorrupt, after which a rebuild is needed."""
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
