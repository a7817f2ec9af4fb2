"""How a session writes: independent guarded proposals through a pump, under the session's fence.

Every transaction compares and rewrites the fence, so nothing is written after the session and a
lost answer is settled by reading the fence back. While the store is away, proposals wait, as long
as the session lasts.
It never decides anything and never retries a lost race.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

from core.errors import OutcomeUnknown, SessionLost, StoreUnavailable
from core.eventstore.batch import Proposal, TransactionBatch
from core.eventstore.group_commit import GroupCommit, Outcome
from core.eventstore.kv import NO_READS, Get, Guard, KeyValueStore, Put, TxnResult, Unchanged, Write
from workflows.engine.store.faults import UNREADABLE
from workflows.engine.store.session import FENCE, SessionFence, WorkerSession

QUEUE_DEPTH_MAX = 16_384
"""Proposals that may wait for the next transaction."""

GATHERING_PASSES_MAX = 1
"""Passes of the event loop before a transaction: what runs in one is workflow code, and the store
would wait for it."""

AWAY_PAUSE_S_MIN = 0.01
AWAY_PAUSE_S_MAX = 0.25


class Committer:
    """The only way in which a session writes."""

    def __init__(self, store: KeyValueStore, session: WorkerSession) -> None:
        self._store = store
        self._session = session
        self._seq = 0
        self._pump = GroupCommit(
            self._transact,
            ends=SessionLost,
            name="committer queue",
            depth_max=QUEUE_DEPTH_MAX,
            passes=GATHERING_PASSES_MAX,
        )

    def propose(
        self, guards: Sequence[Guard], writes: Sequence[Write], reads: Sequence[Get] = ()
    ) -> asyncio.Future[Outcome]:
        """Queue one proposal; the future tells what became of it.

        It raises SessionLost (nothing more will be written; what was in flight is unknown),
        StoreRejected; the call raises Overloaded.
        """
        self._session.check()
        return self._pump.put(Proposal((), tuple(guards), tuple(writes), tuple(reads)))

    async def close(self) -> None:
        """Wait for what is queued."""
        await self._pump.drain()

    def abandon(self) -> None:
        """Stop as a killed process does: whatever is in flight goes its own way."""
        self._pump.abandon(SessionLost("the process was abandoned", subject=self._session.name))

    async def _transact(self, batch: TransactionBatch) -> TxnResult:
        """The transaction's result; waits for a store that is away. Raises SessionLost."""
        session, session_get = self._session, Get(self._session.key)
        tries = itertools.count()
        while True:
            session.check()
            fence = FENCE.encode(SessionFence(session.lease, self._seq + 1))
            guards = [Unchanged(session.key, session.revision), *batch.guards]
            writes = [Put(session.key, fence, session.lease), *batch.writes]
            try:
                result = await self._store.commit(guards, writes, [session_get, *batch.gets])
            except StoreUnavailable:
                await self._pause(next(tries))
                continue
            except OutcomeUnknown:
                revision = await self._settle()
                if revision is None:
                    continue
                return TxnResult(True, revision, NO_READS)
            if result.succeeded:
                self._seq, session.revision = self._seq + 1, result.revision
                return result
            fence_now = result.reads[session_get].first
            if fence_now is None or fence_now.mod_revision != session.revision:
                raise self._ended()
            return result

    async def _settle(self) -> int | None:
        """Whether an unanswered transaction is in the store: its revision, or None: never.

        Rewriting the fence makes a transaction that is still under way fail its own guard.
        """
        session, session_get = self._session, Get(self._session.key)
        tries = itertools.count()
        while True:
            session.check()
            guard = Unchanged(session.key, session.revision)
            same = Put(
                session.key, FENCE.encode(SessionFence(session.lease, self._seq)), session.lease
            )
            try:
                result = await self._store.commit([guard], [same], [session_get])
            except (StoreUnavailable, OutcomeUnknown):
                await self._pause(next(tries))
                continue
            if result.succeeded:
                session.revision = result.revision
                return None
            fence_now = result.reads[session_get].first
            if fence_now is None:
                raise self._ended()
            fence = _fence_of(fence_now.value)
            if fence not in (
                SessionFence(session.lease, self._seq),
                SessionFence(session.lease, self._seq + 1),
            ):
                raise self._ended()  # somebody else has written there: nothing can be settled by it
            session.revision = fence_now.mod_revision
            if fence.seq == self._seq:
                return None  # an earlier attempt to settle had gone through
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

    def _ended(self) -> SessionLost:
        """The lease is gone, and the session with it."""
        self._session.lose()
        return SessionLost(
            f"the lease of session {self._session.name} has ended",
            subject=self._session.name,
            remedy="open a new session; another worker has taken over meanwhile",
        )


def _fence_of(value: bytes) -> SessionFence:
    """What lies there; of what cannot be read, a fence that is no session's."""
    try:
        return FENCE.decode(value)
    except UNREADABLE:
        return SessionFence(0, 0)
