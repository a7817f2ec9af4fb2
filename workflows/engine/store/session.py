"""A session: one process's lease, and the fence that all of its writes carry.

``commit/<name>`` exists under the lease. Every transaction of the process compares and rewrites it,
so that a process whose lease has ended writes nothing more, however long it was paused, and so that
the fate of a transaction whose answer was lost can be read back. The session also ends by the
process's own clock, before etcd's lease can have ended: then activities stop in time.
It never decides what is written.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from core.errors import (
    OutcomeUnknown,
    SessionLost,
    StoreError,
    StoreRejected,
    StoreUnavailable,
)
from core.eventstore.codec import StateCodec
from core.eventstore.keys import check_name
from core.eventstore.kv import Absent, KeyValueStore, Put
from core.eventstore.retry_policies import waiting_for_store
from core.process.event_loop import until_tick_s
from workflows.engine.store.keys import WorkflowKeys

WORKER_TTL_S = 3
"""A dead worker's shards are free after this time and half a second of etcd's."""

CLIENT_TTL_S = 15
RENEWALS_PER_TTL = 3
AWAY_PAUSE_S = 0.2
END_S_MAX = 2.0

_log = logging.getLogger(__name__)


class SessionFence(NamedTuple):
    """Value of ``commit/<name>``: the session's lease and its transactions so far."""

    lease: int
    seq: int


FENCE = StateCodec(SessionFence)


class WorkerSession:
    """One lease from ``open`` to its loss or ``close``. ``lost`` is set once and for all."""

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
        self._keeping: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Take a lease and place the fence. Raises StoreUnavailable, OutcomeUnknown."""
        asked = self._monotonic()
        self.lease = await self._store.grant_lease(self._ttl_s)
        value = FENCE.encode(SessionFence(self.lease, 0))
        result = await self._store.commit([Absent(self.key)], [Put(self.key, value, self.lease)])
        assert result.succeeded, "the name of a session is random"
        self.revision = result.revision
        self._keeping = asyncio.ensure_future(self._keep(asked + self._ttl_s))

    def lose(self) -> None:
        """The lease is known to be gone."""
        self.lost.set()

    def check(self) -> None:
        """Raises SessionLost when the session is over."""
        if self.lost.is_set():
            raise SessionLost(
                f"the session {self.name} is over",
                subject=self.name,
                remedy="open a new one; what it owned may have another owner",
            )

    async def close(self) -> None:
        """Give the lease back; everything under it is free at once."""
        self.abandon()
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(END_S_MAX):
                await self._store.revoke_lease(self.lease)

    def abandon(self) -> None:
        """Stop as a killed process does: the lease ends by itself."""
        self.lost.set()
        if self._keeping is not None:
            self._keeping.cancel()

    async def _keep(self, valid_until: float) -> None:
        try:
            await self._renew(valid_until)
        except Exception:  # noqa: BLE001 - logged; the session is over, and its worker opens another
            _log.exception("the lease of session %s is renewed no more", self.name)
        finally:
            self.lost.set()  # however it ends: nothing goes on under a lease that nothing renews

    async def _renew(self, valid_until: float) -> None:
        """Until the lease is gone, or may be gone by this process's clock."""
        pause = until_tick_s(self._ttl_s / RENEWALS_PER_TTL)
        while not self.lost.is_set():
            await asyncio.sleep(pause)
            asked = self._monotonic()
            left_s = 0
            try:
                async with asyncio.timeout(max(valid_until - asked, 0)):
                    left_s = await self._store.keep_lease(self.lease)
                    if not left_s:
                        break
            except StoreRejected as error:
                _log.warning("the lease of session %s is not renewed: %s", self.name, error)
            except (TimeoutError, StoreUnavailable, OutcomeUnknown):
                pass  # etcd is away; the lease may last until it is back
            if left_s:
                valid_until = asked + self._ttl_s
            pause = until_tick_s(self._ttl_s / RENEWALS_PER_TTL) if left_s else AWAY_PAUSE_S
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
    """A new session, after a bounded wait for the store. Raises StoreUnavailable."""

    async def attempt() -> WorkerSession:
        session = WorkerSession(store, keys, name, ttl_s=ttl_s, monotonic=monotonic)
        try:
            await session.open()
        except OutcomeUnknown as error:
            raise StoreUnavailable(error.message, remedy="try again") from error
        return session

    found: WorkerSession = await waiting_for_store()(attempt)
    return found
