"""The activities of reclaiming: one look at everything, and one chunk of releases.

A look reads the claims first and asks the cluster afterwards, in one activity: neither fits through
a payload, and a plan must be made from both at once. A release is fenced by what the look saw (I3):
repeated, late, or made by a worker that has lost its execution, it does nothing. A step that fails
is reported and the others go on; it comes again with the next look.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from core.domain.events import Cause
from core.domain.reclaim.judging import Rules
from core.domain.reclaim.planning import ReclaimPlan, ReclaimStep, plan_scan
from core.domain.reclaim.settings import ReclaimSettings
from core.errors import OrbweaverError, WriterFenced
from core.service.cooldown import COOL_DOWN_S, CoolDown
from core.service.reclaimer import Reclaimer
from core.service.releaser import Releaser
from core.store.keys import Keys
from core.store.kv import KeyValueStore
from core.store.state import read_ledger
from core.store.writer import Writer
from workflows.api import activity
from workflows.jobs.books import BookRef, Books
from workflows.jobs.facts import FactsSource
from workflows.model.errors import ApplicationError

WRITER: Final = "reclaim"
"""One name for all controllers: only one of them owns the execution, and fences who had it."""

ACTOR: Final = "orbweaver-controller/reclaim"

BOOK_TTL_S_MIN: Final = 3_600
BOOK_INTERVALS: Final = 3
"""A book lives for so many scan intervals: longer than it takes to start a controller again."""

ATTEMPTS_MAX: Final = 3
"""At a chunk, within one look: what fails then waits for the next look."""

SHOWN_MAX: Final = 5
"""Releases and kept endpoints that a result tells in words; all others it counts."""

WORDS_CHARS_MAX: Final = 300


class Observation(NamedTuple):
    """What a look found. ``book`` has the rest.

    ``seen_s`` and ``look_again_s`` are Unix seconds; 0: nothing is waiting. ``kept``: endpoints
    that stay, ``suspects``: those of them that were seen once. ``samples``: why some stay.
    """

    book: BookRef
    revision: int
    seen_s: float
    endpoints: int
    claims: int
    steps: int
    kept: int
    suspects: int
    look_again_s: float = 0.0
    samples: tuple[str, ...] = ()


class PausedStep(NamedTuple):
    """A release that failed. It waits for the next look."""

    endpoint: str
    why: str


class ChunkDone(NamedTuple):
    """What became of a chunk: addresses released, steps that were late, steps that failed."""

    released: int
    late: int
    paused: tuple[PausedStep, ...] = ()
    samples: tuple[str, ...] = ()


class ReclaimActivities:
    """The activities and what they need. ``now_s``: the clock of observations, Unix seconds."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        facts: FactsSource,
        settings: ReclaimSettings,
        *,
        now_s: Callable[[], float] = time.time,
        cool_down_s: int = COOL_DOWN_S,
    ) -> None:
        ttl_s = max(BOOK_TTL_S_MIN, int(settings.scan_interval_s * BOOK_INTERVALS))
        self._store = store
        self._keys = keys
        self._facts = facts
        self._settings = settings
        self._now_s = now_s
        self._books = Books(store, keys, ttl_s)
        self._writer: Writer | None = None
        self._opening = asyncio.Lock()
        self._cooldown = CoolDown(store, cool_down_s)

    @activity.defn(name="reclaim-observe")
    async def observe(self, before: BookRef, outdated: BookRef) -> Observation:
        """Look at everything once. ``before``: the last look's book; ``outdated``: to be dropped.

        Raises StoreUnavailable, OutcomeUnknown, Compacted, LogError, and what the facts raise.
        """
        await self._books.drop(outdated)
        read_s = self._now_s()
        ledger = await read_ledger(self._store, self._keys)
        facts = await self._facts.facts(ledger, read_s)
        rules = Rules(facts, self._settings, self._now_s())
        sightings = await self._books.sightings(before)
        # A large cluster takes seconds, in which the worker must keep its leases.
        plan = await asyncio.to_thread(plan_scan, ledger, rules, sightings)
        book = await self._books.write(plan.sightings, plan.steps)
        return Observation(
            book,
            ledger.position,
            facts.seen_s,
            len(ledger.endpoints),
            len(ledger.claims),
            len(plan.steps),
            len(plan.kept),
            len(plan.sightings) - len(plan.steps),
            plan.look_again_s or 0.0,
            _why_kept(plan),
        )

    @activity.defn(name="reclaim-release")
    async def release(self, book: BookRef, part: int) -> ChunkDone:
        """Carry out one part of a book.

        Raises a failure that a retry helps, after all steps were tried, and remembers what is done;
        the last of ``ATTEMPTS_MAX`` tells it instead. ApplicationError when the book is gone.
        """
        steps = await self._books.steps(book, part)
        if steps is None:
            raise ApplicationError(f"book {book.name} is gone", type="BookGone", non_retryable=True)
        reclaimer = Reclaimer(self._store, self._keys, *await self._services())
        done = _remembered()
        todo = [number for number in range(len(steps)) if number not in done]
        outcomes = await asyncio.gather(
            *(reclaimer.reclaim(steps[number], _cause()) for number in todo),
            return_exceptions=True,
        )
        failed: dict[int, OrbweaverError] = {}
        for number, outcome in zip(todo, outcomes, strict=True):
            if isinstance(outcome, OrbweaverError):
                failed[number] = outcome
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                done[number] = len(outcome.addresses) if outcome.revision else -1
        await self._raise_if_a_retry_helps(failed, done)
        return _told(steps, done, failed)

    async def close(self) -> None:
        """Give the writer back."""
        async with self._opening:
            writer, self._writer = self._writer, None
        if writer is not None:
            await writer.close()

    async def _services(self) -> tuple[Writer, Releaser, CoolDown]:
        async with self._opening:
            if self._writer is None:
                writer = Writer(self._store, self._keys, WRITER)
                await writer.open()
                self._writer = writer
            found = self._writer
        return found, Releaser(self._store, self._keys, found, self._cooldown), self._cooldown

    async def _raise_if_a_retry_helps(
        self, failed: dict[int, OrbweaverError], done: dict[int, int]
    ) -> None:
        fenced = next((each for each in failed.values() if isinstance(each, WriterFenced)), None)
        if fenced is not None:
            await self.close()
        again = fenced or next((each for each in failed.values() if each.retryable), None)
        if again is not None and activity.info().attempt < ATTEMPTS_MAX:
            activity.heartbeat(list(done.items()))
            raise again


def _remembered() -> dict[int, int]:
    """Step -> addresses released (-1: it was late), of the attempts before this one."""
    details = activity.info().heartbeat_details
    return {int(number): int(count) for number, count in details[0]} if details else {}


def _cause() -> Cause:
    info = activity.info()
    return Cause(ACTOR, correlation_id=info.run_id, causation_id=info.idempotency_key)


def _told(
    steps: Sequence[ReclaimStep], done: dict[int, int], failed: dict[int, OrbweaverError]
) -> ChunkDone:
    samples = [
        f"{' '.join(steps[number].addresses) or '-'} of {'/'.join(steps[number].key)}, "
        f"{steps[number].evidence}"[:WORDS_CHARS_MAX]
        for number, count in sorted(done.items())
        if count >= 0
    ]
    paused = tuple(
        PausedStep("/".join(steps[number].key), str(error)[:WORDS_CHARS_MAX])
        for number, error in failed.items()
    )
    released = sum(count for count in done.values() if count > 0)
    late = sum(count < 0 for count in done.values())
    return ChunkDone(released, late, paused, tuple(samples[:SHOWN_MAX]))


def _why_kept(plan: ReclaimPlan) -> tuple[str, ...]:
    return tuple(
        f"{' '.join(one.addresses) or '-'} of {'/'.join(one.key)}: {one.why}"[:WORDS_CHARS_MAX]
        for one in plan.kept[:SHOWN_MAX]
    )
