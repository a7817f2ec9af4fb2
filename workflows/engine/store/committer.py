"""Writes of a session: guarded proposals, committed in groups under the session's fence.

Every transaction compares and rewrites the fence, so nothing is written after the session has
ended, and the outcome of a transaction whose answer was lost is found by reading the fence. While
the store is unavailable proposals wait, at most until the session ends. A lost race is returned to
the caller.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

from core.errors import OutcomeUnknown, SessionLost, StoreUnavailable
from core.eventstore.batch import Proposal, TransactionBatch
from core.eventstore.group_commit import GroupCommit, Outcome, read_failed
from core.eventstore.kv import NO_READS, Get, Guard, KeyValueStore, Put, TxnResult, Unchanged, Write
from core.process.retry import pause_s
from workflows.engine.store.faults import UNREADABLE
from workflows.engine.store.session import FENCE, SessionFence, WorkerSession

QUEUE_DEPTH_MAX = 16_384
"""Proposals that may wait for the next transaction."""

GATHERING_PASSES_MAX = 1
"""Passes of the event loop that collect proposals before a transaction: they run workflow code,
which would delay the transaction."""

RETRY_PAUSE_S = 0.01
RETRY_PAUSE_S_MAX = 0.25


class Committer:
    """All writes of a session go through its committer."""

    def __init__(self, store: KeyValueStore, session: WorkerSession) -> None:
        self._store = store
        self._session = session
        self._seq = 0
        self._group_commit = GroupCommit(
            self._transact,
            ends=SessionLost,
            name="committer queue",
            depth_max=QUEUE_DEPTH_MAX,
            passes=GATHERING_PASSES_MAX,
        )

    def propose(self, guards: Sequence[Guard], writes: Sequence[Write]) -> asyncio.Future[Outcome]:
        """Queue one proposal; the future returns its outcome.

        The future raises StoreRejected and SessionLost: then nothing more is written, and the
        outcome of what was in flight is unknown. The call raises SessionLost, Overloaded.
        """
        self._session.check()
        return self._group_commit.put(Proposal((), tuple(guards), tuple(writes)))

    async def close(self) -> None:
        """Wait for the queued proposals."""
        await self._group_commit.drain()

    def abandon(self) -> None:
        """Stop like a killed process; what is in flight may still be committed."""
        self._group_commit.abandon(
            SessionLost("the process was abandoned", subject=self._session.name)
        )

    async def _transact(self, batch: TransactionBatch) -> TxnResult:
        """Commit a batch; waits while the store is unavailable. Raises SessionLost."""
        session, session_get = self._session, Get(self._session.key)
        tries = itertools.count()
        while True:
            session.check()
            fence = FENCE.encode(SessionFence(session.lease, self._seq + 1))
            guards = [Unchanged(session.key, session.revision), *batch.guards]
            writes = [Put(session.key, fence, session.lease), *batch.writes]
            try:
                result = await self._store.commit(guards, writes)
                if not result.succeeded:
                    result = await read_failed(self._store, session_get, batch)
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
        """The revision of a transaction whose answer was lost; None: it is not committed.

        Rewriting the fence makes a transaction that is still in flight fail its guard.
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
                raise self._ended()  # another process has written there: the outcome is unknown
            session.revision = fence_now.mod_revision
            if fence.seq == self._seq:
                return None  # an earlier attempt to settle was committed
            self._seq += 1
            return session.revision

    async def _pause(self, tries: int) -> None:
        """Wait before another try, at most until the session ends."""
        wait_s = pause_s(tries + 1, RETRY_PAUSE_S, RETRY_PAUSE_S_MAX)
        try:
            async with asyncio.timeout(wait_s):
                await self._session.lost.wait()
        except TimeoutError:
            return

    def _ended(self) -> SessionLost:
        """End the session: its lease has expired."""
        self._session.lose()
        return SessionLost(
            f"the lease of session {self._session.name} has expired",
            subject=self._session.name,
            remedy="open a new session; another worker may have taken over",
        )


def _fence_of(value: bytes) -> SessionFence:
    """The decoded fence; one that matches no session if it cannot be decoded."""
    try:
        return FENCE.decode(value)
    except UNREADABLE:
        return SessionFence(0, 0)
