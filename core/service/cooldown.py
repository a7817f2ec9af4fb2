"""Cool-down: released addresses rest before they are handed out again, while others are free.

A rest mark is a key under an etcd lease, so the rest ends by etcd's own clock: no agent's clock
jump can shorten or prolong it, and nobody has to clean up. Releases of the same few seconds share
one lease. A mark never blocks the last free addresses of a pool (``Finder`` takes the longest
resting one then).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from core.store.kv import KeyValueStore

COOL_DOWN_S = 30
"""Default rest of a released address: longer than neighbours keep an ARP entry they still use."""

LEASE_SHARED_S = 10.0
"""Releases within this time share a lease; marks live up to this much longer than the cool-down."""


class CoolDown:
    """Hands out the lease for the next rest mark; ``seconds`` 0 switches the cool-down off."""

    def __init__(
        self,
        store: KeyValueStore,
        seconds: int = COOL_DOWN_S,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._monotonic = monotonic
        self._granting = asyncio.Lock()
        self._lease = 0
        self._until = float("-inf")
        self.seconds = seconds

    async def lease(self) -> int:
        """The lease for marks made now; 0 means that nothing rests. Raises StoreUnavailable."""
        if not self.seconds:
            return 0
        async with self._granting:  # who comes meanwhile shares what is granted
            now = self._monotonic()
            if now >= self._until:
                self._lease = await self._store.grant_lease(self.seconds + int(LEASE_SHARED_S))
                self._until = now + LEASE_SHARED_S
            return self._lease
