"""Cool-down: released addresses rest before they are handed out again, while others are free.

A rest mark is a key under an etcd lease, so the rest ends by etcd's own clock: no agent's clock
jump can shorten or prolong it, and nobody has to clean up. Releases of the same few seconds share
one lease. A mark never blocks the last free addresses of a pool (``Finder`` takes the longest
resting one then).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from core.errors import LeaseGone, StoreError
from core.eventstore.batch import Proposal
from core.eventstore.group_commit import Outcome
from core.eventstore.kv import KeyValueStore
from core.eventstore.writer import Writer
from core.process.concurrency import SharedWork
from core.process.supervision import BackgroundTasks

COOL_DOWN_S = 30
"""Default rest of a released address: longer than neighbours keep an ARP entry they still use."""

OLDER_PODS_S = 300
"""Least rest of what a Pod of the same name had before, in any order.

Its UID is gone from the API server, but no DEL has confirmed the end of its sandbox: after a force
delete it runs on until its node obeys. This is the time that Kubernetes gives an unreachable node.
"""

LEASE_SHARED_S = 10.0
"""Releases within this time share a lease; marks live up to this much longer than the cool-down."""

AHEAD_S = 2.0
"""Before the end of that time the next lease is granted, so that no release waits for it."""

NO_LEASE: Final = 0
"""In place of a lease: nothing rests."""


class CoolDown:
    """Hands out the lease for the next rest mark; ``seconds`` 0 switches the cool-down off.

    ``of_older_pods`` is the cool-down of addresses that end with the ADD of another Pod.
    """

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
        """The same, but never shorter than ``OLDER_PODS_S``."""
        if self._of_older_pods is None:
            seconds = max(self.seconds, OLDER_PODS_S)
            self._of_older_pods = CoolDown(self._store, seconds, monotonic=self._monotonic)
        return self._of_older_pods

    async def append(self, writer: Writer, proposal: Callable[[int], Proposal]) -> Outcome:
        """Append ``proposal(lease)``, whose rest marks have that lease. Raises as ``append`` does.

        A lease that ended while it was kept here (this machine was suspended) is replaced once.
        """
        lease = await self.lease()
        try:
            return await writer.append(proposal(lease))
        except LeaseGone:
            self._forget(lease)
            return await writer.append(proposal(await self.lease()))

    async def lease(self) -> int:
        """The lease for marks made now; 0 means that nothing rests. Raises StoreUnavailable."""
        if self.seconds and self._lasts_s() <= 0:
            await self._grants.join(self.seconds, self._grant)
        return self._lease

    def grant_ahead(self) -> None:
        """A release has begun: grant the lease that it or the next ones need, meanwhile."""
        if self.seconds and not self._ahead and self._lasts_s() <= AHEAD_S:
            self._ahead.start(self._try_to_grant())

    async def _try_to_grant(self) -> None:
        with suppress(StoreError):  # the release that needs it asks itself, and reports the error
            await self._grants.join(self.seconds, self._grant)

    async def _grant(self) -> None:
        now = self._monotonic()
        self._lease = await self._store.grant_lease(self.seconds + int(LEASE_SHARED_S))
        self._until = now + LEASE_SHARED_S

    def _lasts_s(self) -> float:
        """How long the lease may still be handed out."""
        return self._until - self._monotonic()

    def _forget(self, lease: int) -> None:
        """Hand this lease out no more."""
        if lease == self._lease:
            self._until = float("-inf")
