"""The activities of the reclaim scan: scan all claims, and make one chunk of releases.

A scan reads the claims first and the cluster afterwards, in one activity, because the claims do not
fit into a payload. A release applies only to the values that the scan has read (I3), so a repeated
or late release changes nothing. A scan also releases the InfiniBand GUIDs of deleted nodes, after
one process has observed the absence of a node twice (I6).

Invariants: docs/contributing/architecture.md, "Invariants".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from core.domain.evolution import Ledger
from core.domain.reclaim.decision_table import ReclaimDeadline, VerdictContext
from core.domain.reclaim.evidence import OBSERVATION_GAP_S, Moment
from core.domain.reclaim.reclaim_plan import ReclaimPlan, ReclaimStep, plan_scan
from core.domain.validation.common_rules import counted
from core.errors import OrbweaverError
from core.eventstore.state_reader import read_ledger
from core.process.python_garbage_collector import gc_paused
from workflows.api import activity
from workflows.engine.store.unusable_values import ERRORS_OF_ONE_EXECUTION
from workflows.jobs.reclaim.reclaim_context import ReclaimContext
from workflows.jobs.reclaim.scan_states import ScanStateRef, ScanStates
from workflows.model.errors import ApplicationError

StartExecution = Callable[[ReclaimDeadline], Awaitable[None]]
"""Starts the execution of a Pod whose deadline is pending."""

STATE_TTL_S_MIN: Final = 3_600
STATE_TTL_INTERVALS: Final = 3
"""A scan state is stored for so many scan intervals, so a restarted controller finds it."""

ATTEMPTS_MAX: Final = 3
STARTED_AT_ONCE: Final = 50
SHOWN_MAX: Final = 5
"""A result describes at most so many releases or kept endpoints."""

SAMPLE_CHARS_MAX: Final = 300
_log: Final = logging.getLogger(__name__)


class ScanObservation(NamedTuple):
    """The result of a scan. ``state`` refers to the stored observations and releases.

    ``next_scan_s``: the time of the next scan in Unix seconds, or 0 if no deadline is pending.
    ``kept`` and ``observed``: see ``ScanCounts``. ``samples``: why some endpoints are kept.
    """

    state: ScanStateRef
    revision: int
    read_s: float
    endpoints: int
    claims: int
    steps: int
    kept: int
    observed: int
    next_scan_s: float = 0.0
    samples: tuple[str, ...] = ()


class FailedRelease(NamedTuple):
    """A failed release. The next scan plans the release again."""

    endpoint: str
    why: str


class ChunkResult(NamedTuple):
    """The result of a chunk. ``late``: releases without an effect. ``paused``: failed releases."""

    released: int
    late: int
    paused: tuple[FailedRelease, ...] = ()
    samples: tuple[str, ...] = ()


class GuidReclaim:
    """Releases the GUIDs of deleted nodes."""

    def __init__(self) -> None:
        self._missing: dict[str, Moment] = {}

    async def release(self, context: ReclaimContext, ledger: Ledger, read_at: Moment) -> float:
        """Release the GUIDs of nodes that were missing twice, ``OBSERVATION_GAP_S`` apart.

        ``read_at``: when the ledger was read. Returns when to scan again, in Unix seconds, or 0.
        """
        nodes = {claim.node for claim in ledger.guids.values()}
        missing = await context.facts.deleted_nodes(nodes) if nodes else frozenset()
        first = {node: self._missing.get(node, read_at) for node in missing}
        # Moments of two processes cannot be compared: count from the moment of this scan.
        self._missing = {
            node: read_at if read_at.is_before(seen_at) else seen_at
            for node, seen_at in first.items()
        }
        next_scan_s = 0.0
        for node, first_missing in sorted(self._missing.items()):
            if read_at.since(first_missing) < OBSERVATION_GAP_S:
                next_scan_s = read_at.unix_s + OBSERVATION_GAP_S
            else:
                await self._release(context, node)
        return next_scan_s

    async def _release(self, context: ReclaimContext, node: str) -> None:
        try:
            count = await context.releases.release_guids(node)
        except OrbweaverError as error:
            _log.warning("cannot release the GUIDs of the deleted node %s: %s", node, error)
        else:
            guids = counted(count, "GUID")
            _log.info("released %s of node %s, which was deleted", guids, node)


class ReclaimActivities:
    """The activities of the scan. ``start`` starts executions of Pods with a pending deadline."""

    def __init__(self, context: ReclaimContext, start: StartExecution) -> None:
        interval_s = context.settings.scan_interval_s
        ttl_s = max(STATE_TTL_S_MIN, int(interval_s * STATE_TTL_INTERVALS))
        self._context = context
        self._start = start
        self._guids = GuidReclaim()
        self._states = ScanStates(context.store, context.keys, ttl_s)

    @activity.defn(name="reclaim-observe")
    async def observe(self, before: ScanStateRef, outdated: ScanStateRef) -> ScanObservation:
        """Scan all claims. ``before``: the state of the last scan. ``outdated``: the state to drop.

        Raises StoreUnavailable, OutcomeUnknown, Compacted, LogError, and as
        ``ReclaimFactsSource.facts``.
        """
        await self._states.drop(outdated)
        with gc_paused():
            return await self._observe(before)

    async def _observe(self, before: ScanStateRef) -> ScanObservation:
        context = self._context
        claims_read = context.observer.moment()
        ledger = await read_ledger(context.store, context.keys)
        facts = await context.facts.facts(ledger, claims_read)
        verdict_context = VerdictContext(facts, context.settings, context.observer.now_s())
        observations = await self._states.observations(before)
        # The plan of a large cluster takes seconds, while the worker must keep its leases.
        plan = await asyncio.to_thread(plan_scan, ledger, verdict_context, observations)
        guids_next_s = await self._guids.release(context, ledger, claims_read)
        state = await self._states.write(plan.observations, plan.steps)
        await self._start_all(plan.deadlines[: context.settings.queue_max])
        return ScanObservation(
            state,
            revision=ledger.position,
            read_s=facts.observed_at.unix_s,
            endpoints=len(ledger.endpoints),
            claims=len(ledger.claims),
            steps=len(plan.steps),
            kept=len(plan.kept),
            observed=len(plan.observations) - len(plan.steps),
            next_scan_s=min(filter(None, (plan.next_scan_s, guids_next_s)), default=0.0),
            samples=_why_kept(plan),
        )

    async def _start_all(self, deadlines: Sequence[ReclaimDeadline]) -> None:
        for first in range(0, len(deadlines), STARTED_AT_ONCE):
            chunk = deadlines[first : first + STARTED_AT_ONCE]
            await asyncio.gather(*(self._start_execution(deadline) for deadline in chunk))

    async def _start_execution(self, deadline: ReclaimDeadline) -> None:
        """Start or signal an execution. A failure of this execution does not stop the scan."""
        try:
            await self._start(deadline)
        except ERRORS_OF_ONE_EXECUTION as error:
            _log.warning(
                "cannot start or signal the reclaim execution of Pod %s (UID %s), the next scan"
                " tries again: %s",
                "/".join(deadline.endpoint),
                deadline.uid,
                error,
            )

    @activity.defn(name="reclaim-release")
    async def release(self, state: ScanStateRef, part: int) -> ChunkResult:
        """Make the releases in one part of a scan state.

        Tries all releases, then raises the first retryable error. The last of ``ATTEMPTS_MAX``
        attempts returns failures instead. Raises ApplicationError if the scan state has expired.
        """
        steps = await self._states.steps(state, part)
        if steps is None:
            why = "has expired or cannot be decoded"
            message = f"scan state {state.name} {why}; the next scan plans its releases again"
            raise ApplicationError(message, type="ScanStateExpired", non_retryable=True)
        done = _releases_of_earlier_attempts()
        remaining = [number for number in range(len(steps)) if number not in done]
        outcomes = await asyncio.gather(
            *(self._context.releases.make(steps[number]) for number in remaining),
            return_exceptions=True,
        )
        failed: dict[int, OrbweaverError] = {}
        for number, outcome in zip(remaining, outcomes, strict=True):
            if isinstance(outcome, OrbweaverError):
                failed[number] = outcome
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                done[number] = len(outcome.addresses) if outcome.revision else -1
        _raise_retryable(failed, done)
        return _chunk_result(steps, done, failed)


def _raise_retryable(failed: dict[int, OrbweaverError], done: dict[int, int]) -> None:
    """Raise the first retryable error, except in the last attempt.

    The next attempt gets ``done``.
    """
    retryable = next((error for error in failed.values() if error.retryable), None)
    if retryable is not None and activity.info().attempt < ATTEMPTS_MAX:
        activity.heartbeat(list(done.items()))
        raise retryable


def _releases_of_earlier_attempts() -> dict[int, int]:
    """Releases of earlier attempts: number -> count of released addresses (-1: a late release)."""
    details = activity.info().heartbeat_details
    return {int(number): int(count) for number, count in details[0]} if details else {}


def _chunk_result(
    steps: Sequence[ReclaimStep], done: dict[int, int], failed: dict[int, OrbweaverError]
) -> ChunkResult:
    samples = [
        f"{' '.join(steps[number].addresses) or '-'} of {'/'.join(steps[number].key)}, "
        f"{steps[number].evidence}"[:SAMPLE_CHARS_MAX]
        for number, count in sorted(done.items())
        if count >= 0
    ]
    paused = tuple(
        FailedRelease("/".join(steps[number].key), str(error)[:SAMPLE_CHARS_MAX])
        for number, error in failed.items()
    )
    released = sum(count for count in done.values() if count > 0)
    late = sum(count < 0 for count in done.values())
    return ChunkResult(released, late, paused, tuple(samples[:SHOWN_MAX]))


def _why_kept(plan: ReclaimPlan) -> tuple[str, ...]:
    return tuple(
        f"{' '.join(claims.addresses) or '-'} of {'/'.join(claims.key)}: {claims.why}"[
            :SAMPLE_CHARS_MAX
        ]
        for claims in plan.kept[:SHOWN_MAX]
    )
