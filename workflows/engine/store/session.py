"""A session: the lease of one process, and the fence of all its writes.

The key ``commit/<name>`` has the lease. Every transaction of the process compares and rewrites it,
so that a process whose lease has expired writes nothing, however long it was paused, and so that
the outcome of a transaction whose answer was lost can be read. By the process's own clock the
session ends before the lease can expire in etcd, so that activities stop in time.
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
from core.process.concurrency import until_tick_s
from workflows.engine.store.keys import WorkflowKeys

WORKER_TTL_S = 3
"""Seconds after which the shards of a dead worker are free; etcd adds up to half a second."""

CLIENT_TTL_S = 15
RENEWALS_PER_TTL = 3
RENEWAL_RETRY_S = 0.2
END_S_MAX = 2.0

_log = logging.getLogger(__name__)


class SessionFence(NamedTuple):
    """Value of ``commit/<name>``: the session's lease and the number of its transactions."""

    lease: int
    seq: int


FENCE = StateCodec(SessionFence)


class WorkerSession:
    """One lease, from ``open`` until it is lost or closed. ``lost`` is set once."""

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
        """Grant the lease and write the fence. Raises StoreUnavailable, OutcomeUnknown."""
        asked = self._monotonic()
        self.lease = await self._store.grant_lease(self._ttl_s)
        value = FENCE.encode(SessionFence(self.lease, 0))
        result = await self._store.commit([Absent(self.key)], [Put(self.key, value, self.lease)])
        assert result.succeeded, "the name of a session is random"
        self.revision = result.revision
        self._keeping = asyncio.ensure_future(self._keep(asked + self._ttl_s))

    def lose(self) -> None:
        """The lease has expired."""
        self.lost.set()

    def check(self) -> None:
        """Raises SessionLost when the session has ended."""
        if self.lost.is_set():
            raise SessionLost(
                f"session {self.name} has ended",
                subject=self.name,
                remedy="open a new session; its shards may have another owner",
            )

    async def close(self) -> None:
        """Revoke the lease; all keys under it are deleted."""
        self.abandon()
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(END_S_MAX):
                await self._store.revoke_lease(self.lease)

    def abandon(self) -> None:
        """Stop like a killed process: the lease expires."""
        self.lost.set()
        if self._keeping is not None:
            self._keeping.cancel()

    async def _keep(self, valid_until: float) -> None:
        try:
            await self._renew(valid_until)
        except Exception:  # noqa: BLE001 - logged; the session ends, and its worker opens another
            _log.exception("cannot renew the lease of session %s", self.name)
        finally:
            self.lost.set()  # nothing may continue under a lease that is not renewed

    async def _renew(self, valid_until: float) -> None:
        """Renew until the lease has expired, or may have expired by this process's clock."""
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
                _log.warning(
                    "etcd rejected the renewal of the lease of session %s: %s", self.name, error
                )
            except (TimeoutError, StoreUnavailable, OutcomeUnknown):
                pass  # etcd is unavailable; the lease may outlast that
            if left_s:
                valid_until = asked + self._ttl_s
            pause = until_tick_s(self._ttl_s / RENEWALS_PER_TTL) if left_s else RENEWAL_RETRY_S
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
    """Open a session, after a limited wait for the store. Raises StoreUnavailable."""

    async def attempt() -> WorkerSession:
        session = WorkerSession(store, keys, name, ttl_s=ttl_s, monotonic=monotonic)
        try:
            await session.open()
        except OutcomeUnknown as error:
            raise StoreUnavailable(error.message, remedy="try again") from error
        return session

    opened: WorkerSession = await waiting_for_store()(attempt)
    return opened
