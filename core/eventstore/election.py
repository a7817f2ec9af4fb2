"""Leader election: one process at a time does a role's work, and a late one cannot write.

``lease/<role>`` exists under an etcd lease of whoever leads. It is written once a term, so its
revision is the term's epoch and ``LeaderTerm.fence`` a guard: a transaction with it commits only
while that term lasts, however long its process was paused. A leader stops by its own clock before
etcd's lease can have ended; a standby watches the key and takes over when it goes.
This module never decides what the work is, and never retries a write whose outcome is unknown.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from core.domain.plausibility import check_counts
from core.errors import OrbweaverError, OutcomeUnknown, StoreError, StoreUnavailable
from core.eventstore.codec import StateCodec
from core.eventstore.keys import Keys, check_name
from core.eventstore.kinds import KeyKind
from core.eventstore.kv import Absent, Get, KeyValue, KeyValueStore, Put, Unchanged
from core.eventstore.writer import unix_ms
from core.process.event_loop import until_tick_s

LEASE_TTL_S = 6
"""After a crash of the leader, a standby takes over within this time (and a second of etcd's)."""

RENEWALS_PER_TTL = 3
CAMPAIGN_PAUSE_S = 0.5
"""Between two attempts while etcd is away, and after work that failed."""

WORK_STOP_S_MAX = 5.0
"""How long the work of a term that has ended may take to stop."""


class Leader(NamedTuple):
    """What the key says: who leads, and since when by its own clock."""

    name: str
    since_ms: int


class LeaderTerm(NamedTuple):
    """One time of leading. ``epoch`` grows from term to term, whoever leads."""

    role: str
    name: str
    epoch: int
    key: bytes
    lease: int

    @property
    def fence(self) -> Unchanged:
        """Holds while this term lasts."""
        return Unchanged(self.key, self.epoch)


LEADER = StateCodec(Leader, lambda leader: check_counts(leader.since_ms))
LEADERS: KeyKind[Leader] = KeyKind(
    *("leader", "lease", LEADER.decode, ("controller", "orbctl")),
    "nothing: a key without a lease is no leader's, and the next candidate writes over it",
    check_key=lambda keys, key: keys.check_parts(key, 2),
)

Work = Callable[[LeaderTerm], Awaitable[None]]


async def read_leader(store: KeyValueStore, keys: Keys, role: str) -> tuple[Leader, int] | None:
    """Who leads and the epoch, or None. Raises StoreUnavailable, LogCorrupt."""
    found = (await store.read([Get(keys.lease(role))])).ranges[0].first
    return (LEADERS.decode(keys, found.key, found.value), found.mod_revision) if found else None


class Election:
    """Campaigns for one role under one name."""

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
        """Campaign, do the work while leading, and so on, until cancelled or the work returns.

        ``work`` is cancelled when the term ends. Work that fails in a way that a retry can help
        ends the term and another one is campaigned for; any other error is raised.
        """
        while True:
            try:
                term, valid_until = await self._campaign()
            except StoreError as error:
                if not error.retryable:
                    raise
                await asyncio.sleep(CAMPAIGN_PAUSE_S)
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
                await self._end(term.lease)
            await asyncio.sleep(CAMPAIGN_PAUSE_S)

    async def _campaign(self) -> tuple[LeaderTerm, float]:
        """Wait until the role is ours: the term, and until when it lasts by our own clock."""
        while True:
            asked = self._monotonic()
            lease = await self._store.grant_lease(self._ttl_s)
            won = None
            try:
                epoch, holder = await self._try(lease)
                if epoch:
                    won = LeaderTerm(self.role, self.name, epoch, self._key, lease)
                    return won, asked + self._ttl_s
            finally:
                if won is None:
                    await self._end(lease)
            await self._until_vacant(holder)

    async def _try(self, lease: int) -> tuple[int, int]:
        """One attempt: our epoch or 0, and the revision at which somebody else has the key."""
        value, get = LEADER.encode(Leader(self.name, unix_ms())), Get(self._key)
        try:
            result = await self._store.commit(
                [Absent(self._key)], [Put(self._key, value, lease)], [get]
            )
        except OutcomeUnknown:
            found = (await self._store.read([get])).ranges[0].first
            return self._own(found, lease), 0
        if result.succeeded:
            return result.revision, result.revision
        found = result.reads[get].first
        if found is not None and not found.lease:
            return await self._write_over(found, value, lease)
        return self._own(found, lease), result.revision

    async def _write_over(self, found: KeyValue, value: bytes, lease: int) -> tuple[int, int]:
        """As ``_try``, over a key that no candidate has written: it would be there for ever."""
        result = await self._store.commit(
            [Unchanged(self._key, found.mod_revision)], [Put(self._key, value, lease)]
        )
        return (result.revision, result.revision) if result.succeeded else (0, 0)

    @staticmethod
    def _own(found: KeyValue | None, lease: int) -> int:
        return found.mod_revision if found and found.lease == lease else 0

    async def _until_vacant(self, seen: int) -> None:
        """Return when the key that was there at revision ``seen`` is gone."""
        if not seen:
            return
        async for batch in self._store.watch([(self._key, self._key + b"\0")], after=seen):
            if any(change.value is None for change in batch.changes):
                return

    async def _serve(self, term: LeaderTerm, valid_until: float, work: Work) -> bool:
        """Work while the lease is renewed; whether the work came to its own end."""
        working = asyncio.ensure_future(work(term))
        keeping = asyncio.ensure_future(self._keep(term.lease, valid_until))
        finished = False
        try:
            await asyncio.wait({working, keeping}, return_when=asyncio.FIRST_COMPLETED)
            finished = working.done()
        finally:
            keeping.cancel()
            working.cancel()
            await asyncio.wait({working, keeping}, timeout=WORK_STOP_S_MAX)
        (working if finished else keeping).result()
        return finished

    async def _keep(self, lease: int, valid_until: float) -> None:
        """Renew; returns when the lease is gone, or may be by the time another renewal answers."""
        pause = until_tick_s(self._ttl_s / RENEWALS_PER_TTL)
        while True:
            await asyncio.sleep(pause)
            asked = self._monotonic()
            try:
                async with asyncio.timeout(valid_until - asked):
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
            valid_until = asked + self._ttl_s

    async def _end(self, lease: int) -> None:
        """Give the lease back at once; if etcd does not hear it, it ends by itself."""
        try:
            async with asyncio.timeout(self._ttl_s):
                await self._store.revoke_lease(lease)
        except (StoreError, TimeoutError):
            return
