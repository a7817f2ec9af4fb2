"""A session: the lease of one process, a fence, and the committer of the process's writes.

The fence is the key ``commit/<name>`` under the lease. Every transaction compares and rewrites the
fence, so nothing is written after the lease has expired. If etcd's answer is lost, the fence shows
whether the transaction was committed. The session ends before the lease can expire in etcd:
activities are cancelled before another process starts them.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context
from typing import NamedTuple

from core.errors import (
    LeaseGone,
    OutcomeUnknown,
    SessionLost,
    StoreError,
    StoreRejected,
    StoreUnavailable,
)
from core.eventstore.codec import StateCodec
from core.eventstore.group_commit import (
    Committed,
    GroupCommit,
    Lost,
    Outcome,
    Proposal,
    TransactionBatch,
    read_after_failure,
)
from core.eventstore.keys import check_name
from core.eventstore.kv import (
    NO_READS,
    Absent,
    Get,
    Guard,
    KeyValueStore,
    Put,
    TxnResult,
    Unchanged,
    Write,
)
from core.eventstore.retry_policies import retry_unavailable
from core.process.concurrency import until_tick_s
from core.process.retry import pause_s
from workflows.engine.store.keys import WorkflowKeys
from workflows.engine.store.unusable_values import DECODING_ERRORS

WORKER_TTL_S = 3
"""Seconds after which the shards of a dead worker are free; etcd adds up to half a second."""

CLIENT_TTL_S = 15
"""Seconds after which the replies to a dead client are deleted."""

RENEWALS_PER_TTL = 3

RENEWAL_RETRY_S = 0.2

REVOKE_S_MAX = 2.0

_log = logging.getLogger(__name__)


class SessionFence(NamedTuple):
    """The value of a session's fence. ``seq``: the number of the session's transactions."""

    lease: int
    seq: int


FENCE_CODEC = StateCodec(SessionFence)


class WorkerSession:
    """The session of one process. ``lost`` is set when the session has ended."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: WorkflowKeys,
        name: str,
        *,
        ttl_s: int = WORKER_TTL_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = f"{check_name(name, 'session name')}.{secrets.token_hex(4)}"
        self.key = keys.commit(self.name)
        self.lease = 0
        self.revision = 0
        self.lost = asyncio.Event()
        self._store = store
        self._ttl_s = ttl_s
        self._monotonic = monotonic
        self._renewal_task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Grant the lease and write the fence.

        Raises StoreUnavailable, OutcomeUnknown; LeaseGone if the lease ends before the write.
        """
        requested_at = self._monotonic()
        self.lease = await self._store.grant_lease(self._ttl_s)
        value = FENCE_CODEC.encode(SessionFence(self.lease, seq=0))
        result = await self._store.commit([Absent(self.key)], [Put(self.key, value, self.lease)])
        assert result.succeeded, "the random name of the session is in use"
        self.revision = result.revision
        renewal = self._keep_lease(requested_at + self._ttl_s)
        # The task outlives this call, and must not continue its trace.
        self._renewal_task = asyncio.get_running_loop().create_task(renewal, context=Context())

    def lose(self) -> None:
        """End the session."""
        self.lost.set()

    def check(self) -> None:
        """Raise SessionLost if the session has ended."""
        if self.lost.is_set():
            raise SessionLost(
                f"session {self.name} has ended",
                subject=self.name,
                remedy="open a new session; another worker may own the shards of the ended one",
            )

    async def close(self) -> None:
        """Revoke the lease; etcd then deletes all keys under it."""
        self.abandon()
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(REVOKE_S_MAX):
                await self._store.revoke_lease(self.lease)

    def abandon(self) -> None:
        """Stop like a killed process: the lease expires."""
        self.lost.set()
        if self._renewal_task is not None:
            self._renewal_task.cancel()

    async def _keep_lease(self, valid_until: float) -> None:
        try:
            await self._renew(valid_until)
        except Exception:  # noqa: BLE001 - logged; the session ends, and its worker opens another
            _log.exception("cannot renew the lease of session %s", self.name)
        finally:
            self.lost.set()  # nothing may continue under a lease that is not renewed

    async def _renew(self, valid_until: float) -> None:
        """Renew the lease until it has expired, or may have expired by this process's clock."""
        # Periodic tasks share ticks, so that an idle process wakes less often.
        pause = until_tick_s(self._ttl_s / RENEWALS_PER_TTL)
        while not self.lost.is_set():
            await asyncio.sleep(pause)
            requested_at = self._monotonic()
            remaining_s = 0
            try:
                async with asyncio.timeout(max(valid_until - requested_at, 0)):
                    remaining_s = await self._store.keep_lease(self.lease)
                    if not remaining_s:
                        break
            except StoreRejected as error:
                _log.warning(
                    "etcd rejected the renewal of the lease of session %s: %s", self.name, error
                )
            except (TimeoutError, StoreUnavailable, OutcomeUnknown):
                pass  # try again until ``valid_until``
            if remaining_s:
                valid_until = requested_at + self._ttl_s
            pause = until_tick_s(self._ttl_s / RENEWALS_PER_TTL) if remaining_s else RENEWAL_RETRY_S
            if self._monotonic() >= valid_until:
                break


async def open_session(
    store: KeyValueStore,
    keys: WorkflowKeys,
    name: str,
    *,
    ttl_s: int = WORKER_TTL_S,
    monotonic: Callable[[], float] = time.monotonic,
) -> WorkerSession:
    """Open a session. Waits a limited time for the store, then raises StoreUnavailable."""

    async def attempt() -> WorkerSession:
        session = WorkerSession(store, keys, name, ttl_s=ttl_s, monotonic=monotonic)
        try:
            await session.open()
        except (OutcomeUnknown, LeaseGone) as error:
            raise StoreUnavailable(error.message, remedy="try again") from error
        return session

    opened: WorkerSession = await retry_unavailable()(attempt)
    return opened


QUEUE_DEPTH_MAX = 16_384

GATHERING_PASSES_MAX = 1
"""Passes of the event loop that collect proposals.

More passes would delay the transaction, because a pass may run workflow code.
"""

RETRY_PAUSE_S = 0.01
RETRY_PAUSE_S_MAX = 0.25


class Committer:
    """Commits the writes of a session, many proposals in one transaction."""

    def __init__(self, store: KeyValueStore, session: WorkerSession) -> None:
        self._store = store
        self._session = session
        self._seq = 0
        self._group_commit = GroupCommit(
            self._transact,
            fatal=SessionLost,
            name="committer queue",
            depth_max=QUEUE_DEPTH_MAX,
            passes=GATHERING_PASSES_MAX,
        )

    def propose(self, guards: Sequence[Guard], writes: Sequence[Write]) -> asyncio.Future[Outcome]:
        """Queue one proposal. The future returns the outcome: ``Lost`` if a guard failed.

        Raises SessionLost, Overloaded. The future raises StoreRejected, and SessionLost if the
        session ends first: the proposal may then be committed or not.
        """
        self._session.check()
        return self._group_commit.put(
            Proposal(drafts=(), guards=tuple(guards), writes=tuple(writes))
        )

    async def close(self) -> None:
        """Wait for the queued proposals."""
        await self._group_commit.drain()

    def abandon(self) -> None:
        """Stop like a killed process; proposals in flight may still be committed."""
        self._group_commit.abandon(
            SessionLost("the process was abandoned", subject=self._session.name)
        )

    async def _transact(self, batch: TransactionBatch) -> TxnResult:
        """Commit a batch; waits while the store is unavailable. Raises SessionLost."""
        session, session_get = self._session, Get(self._session.key)
        tries = itertools.count()
        while True:
            session.check()
            fence = FENCE_CODEC.encode(SessionFence(session.lease, self._seq + 1))
            guards = [Unchanged(session.key, session.revision), *batch.guards]
            writes = [Put(session.key, fence, session.lease), *batch.writes]
            try:
                result = await self._store.commit(guards, writes)
                if not result.succeeded:
                    # The current values show whether the guard of the fence has failed.
                    result = await read_after_failure(self._store, session_get, batch)
            except StoreUnavailable:
                await self._pause(next(tries))
                continue
            except OutcomeUnknown:
                revision = await self._settle()
                if revision is None:
                    continue
                return TxnResult(succeeded=True, revision=revision, reads=NO_READS)
            if result.succeeded:
                self._seq, session.revision = self._seq + 1, result.revision
                return result
            fence_now = result.reads[session_get].first
            if fence_now is None or fence_now.mod_revision != session.revision:
                raise self._ended()
            return result

    async def _settle(self) -> int | None:
        """Return the revision of a transaction whose answer was lost; None if it was not committed.

        Rewriting the fence ensures that the transaction cannot be committed later.
        """
        session, session_get = self._session, Get(self._session.key)
        tries = itertools.count()
        while True:
            session.check()
            guard = Unchanged(session.key, session.revision)
            rewrite = Put(
                session.key,
                FENCE_CODEC.encode(SessionFence(session.lease, self._seq)),
                session.lease,
            )
            try:
                result = await self._store.commit([guard], [rewrite], [session_get])
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
                raise self._ended()  # another process has written the fence: the outcome is unknown
            session.revision = fence_now.mod_revision
            if fence.seq == self._seq:
                return None  # an earlier attempt to settle was committed
            self._seq += 1
            return session.revision

    async def _pause(self, tries: int) -> None:
        wait_s = pause_s(tries + 1, RETRY_PAUSE_S, RETRY_PAUSE_S_MAX)
        try:
            async with asyncio.timeout(wait_s):
                await self._session.lost.wait()
        except TimeoutError:
            return

    def _ended(self) -> SessionLost:
        """End the session, and return the error to raise."""
        self._session.lose()
        return SessionLost(
            f"the lease of session {self._session.name} has expired",
            subject=self._session.name,
            remedy="open a new session; another worker may own the shards of the ended one",
        )


def _fence_of(value: bytes) -> SessionFence:
    """Decode a fence; invalid bytes become a fence that matches no session."""
    try:
        return FENCE_CODEC.decode(value)
    except DECODING_ERRORS:
        return SessionFence(lease=0, seq=0)


class ClientSession:
    """The session of one client, opened at the first use and again after each loss."""

    def __init__(self, store: KeyValueStore, keys: WorkflowKeys, name: str) -> None:
        self._store = store
        self._keys = keys
        self._name = name
        self._current: tuple[WorkerSession, Committer] | None = None
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        """Wait for writes in flight, and revoke the lease."""
        if self._current is not None:
            session, committer = self._current
            await committer.close()
            await session.close()

    async def lease(self) -> int:
        """The lease under which replies to this client are written. Raises StoreUnavailable."""
        session, _ = await self._ready()
        return session.lease

    async def propose(self, guards: Sequence[Guard], writes: Sequence[Write]) -> Outcome:
        """Commit one proposal. Raises StoreUnavailable, OutcomeUnknown, StoreRejected."""
        _, committer = await self._ready()
        try:
            outcome: Committed | Lost = await committer.propose(guards, writes)
        except SessionLost as error:
            raise OutcomeUnknown(
                "the client's session was lost before the store confirmed the write",
                subject=error.subject,
                remedy="check whether the write was committed before you repeat it",
            ) from error
        return outcome

    async def _ready(self) -> tuple[WorkerSession, Committer]:
        async with self._opening:
            if self._current is None or self._current[0].lost.is_set():
                session = await open_session(
                    self._store, self._keys, self._name, ttl_s=CLIENT_TTL_S
                )
                self._current = session, Committer(self._store, session)
            return self._current
