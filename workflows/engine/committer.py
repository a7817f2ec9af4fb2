"""Group commit of independent guarded proposals: the log's writer, without the log.

One transaction is in flight; what arrives meanwhile goes into the next one, joined by the rules of
``core.store.batch``. Proposals whose guards broke are told so and the others go into the next
transaction. Every transaction compares and rewrites the session's fence, so nothing is written
after the session and a lost answer is settled by reading the fence back. While the store is away,
proposals wait, as long as the session lasts.
It never decides anything and never retries a lost race.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from core.errors import (
    OrbweaverError,
    OutcomeUnknown,
    Overloaded,
    SessionLost,
    StoreRejected,
    StoreUnavailable,
)
from core.store.batch import Batch, Lost, Prepared, Proposal, prepare, sort_out
from core.store.kv import Get, Guard, KeyValueStore, Put, TxnResult, Unchanged, Write
from workflows.engine.session import FENCE, Fence, Session

QUEUE_DEPTH_MAX = 16_384
"""Proposals that may wait for the next transaction."""

LEFT_OVER_MAX = 8
AWAY_PAUSE_S_MIN = 0.01
AWAY_PAUSE_S_MAX = 0.25


class Committed(NamedTuple):
    """All writes of the proposal are in the store, at this revision."""

    revision: int


Outcome = Committed | Lost


class _Waiting(NamedTuple):
    prepared: Prepared
    answer: asyncio.Future[Outcome]


class Committer:
    """The only way in which a session writes."""

    def __init__(self, store: KeyValueStore, session: Session) -> None:
        self.transactions = 0
        self.proposals = 0
        self._store = store
        self._session = session
        self._seq = 0
        self._queue: deque[_Waiting] = deque()
        self._pump: asyncio.Task[None] | None = None

    @property
    def depth(self) -> int:
        """Proposals waiting."""
        return len(self._queue)

    def propose(
        self, guards: Sequence[Guard], writes: Sequence[Write], reads: Sequence[Get] = ()
    ) -> asyncio.Future[Outcome]:
        """Queue one proposal; the future tells what became of it.

        It raises SessionLost (nothing more will be written; what was in flight is unknown),
        StoreRejected; the call raises Overloaded.
        """
        if len(self._queue) >= QUEUE_DEPTH_MAX:
            raise Overloaded(
                f"{QUEUE_DEPTH_MAX} proposals wait for the store already",
                subject="committer queue",
                remedy="try again; if it stays full, etcd is too slow for this load",
            )
        self._session.check()
        self.proposals += 1
        prepared = prepare(Proposal((), tuple(guards), tuple(writes), tuple(reads)))
        waiting = _Waiting(prepared, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        if self._pump is None:
            self._pump = asyncio.ensure_future(self._run())
        return waiting.answer

    async def close(self) -> None:
        """Wait for what is queued."""
        if self._pump is not None:
            await self._pump

    def abandon(self) -> None:
        """Stop as a killed process does: whatever is in flight goes its own way."""
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None  # a pump that is cancelled before its first step never says so itself
        self._fail_all(SessionLost("the process was abandoned", subject=self._session.name))

    async def _run(self) -> None:
        try:
            await asyncio.sleep(0)  # callers of the same turn of the loop share the transaction
            while self._queue:
                batch, members = self._take()
                if members:
                    await self._commit(batch, members)
        finally:
            if self._pump is asyncio.current_task():
                self._pump = None

    def _take(self) -> tuple[Batch, list[_Waiting]]:
        batch = Batch()
        members: list[_Waiting] = []
        left: list[_Waiting] = []
        while self._queue and not batch.full and len(left) < LEFT_OVER_MAX:
            waiting = self._queue.popleft()
            if waiting.answer.done():
                continue
            (members if batch.add(waiting.prepared) else left).append(waiting)
        self._queue.extendleft(reversed(left))
        return batch, members

    async def _commit(self, batch: Batch, members: list[_Waiting]) -> None:
        try:
            result = await self._transact(batch)
        except StoreRejected as error:
            await self._one_by_one(members, error)
            return
        except SessionLost as error:
            self._session.lose()
            _fail(members, error)
            self._fail_all(error)
            return
        except Exception as error:  # noqa: BLE001 - no caller may wait for an answer nobody gives
            _fail(members, error)
            return
        if result.succeeded:
            _answer(members, Committed(result.revision))
            return
        verdicts = sort_out(batch, [member.prepared for member in members], result)
        assert any(verdicts), "a transaction failed although every guard holds"
        for member, lost in zip(reversed(members), reversed(verdicts), strict=True):
            if lost is None:
                self._queue.appendleft(member)
            else:
                _answer([member], lost)

    async def _one_by_one(self, members: list[_Waiting], error: StoreRejected) -> None:
        """One member that the store refuses must not take the others with it."""
        if len(members) == 1:
            _fail(members, error)
            return
        for member in members:
            batch = Batch()
            batch.add(member.prepared)
            await self._commit(batch, [member])

    async def _transact(self, batch: Batch) -> TxnResult:
        """The transaction's result; waits for a store that is away. Raises SessionLost."""
        session = self._session
        tries = itertools.count()
        while True:
            session.check()
            fence = FENCE.encode(Fence(session.lease, self._seq + 1))
            guards = [Unchanged(session.key, session.revision), *batch.guards]
            writes = [Put(session.key, fence, session.lease), *batch.writes]
            self.transactions += 1
            try:
                result = await self._store.commit(guards, writes, [Get(session.key), *batch.gets])
            except StoreUnavailable:
                await self._pause(next(tries))
                continue
            except OutcomeUnknown:
                revision = await self._settle()
                if revision is None:
                    continue
                return TxnResult(True, revision, ())
            if result.succeeded:
                self._seq, session.revision = self._seq + 1, result.revision
                return result
            found = result.reads[0].kvs
            if not found or found[0].mod_revision != session.revision:
                raise self._lost()
            return TxnResult(False, result.revision, result.reads[1:])

    async def _settle(self) -> int | None:
        """Whether an unanswered transaction is in the store: its revision, or None: never.

        Rewriting the fence makes a transaction that is still under way fail its own guard.
        """
        session = self._session
        tries = itertools.count()
        while True:
            session.check()
            guard = Unchanged(session.key, session.revision)
            same = Put(session.key, FENCE.encode(Fence(session.lease, self._seq)), session.lease)
            try:
                result = await self._store.commit([guard], [same], [Get(session.key)])
            except (StoreUnavailable, OutcomeUnknown):
                await self._pause(next(tries))
                continue
            if result.succeeded:
                session.revision = result.revision
                return None
            found = result.reads[0].kvs
            if not found:
                raise self._lost()
            fence = FENCE.decode(found[0].value)
            session.revision = found[0].mod_revision
            if fence.seq == self._seq:
                return None  # an earlier attempt to settle had gone through
            assert fence == Fence(session.lease, self._seq + 1), "only this session writes its key"
            self._seq += 1
            return session.revision

    async def _pause(self, tries: int) -> None:
        """Before another try; ends early when the session is over."""
        pause_s = min(AWAY_PAUSE_S_MIN * 2 ** min(tries, 10), AWAY_PAUSE_S_MAX)
        try:
            async with asyncio.timeout(pause_s):
                await self._session.lost.wait()
        except TimeoutError:
            return

    def _lost(self) -> SessionLost:
        return SessionLost(
            f"the lease of session {self._session.name} has ended",
            subject=self._session.name,
            remedy="open a new session; another worker has taken over meanwhile",
        )

    def _fail_all(self, error: OrbweaverError) -> None:
        _fail(list(self._queue), error)
        self._queue.clear()


def _answer(members: Sequence[_Waiting], outcome: Outcome) -> None:
    for member in members:
        if not member.answer.done():
            member.answer.set_result(outcome)


def _fail(members: Sequence[_Waiting], error: BaseException) -> None:
    for member in members:
        if not member.answer.done():
            member.answer.set_exception(error)
            member.answer.exception()  # whoever awaits it still gets it; nobody may be left to
