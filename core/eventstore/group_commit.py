"""Group commit: proposals wait in a queue, one transaction at a time carries what fits together.

What arrives while a transaction is in flight goes into the next one, with what the event loop has
ready at that moment; a lone caller waits for nobody. Each proposal keeps its own guards. When a
transaction fails, its failure branch has read the truth about exactly the guarded keys: proposals
whose guards are broken are told so (``Lost``), the others go into the next transaction at once, by
themselves. One that the store refuses takes no other with it.

Promises: every proposal is answered, once, also when the pump is abandoned or fails itself; waiting
for the end neither ends anything nor raises. The pump never decides anything, never retries a lost
race, and knows neither how a transaction is fenced nor how a lost answer is settled: ``transact``
does, which the log's writer and the engine's committer each bring.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from core.errors import OrbweaverError, Overloaded, StoreRejected
from core.eventstore.batch import Lost, Prepared, Proposal, TransactionBatch, prepare, sort_out
from core.eventstore.kv import TxnResult

LEFT_OVER_MAX = 8
"""Proposals that did not fit before a batch counts as full: it keeps filling linear."""


class Committed(NamedTuple):
    """All that was proposed is in the store, at this revision."""

    revision: int


Outcome = Committed | Lost

Transact = Callable[[TransactionBatch], Awaitable[TxnResult]]
"""Commits a batch under the caller's fence. ``reads`` of a failure answer the batch's ``gets``."""


class _Waiting(NamedTuple):
    prepared: Prepared
    answer: asyncio.Future[Outcome]


class GroupCommit:
    """One queue, one transaction in flight.

    ``ends`` is the error after which nothing can be written any more: everybody who waits gets it.
    ``name`` and ``depth_max`` (proposals) are those of the queue; ``passes`` of the event loop are
    waited at most before a transaction, while callers that are ready bring more.
    """

    def __init__(
        self,
        transact: Transact,
        *,
        ends: type[OrbweaverError],
        name: str,
        depth_max: int,
        passes: int,
    ) -> None:
        self._passes = passes
        self._transact = transact
        self._ends = ends
        self._name = name
        self._depth_max = depth_max
        self._queue: deque[_Waiting] = deque()
        self._in_flight: Sequence[_Waiting] = ()
        self._survivors = 0
        self._running: asyncio.Task[None] | None = None

    @property
    def depth(self) -> int:
        """Proposals waiting."""
        return len(self._queue)

    def put(self, proposal: Proposal) -> asyncio.Future[Outcome]:
        """Queue one proposal; the future tells what became of it, or raises what ``transact`` did.

        Raises Overloaded. Cancelling the future before its transaction starts withdraws the
        proposal.
        """
        if len(self._queue) >= self._depth_max:
            raise Overloaded(
                f"the {self._name} is full with a maximum length of {self._depth_max}",
                subject=self._name,
                remedy="try again; if it stays full, etcd is too slow for this load",
            )
        waiting = _Waiting(prepare(proposal), asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        if self._running is None:
            self._running = asyncio.ensure_future(self._run())
        return waiting.answer

    async def drain(self) -> None:
        """Wait for what is queued and in flight; whoever gives up waiting ends nothing by it."""
        if self._running is not None:
            await asyncio.wait({self._running})

    def abandon(self, error: OrbweaverError) -> None:
        """Stop as a killed process does: everybody gets the error, what is in flight is unknown."""
        if self._running is not None:
            self._running.cancel()
            self._running = None  # cancelled before its first step, it never says so itself
        self._fail_all(error)

    async def _run(self) -> None:
        try:
            while self._queue:
                await self._gather()
                batch, self._in_flight = self._take()
                if self._in_flight:
                    await self._commit(batch, self._in_flight)
        except Exception as error:
            self._fail_all(error)  # a fault of our own; it is told to whoever waits, and logged
            raise
        finally:
            if self._running is asyncio.current_task():
                self._running = None

    async def _gather(self) -> None:
        """Let callers that are ready join: passes of the loop while they bring more, never time."""
        for _ in range(self._passes):
            waiting = len(self._queue)
            await asyncio.sleep(0)
            if len(self._queue) == waiting:
                return

    def _take(self) -> tuple[TransactionBatch, list[_Waiting]]:
        """Fill a batch from the queue, keeping the order of what does not fit together.

        What has survived a failed transaction holds by what that one has read. It is committed by
        itself: joined by others that would lose, it would fail with them again.
        """
        batch = TransactionBatch()
        members: list[_Waiting] = []
        left: list[_Waiting] = []
        candidates, self._survivors = self._survivors or len(self._queue), 0
        while candidates and self._queue and not batch.full and len(left) < LEFT_OVER_MAX:
            candidates -= 1
            waiting = self._queue.popleft()
            if waiting.answer.done():
                continue
            (members if batch.add(waiting.prepared) else left).append(waiting)
        self._queue.extendleft(reversed(left))
        return batch, members

    async def _commit(self, batch: TransactionBatch, members: Sequence[_Waiting]) -> None:
        """One transaction; answers every member or puts it back at the front of the queue."""
        try:
            result = await self._transact(batch)
        except StoreRejected as error:
            await self._one_by_one(members, error)
        except Exception as error:  # noqa: BLE001 - no caller may wait for an answer nobody gives
            _fail(members, error)
            if isinstance(error, self._ends):
                self._fail_all(error)
        else:
            self._tell(batch, members, result)

    def _tell(
        self, batch: TransactionBatch, members: Sequence[_Waiting], result: TxnResult
    ) -> None:
        if result.succeeded:
            committed = Committed(result.revision)
            for member in members:
                _answer(member, committed)
            return
        verdicts = sort_out(batch, [member.prepared for member in members], result)
        assert any(verdicts), "a transaction failed although every guard holds"
        for member, lost in zip(reversed(members), reversed(verdicts), strict=True):
            if lost is None:
                self._queue.appendleft(member)
                self._survivors += 1
            else:
                _answer(member, lost)

    async def _one_by_one(self, members: Sequence[_Waiting], error: StoreRejected) -> None:
        """One member that the store refuses must not take the others with it."""
        if len(members) == 1:
            _fail(members, error)
            return
        for member in members:
            if member.answer.done():
                continue  # withdrawn meanwhile, or told that nothing can be written any more
            batch = TransactionBatch()
            batch.add(member.prepared)
            await self._commit(batch, [member])

    def _fail_all(self, error: Exception) -> None:
        _fail([*self._in_flight, *self._queue], error)
        self._queue.clear()
        self._survivors = 0


def _answer(member: _Waiting, outcome: Outcome) -> None:
    if not member.answer.done():
        member.answer.set_result(outcome)


def _fail(members: Sequence[_Waiting], error: BaseException) -> None:
    for member in members:
        if not member.answer.done():
            member.answer.set_exception(error)
            member.answer.exception()  # whoever awaits it still gets it; nobody may be left to
