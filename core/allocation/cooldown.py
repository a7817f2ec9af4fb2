"""Cool-down: a released address is not claimed again for a while if its pool has free addresses.

A cool-down mark is a key with an etcd lease: a node's wrong clock cannot shorten the cool-down. If
no other address is free, ``Finder`` takes the address that is longest in cool-down.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from core.errors import LeaseGone, StoreError
from core.eventstore.group_commit import Outcome, Proposal
from core.eventstore.kv import KeyValueStore
from core.eventstore.writer import Writer
from core.process.concurrency import SharedWork
from core.process.supervision import BackgroundTasks

COOL_DOWN_S = 30
"""Longer than a neighbour keeps using a stale ARP entry."""

OLDER_PODS_S = 300
"""Addresses of an older Pod of the same name are in cool-down at least this long.

After a forced deletion, the Pod's sandbox runs until kubelet stops it. Kubernetes evicts Pods of an
unreachable node after the same time.
"""

LEASE_SHARED_S = 10.0
"""Releases share a lease for this time. The first mark of a lease lasts longer by this time."""

AHEAD_S = 2.0
"""A release begins to grant the next lease this long before ``LEASE_SHARED_S`` ends."""

NO_LEASE: Final = 0
"""The lease id that means: no cool-down."""


class CoolDown:
    """Grants the leases of cool-down marks. ``seconds`` 0: there is no cool-down."""

    def __init__(
        self,
        store: KeyValueStore,
        seconds: int = COOL_DOWN_S,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._monotonic = monotonic
        self._grants: SharedWork[int, None] = SharedWork()
        self._lease = NO_LEASE
        self._until = float("-inf")
        self._ahead = BackgroundTasks("lease of the cool-down")
        self._of_older_pods: CoolDown | None = None
        self.seconds = seconds

    @property
    def of_older_pods(self) -> CoolDown:
        """The cool-down for addresses of an older Pod of the same name."""
        if self._of_older_pods is None:
            seconds = max(self.seconds, OLDER_PODS_S)
            self._of_older_pods = CoolDown(self._store, seconds, monotonic=self._monotonic)
        return self._of_older_pods

    async def append(self, writer: Writer, build: Callable[[int], Proposal]) -> Outcome:
        """Append a proposal with cool-down marks; see ``Writer.append``.

        ``build`` receives the lease. If etcd has ended the lease (this machine was
        suspended), ``build`` is called once more with a new lease.
        """
        lease = await self.lease()
        try:
            return await writer.append(build(lease))
        except LeaseGone:
            self._forget(lease)
            return await writer.append(build(await self.lease()))

    async def lease(self) -> int:
        """The lease for new marks; 0: no cool-down. Raises StoreUnavailable.

        Concurrent calls wait for the same grant.
        """
        if self.seconds and self._shared_s_left() <= 0:
            await self._grants.join(self.seconds, self._grant)
        return self._lease

    def grant_ahead(self) -> None:
        """Begin to grant the next lease if the current lease ends soon. Does not wait."""
        is_granting = bool(self._ahead)
        if self.seconds and not is_granting and self._shared_s_left() <= AHEAD_S:
            self._ahead.start(self._try_to_grant())

    async def _try_to_grant(self) -> None:
        with suppress(StoreError):  # the next call of ``lease`` tries again, and raises
            await self._grants.join(self.seconds, self._grant)

    async def _grant(self) -> None:
        now = self._monotonic()
        self._lease = await self._store.grant_lease(self.seconds + int(LEASE_SHARED_S))
        self._until = now + LEASE_SHARED_S

    def _shared_s_left(self) -> float:
        return self._until - self._monotonic()

    def _forget(self, lease: int) -> None:
        if lease == self._lease:
            self._until = float("-inf")
