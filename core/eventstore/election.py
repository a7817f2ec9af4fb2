"""Leader election: one process at a time does the work of a role; a former leader cannot write.

The leader holds the key ``lease/<role>`` with an etcd lease. The key is written once in a term; its
revision is the epoch of the term. A transaction with the guard ``LeaderTerm.fence`` commits only
during the term, even if the process was paused. The leader stops its work, by its own clock, before
the lease can end in etcd. A standby waits until the key is deleted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from core.errors import LeaseGone, OrbweaverError, OutcomeUnknown, StoreError, StoreUnavailable
from core.eventstore.codec import KeyKind, StateCodec, check_counts
from core.eventstore.keys import Keys, check_name
from core.eventstore.kv import Absent, Get, KeyValue, KeyValueStore, Put, Unchanged
from core.eventstore.writer import unix_ms
from core.process.concurrency import until_tick_s
from core.process.retry import Backoff

LEASE_TTL_S = 6
"""After a crash, a standby leads within this time plus one second."""

RENEWALS_PER_TTL = 3

CAMPAIGN_PAUSE_S = 0.5
"""The pause after an error of etcd, and after failed work."""

WORK_STOP_S_MAX = 5.0
"""The longest time that the work may take to stop after its term."""


class Leader(NamedTuple):
    """The value of ``lease/<role>``. ``since_ms``: the term's start (leader's clock, Unix ms)."""

    name: str
    since_ms: int


class LeaderTerm(NamedTuple):
    """One term of a leader. ``epoch`` grows from term to term."""

    role: str
    name: str
    epoch: int
    key: bytes
    lease: int

    @property
    def fence(self) -> Unchanged:
        """A guard that fails after the term, even if the process was paused."""
        return Unchanged(self.key, self.epoch)


LEADER_CODEC = StateCodec(Leader, lambda leader: check_counts(since_ms=leader.since_ms))
LEADER_KEYS: KeyKind[Leader] = KeyKind(
    name="leader",
    prefix="lease",
    decode=LEADER_CODEC.decode,
    readers=("controller", "orbctl"),
    remedy="no action needed: the key expires, or the next candidate overwrites it",
    check_key=lambda keys, key: keys.check_parts(key, 2),
)

Work = Callable[[LeaderTerm], Awaitable[None]]


async def read_leader(store: KeyValueStore, keys: Keys, role: str) -> tuple[Leader, int] | None:
    """The leader and the term's epoch, or None. Raises StoreUnavailable, LogCorrupt."""
    kv = (await store.read([Get(keys.lease(role))])).ranges[0].first
    return (LEADER_KEYS.decode(keys, kv.key, kv.value), kv.mod_revision) if kv else None


class Election:
    """One candidate for a role."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        role: str,
        name: str,
        *,
        ttl_s: int = LEASE_TTL_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.role = role
        self.name = check_name(name, "candidate name")
        self.term: LeaderTerm | None = None
        self._store = store
        self._key = keys.lease(role)
        self._ttl_s = ttl_s
        self._monotonic = monotonic

    async def lead(self, work: Work) -> None:
        """Campaign and run ``work`` in every term, until ``work`` returns.

        ``work`` is cancelled when the term ends. After a retryable error of ``work``, a new
        campaign begins. Other errors are raised.
        """
        backoff = Backoff(CAMPAIGN_PAUSE_S)
        while True:
            try:
                term, valid_until = await self._campaign()
            except StoreError as error:
                # LeaseGone: this process was paused, and its lease ended before the commit.
                if not error.retryable and not isinstance(error, LeaseGone):
                    raise
                await backoff.wait()
                continue
            self.term = term
            try:
                if await self._serve(term, valid_until, work):
                    return
            except OrbweaverError as error:
                if not error.retryable:
                    raise
            finally:
                self.term = None
                await self._revoke_lease(term.lease)
            await backoff.wait()

    async def _campaign(self) -> tuple[LeaderTerm, float]:
        """Wait to become the leader. Returns the term, and the end of the lease (monotonic)."""
        while True:
            requested_at = self._monotonic()
            lease = await self._store.grant_lease(self._ttl_s)
            term = None
            try:
                epoch, revision = await self._try_to_lead(lease)
                if epoch:
                    term = LeaderTerm(self.role, self.name, epoch, self._key, lease)
                    return term, requested_at + self._ttl_s
            finally:
                if term is None:
                    await self._revoke_lease(lease)
            await self._until_vacant(revision)

    async def _try_to_lead(self, lease: int) -> tuple[int, int]:
        """Try to become the leader. Returns the epoch (0: not elected) and a revision.

        If not elected, the candidate waits for a deletion of the key after this revision. A
        revision of 0 means that the candidate tries again without waiting.
        """
        value, get = LEADER_CODEC.encode(Leader(self.name, unix_ms())), Get(self._key)
        try:
            result = await self._store.commit(
                [Absent(self._key)], [Put(self._key, value, lease)], [get]
            )
        except OutcomeUnknown:
            kv = (await self._store.read([get])).ranges[0].first
            return self._epoch_of(kv, lease), 0
        if result.succeeded:
            return result.revision, result.revision
        kv = result.reads[get].first
        if kv is not None and not kv.lease:
            return await self._overwrite(kv, value, lease)
        return self._epoch_of(kv, lease), result.revision

    async def _overwrite(self, kv: KeyValue, value: bytes, lease: int) -> tuple[int, int]:
        """Replace a key that has no lease. Such a key never expires, and no candidate wrote it."""
        result = await self._store.commit(
            [Unchanged(self._key, kv.mod_revision)], [Put(self._key, value, lease)]
        )
        return (result.revision, result.revision) if result.succeeded else (0, 0)

    @staticmethod
    def _epoch_of(kv: KeyValue | None, lease: int) -> int:
        return kv.mod_revision if kv and kv.lease == lease else 0

    async def _until_vacant(self, revision: int) -> None:
        """Wait until the key is deleted after ``revision``. A revision of 0 means no wait."""
        if not revision:
            return
        async for batch in self._store.watch([(self._key, self._key + b"\0")], after=revision):
            if any(change.value is None for change in batch.changes):
                return

    async def _serve(self, term: LeaderTerm, valid_until: float, work: Work) -> bool:
        """Run the work until the work or the lease ends. Returns whether the work ended."""
        work_task = asyncio.ensure_future(work(term))
        renewal_task = asyncio.ensure_future(self._keep_lease(term.lease, valid_until))
        finished = False
        try:
            await asyncio.wait({work_task, renewal_task}, return_when=asyncio.FIRST_COMPLETED)
            finished = work_task.done()
        finally:
            renewal_task.cancel()
            work_task.cancel()
            await asyncio.wait({work_task, renewal_task}, timeout=WORK_STOP_S_MAX)
        ended_task = work_task if finished else renewal_task
        ended_task.result()
        return finished

    async def _keep_lease(self, lease: int, valid_until: float) -> None:
        """Renew the lease. Return when it has ended, or may end before the next renewal."""
        # ``until_tick_s`` lets the periodic tasks of the process wake together.
        pause = until_tick_s(self._ttl_s / RENEWALS_PER_TTL)
        while True:
            await asyncio.sleep(pause)
            requested_at = self._monotonic()
            try:
                async with asyncio.timeout(valid_until - requested_at):
                    remaining_s = await self._store.keep_lease(lease)
            except TimeoutError:
                return
            except StoreUnavailable:
                pause = min(pause, CAMPAIGN_PAUSE_S)
                if self._monotonic() + pause >= valid_until:
                    return
                continue
            if not remaining_s:
                return
            pause = until_tick_s(self._ttl_s / RENEWALS_PER_TTL)
            valid_until = requested_at + self._ttl_s

    async def _revoke_lease(self, lease: int) -> None:
        """Revoke the lease. If etcd cannot be reached, the lease expires."""
        try:
            async with asyncio.timeout(self._ttl_s):
                await self._store.revoke_lease(lease)
        except (StoreError, TimeoutError):
            return
