"""Group commit: queued proposals are committed together, one transaction at a time.

A ``TransactionBatch`` joins proposals within etcd's limits. Proposals that arrive during a
transaction go into the next one; a lone proposal is committed immediately. After a failed
transaction, a second request reads the guarded keys (docs/contributing/decisions/0030). Proposals
with failed guards get ``Lost``; the others form the next transaction. A proposal that the store
rejects does not affect other proposals.

Every proposal gets exactly one outcome or error, even if the queue is abandoned or fails. The queue
never retries a lost race. The owner of the queue (the log's writer or the engine's committer)
provides ``transact``, which fences the transaction and reads the outcome if the answer was lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context
from typing import Final, NamedTuple

from core.errors import OrbweaverError, Overloaded, StoreRejected
from core.eventstore.codec import SEGMENT_EVENTS_MAX, EventDraft
from core.eventstore.kv import (
    NO_READS,
    REQUEST_BYTES_MAX,
    TXN_OPERATIONS_MAX,
    Delete,
    Get,
    Guard,
    KeyValue,
    KeyValueStore,
    NothingNewer,
    Put,
    RangeResult,
    TxnResult,
    Unchanged,
    Write,
)
from core.process import tracing

GUARDS_MAX = TXN_OPERATIONS_MAX - 1
"""etcd's limit minus one: the owner of the queue adds a fence."""

WRITES_MAX = TXN_OPERATIONS_MAX - 2
"""etcd's limit minus two: the log's writer adds segment and head."""

BATCH_BYTES_MAX = REQUEST_BYTES_MAX // 2
"""Half of etcd's limit. ``add`` counts each value twice: it is in the segment and in the state."""

OPERATION_BYTES = 128
"""Rough size of a key and its operation."""

Reads = Callable[[], Sequence[Get]]
"""Called after a failed transaction. Each read starts at a key that the proposal guards."""

NO_PROPOSAL_READS: Final[Reads] = tuple


class Proposal(NamedTuple):
    """Events, guards and writes. If a guard fails, ``Lost`` has the results of ``reads``."""

    drafts: tuple[EventDraft, ...]
    guards: tuple[Guard, ...]
    writes: tuple[Write, ...]
    reads: Reads = NO_PROPOSAL_READS


class Lost(NamedTuple):
    """A guard failed.

    ``current``: the value of each guarded key at ``revision``. ``reads``: the results of the
    proposal's reads. ``current`` and ``reads`` are empty if the proposal guards or deletes a range.
    """

    revision: int
    current: dict[bytes, KeyValue | None]
    reads: Mapping[Get, RangeResult]


class TransactionBatch:
    """Proposals that fit into one transaction, in order of arrival.

    No proposal writes a key that another proposal guards or writes. ``alone``: the batch has one
    proposal, which guards or deletes a range; no other proposal can join.
    """

    __slots__ = (
        "_bytes",
        "_guarded",
        "_guards",
        "_written",
        "alone",
        "drafts",
        "members",
        "writes",
    )

    def __init__(self) -> None:
        self.drafts: list[EventDraft] = []
        self.writes: list[Write] = []
        self.alone = False
        self.members: list[Proposal] = []
        self._guards: dict[Guard, None] = {}
        self._written: set[bytes] = set()
        self._guarded: set[bytes] = set()
        self._bytes = 0

    @property
    def full(self) -> bool:
        """Whether no proposal can join."""
        return (
            self.alone or len(self.drafts) >= SEGMENT_EVENTS_MAX or len(self.writes) >= WRITES_MAX
        )

    @property
    def guards(self) -> list[Guard]:
        """The proposals' guards without duplicates."""
        return list(self._guards)

    def gets(self) -> list[Get]:
        """The proposals' reads, and the guarded keys without a read."""
        if self.alone:
            return []
        gets: dict[Get, None] = {}
        for proposal in self.members:
            reads = {get.start: get for get in proposal.reads()}
            gets.update(dict.fromkeys(reads.values()))
            gets.update({_get_of(guard, reads): None for guard in proposal.guards})
        return list(gets)

    def add(self, proposal: Proposal) -> bool:
        """Returns False if the proposal does not fit."""
        drafts, guards, writes, _ = proposal
        guarded = {guard[0] for guard in guards}  # the key, or the start of a range
        written = {write[0] for write in writes}
        value_bytes = sum([len(write.value) for write in writes if isinstance(write, Put)])
        weight = 2 * value_bytes + OPERATION_BYTES * (len(writes) + len(guards))
        has_range = _has_range(proposal)
        if not self.members:
            self.alone = has_range
        elif has_range or not (
            len(self.drafts) + len(drafts) <= SEGMENT_EVENTS_MAX
            and len(self.writes) + len(writes) <= WRITES_MAX
            and self._bytes + weight <= BATCH_BYTES_MAX
            and self._has_room_for(guards)
            and self._written.isdisjoint(written)
            and self._guarded.isdisjoint(written)
            and self._written.isdisjoint(guarded)
        ):
            return False
        self.members.append(proposal)
        self.drafts += drafts
        self.writes += writes
        self._guards.update(dict.fromkeys(guards))
        self._guarded |= guarded
        self._written |= written
        self._bytes += weight
        return True

    def _has_room_for(self, guards: Sequence[Guard]) -> bool:
        free = GUARDS_MAX - len(self._guards)
        return len(guards) <= free or sum(guard not in self._guards for guard in guards) <= free


def _has_range(proposal: Proposal) -> bool:
    """Whether the proposal guards or deletes a range, perhaps with keys of other proposals."""
    return NothingNewer in map(type, proposal.guards) or any(
        isinstance(write, Delete) and write.end for write in proposal.writes
    )


def lost_proposals(batch: TransactionBatch, result: TxnResult) -> list[Lost | None]:
    """For each proposal, ``Lost`` if a guard failed, else None. ``result`` answers ``gets``."""
    if batch.alone:
        return [Lost(result.revision, {}, NO_READS)]
    return [_lost_or_none(proposal, result) for proposal in batch.members]


def _lost_or_none(proposal: Proposal, result: TxnResult) -> Lost | None:
    reads = {get.start: get for get in proposal.reads()}
    current = {
        guard[0]: _current(result.reads[_get_of(guard, reads)], guard[0])
        for guard in proposal.guards
    }
    if all(_holds(guard, current) for guard in proposal.guards):
        return None
    answers = {get: result.reads[get] for get in reads.values()}
    return Lost(result.revision, current, answers)


def _get_of(guard: Guard, reads: Mapping[bytes, Get]) -> Get:
    return reads.get(guard[0]) or Get(guard[0])


def _current(answer: RangeResult, key: bytes) -> KeyValue | None:
    kv = answer.first
    return kv if kv is not None and kv.key == key else None


def _holds(guard: Guard, current: dict[bytes, KeyValue | None]) -> bool:
    assert not isinstance(guard, NothingNewer)
    kv = current[guard.key]
    revision = kv.mod_revision if kv is not None else 0
    return revision == (guard.mod_revision if isinstance(guard, Unchanged) else 0)


SKIPPED_MAX = 8
"""After so many proposals that do not fit, a batch counts as full. This bounds the search."""

COMMITTED_WITH: Final = "committed-with"
"""The kind of the links from the spans of other proposals to the span of the first proposal.

Only the trace of the first proposal contains the transaction.
"""


class Committed(NamedTuple):
    """The proposal was committed in the transaction at ``revision``."""

    revision: int


Outcome = Committed | Lost

FAILURES_WITHOUT_LOSS_MAX = 16
"""The most successive failed transactions after which the second request finds all guards true.

Another writer may create and delete a guarded key before that request, but not every time.
"""

Transact = Callable[[TransactionBatch], Awaitable[TxnResult]]
"""Commits a batch with a fence. After a failed guard, the result has the batch's ``gets``."""


async def read_after_failure(
    store: KeyValueStore, fence: Get, batch: TransactionBatch
) -> TxnResult:
    """Read the fence and the batch's ``gets`` after a failed transaction, which wrote nothing.

    Raises StoreUnavailable, StoreRejected.
    """
    gets = [fence, *batch.gets()]
    revision, ranges = await store.read(gets)
    reads = dict(zip(gets, ranges, strict=True))
    return TxnResult(succeeded=False, revision=revision, reads=reads)


class _QueuedProposal(NamedTuple):
    proposal: Proposal
    answer: asyncio.Future[Outcome]
    origin: tracing.Origin | None


class GroupCommit:
    """One queue, one transaction in flight.

    After an error of type ``fatal``, nothing can be written: every waiting proposal gets the error.
    ``depth_max``: the most proposals that may wait. ``passes``: the most passes of the event loop
    that a transaction waits for more proposals.
    """

    def __init__(
        self,
        transact: Transact,
        *,
        fatal: type[OrbweaverError],
        name: str,
        depth_max: int,
        passes: int,
    ) -> None:
        self._passes = passes
        self._transact = transact
        self._fatal = fatal
        self._name = name
        self._depth_max = depth_max
        self._queue: deque[_QueuedProposal] = deque()
        self._in_flight: Sequence[_QueuedProposal] = ()
        self._survivor_count = 0
        self._failures_without_loss = 0
        self._running: asyncio.Task[None] | None = None

    @property
    def depth(self) -> int:
        """The number of waiting proposals."""
        return len(self._queue)

    def put(
        self, proposal: Proposal, origin: tracing.Origin | None = None
    ) -> asyncio.Future[Outcome]:
        """Queue one proposal. The future has the outcome, or raises the error of ``transact``.

        ``origin``: the caller's span. Raises Overloaded. Cancelling the future before the
        transaction starts withdraws the proposal.
        """
        if len(self._queue) >= self._depth_max:
            raise Overloaded(
                f"the {self._name} is full: {self._depth_max} proposals wait",
                subject=self._name,
                remedy="try again; if the queue stays full, etcd is too slow for this load",
            )
        loop = asyncio.get_running_loop()
        entry = _QueuedProposal(proposal, loop.create_future(), origin)
        self._queue.append(entry)
        if self._running is None:
            # The task works for all callers, so it must not continue the first caller's trace.
            self._running = loop.create_task(self._run(), context=Context())
        return entry.answer

    async def drain(self) -> None:
        """Wait for all proposals. Cancelling the wait does not cancel them."""
        if self._running is not None:
            await asyncio.wait({self._running})

    def abandon(self, error: OrbweaverError) -> None:
        """Stop at once. Every proposal gets the error; those in flight may still be committed."""
        if self._running is not None:
            self._running.cancel()
            # A task that is cancelled before its first step does not reset ``_running``.
            self._running = None
        self._fail_all(error)

    async def _run(self) -> None:
        try:
            while self._queue:
                await self._gather()
                batch, self._in_flight = self._take()
                if self._in_flight:
                    await self._commit(batch, self._in_flight)
        except Exception as error:
            self._fail_all(error)  # a bug in this class
            raise
        finally:
            if self._running is asyncio.current_task():
                self._running = None
                self._in_flight = ()

    async def _gather(self) -> None:
        """Let ready callers add proposals for a few passes of the event loop.

        Returns early when the queue is as long as the last transaction: no further proposal is to
        be expected under a steady load.
        """
        for _ in range(self._passes):
            depth = len(self._queue)
            if 0 < len(self._in_flight) <= depth:
                return
            await asyncio.sleep(0)
            if len(self._queue) == depth:
                return

    def _take(self) -> tuple[TransactionBatch, list[_QueuedProposal]]:
        """Fill a batch from the queue.

        Proposals that do not fit stay in the queue, in order. Survivors of a failed transaction are
        not joined with new proposals, which could lose and make it fail again.
        """
        batch = TransactionBatch()
        members: list[_QueuedProposal] = []
        skipped: list[_QueuedProposal] = []
        candidates = self._survivor_count or len(self._queue)
        self._survivor_count = 0
        while candidates and self._queue and not batch.full and len(skipped) < SKIPPED_MAX:
            candidates -= 1
            entry = self._queue.popleft()
            if entry.answer.done():
                continue
            if batch.add(entry.proposal):
                members.append(entry)
            else:
                skipped.append(entry)
        self._queue.extendleft(reversed(skipped))
        return batch, members

    async def _commit(self, batch: TransactionBatch, members: Sequence[_QueuedProposal]) -> None:
        """Answer every member, or put it back at the front of the queue."""
        try:
            result = await self._transact_for(batch, members)
        except StoreRejected as error:
            await self._one_by_one(members, error)
        except Exception as error:  # noqa: BLE001 - every caller must get an answer
            _fail(members, error)
            if isinstance(error, self._fatal):
                self._fail_all(error)
        else:
            self._answer_all(batch, members, result)

    async def _transact_for(
        self, batch: TransactionBatch, members: Sequence[_QueuedProposal]
    ) -> TxnResult:
        """Transact in the trace of the first member with a span; link the others' spans."""
        origins = [member.origin for member in members if member.origin is not None]
        if not origins:
            return await self._transact(batch)
        first, *others = origins
        for other in others:
            other.span.link(first.span.traceparent, {"ipam.link": COMMITTED_WITH})
        loop = asyncio.get_running_loop()
        return await loop.create_task(_result_of(self._transact(batch)), context=first.context)

    def _answer_all(
        self, batch: TransactionBatch, members: Sequence[_QueuedProposal], result: TxnResult
    ) -> None:
        if result.succeeded:
            self._failures_without_loss = 0
            committed = Committed(result.revision)
            for member in members:
                _answer(member, committed)
            return
        verdicts = lost_proposals(batch, result)
        self._failures_without_loss = 0 if any(verdicts) else self._failures_without_loss + 1
        assert self._failures_without_loss <= FAILURES_WITHOUT_LOSS_MAX, (
            "transactions fail without a lost race"
        )
        for member, lost in zip(reversed(members), reversed(verdicts), strict=True):
            if lost is None:
                self._queue.appendleft(member)
                self._survivor_count += 1
            else:
                _answer(member, lost)

    async def _one_by_one(self, members: Sequence[_QueuedProposal], error: StoreRejected) -> None:
        """Commit each member alone, so that a rejected one does not fail the others."""
        if len(members) == 1:
            _fail(members, error)
            return
        for member in members:
            if member.answer.done():
                continue
            batch = TransactionBatch()
            batch.add(member.proposal)
            await self._commit(batch, [member])

    def _fail_all(self, error: Exception) -> None:
        _fail([*self._in_flight, *self._queue], error)
        self._queue.clear()
        self._survivor_count = self._failures_without_loss = 0


async def _result_of(transacting: Awaitable[TxnResult]) -> TxnResult:
    return await transacting  # a task runs coroutines, not every awaitable


def _answer(member: _QueuedProposal, outcome: Outcome) -> None:
    if not member.answer.done():
        member.answer.set_result(outcome)


def _fail(members: Sequence[_QueuedProposal], error: BaseException) -> None:
    for member in members:
        if not member.answer.done():
            member.answer.set_exception(error)
            member.answer.exception()  # no warning if the caller has stopped waiting
