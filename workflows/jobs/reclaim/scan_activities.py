"""The activities of reclaiming: one look at everything, and one chunk of releases.

A look reads the claims first and asks the cluster afterwards, in one activity: neither fits through
a payload, and a plan must be made from both at once. A release is fenced by what the look saw (I3):
repeated, late, or made by a worker that has lost its execution, it does nothing. A step that fails
is reported and the others go on; it comes again with the next look.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from core.domain.reclaim.deadlines import ReclaimDeadline
from core.domain.reclaim.decision_table import Rules
from core.domain.reclaim.reclaim_plan import ReclaimPlan, ReclaimStep, plan_scan
from core.errors import OrbweaverError
from core.eventstore.collector import collector_paused
from core.eventstore.state import read_ledger
from workflows.api import activity
from workflows.engine.store.faults import OF_ONE_EXECUTION
from workflows.jobs.reclaim.context import ReclaimContext
from workflows.jobs.reclaim.scan_states import ScanStateRef, ScanStates
from workflows.model.errors import ApplicationError

Begin = Callable[[ReclaimDeadline], Awaitable[None]]
"""Begins the execution of a Pod whose grace runs."""

BOOK_TTL_S_MIN: Final = 3_600
BOOK_INTERVALS: Final = 3
"""A book lives for so many scan intervals: longer than it takes to start a controller again."""

ATTEMPTS_MAX: Final = 3
"""At a chunk, within one look: what fails then waits for the next look."""

BEGUN_AT_ONCE: Final = 50
"""Executions of Pods whose grace runs; they share transactions."""

SHOWN_MAX: Final = 5
"""Releases and kept endpoints that a result tells in words; all others it counts."""

WORDS_CHARS_MAX: Final = 300

_log: Final = logging.getLogger(__name__)


class ScanObservation(NamedTuple):
    """What a look found. ``book`` has the rest.

    ``seen_s`` and ``look_again_s`` are Unix seconds; 0: nothing is waiting. ``kept``: endpoints
    that stay, ``suspects``: those of them that were seen once. ``samples``: why some stay.
    """

    book: ScanStateRef
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
    """The activities and what they need. ``begin`` gets the Pods whose grace runs."""

    def __init__(self, means: ReclaimContext, begin: Begin) -> None:
        ttl_s = max(BOOK_TTL_S_MIN, int(means.settings.scan_interval_s * BOOK_INTERVALS))
        self._means = means
        self._begin = begin
        self._books = ScanStates(means.store, means.keys, ttl_s)

    @activity.defn(name="reclaim-observe")
    async def observe(self, before: ScanStateRef, outdated: ScanStateRef) -> ScanObservation:
        """Look at everything once. ``before``: the last look's book; ``outdated``: to be dropped.

        Raises StoreUnavailable, OutcomeUnknown, Compacted, LogError, and what the facts raise.
        """
        await self._books.drop(outdated)
        with collector_paused():
            return await self._observe(before)

    async def _observe(self, before: ScanStateRef) -> ScanObservation:
        means = self._means
        claims_read = means.observer.moment()
        ledger = await read_ledger(means.store, means.keys)
        facts = await means.facts.facts(ledger, claims_read)
        rules = Rules(facts, means.settings, means.observer.now_s())
        sightings = await self._books.sightings(before)
        # A large cluster takes seconds, in which the worker must keep its leases.
        plan = await asyncio.to_thread(plan_scan, ledger, rules, sightings)
        book = await self._books.write(plan.observations, plan.steps)
        await self._begin_all(plan.traces[: means.settings.queue_max])
        return ScanObservation(
            book,
            ledger.position,
            facts.seen.unix_s,
            len(ledger.endpoints),
            len(ledger.claims),
            len(plan.steps),
            len(plan.kept),
            len(plan.observations) - len(plan.steps),
            plan.next_scan_s or 0.0,
            _why_kept(plan),
        )

    async def _begin_all(self, traces: Sequence[ReclaimDeadline]) -> None:
        for first in range(0, len(traces), BEGUN_AT_ONCE):
            some = traces[first : first + BEGUN_AT_ONCE]
            await asyncio.gather(*(self._begin_one(one) for one in some))

    async def _begin_one(self, one: ReclaimDeadline) -> None:
        """One Pod's execution that takes no more news must not stop the look at all others."""
        try:
            await self._begin(one)
        except OF_ONE_EXECUTION as error:
            _log.warning("%s was not told of what a look found: %s", "/".join(one.endpoint), error)

    @activity.defn(name="reclaim-release")
    async def release(self, book: ScanStateRef, part: int) -> ChunkDone:
        """Carry out one part of a book.

        Raises a failure that a retry helps, after all steps were tried, and remembers what is done;
        the last of ``ATTEMPTS_MAX`` tells it instead. ApplicationError when the book is gone.
        """
        steps = await self._books.steps(book, part)
        if steps is None:
            raise ApplicationError(f"book {book.name} is gone", type="BookGone", non_retryable=True)
        done = _remembered()
        todo = [number for number in range(len(steps)) if number not in done]
        outcomes = await asyncio.gather(
            *(self._means.releases.make(steps[number]) for number in todo),
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
        _raise_if_a_retry_helps(failed, done)
        return _told(steps, done, failed)


def _raise_if_a_retry_helps(failed: dict[int, OrbweaverError], done: dict[int, int]) -> None:
    again = next((error for error in failed.values() if error.retryable), None)
    if again is not None and activity.info().attempt < ATTEMPTS_MAX:
        activity.heartbeat(list(done.items()))
        raise again


def _remembered() -> dict[int, int]:
    """Step -> addresses released (-1: it was late), of the attempts before this one."""
    details = activity.info().heartbeat_details
    return {int(number): int(count) for number, count in details[0]} if details else {}


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
