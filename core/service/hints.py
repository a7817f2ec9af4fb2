"""Free addresses of nearly full pools, by what the projector publishes and this process has seen.

A blind choice misses in a nearly full pool, which is the normal state of scarce addresses. Then the
pool's view (``core.projections.views``) names free addresses for one small read, and its next
requests choose among them without any. Promise: a hint is never the truth. The transaction's guards
decide, a stale hint costs one more try, and only a read of the truth calls a pool full
(``Finder``). It watches nothing: an agent must not receive every allocation of every pool.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Final

from core.domain.address_set import AddressSet
from core.domain.addresses import parse_address
from core.domain.choice import spread_index
from core.domain.events import Release
from core.projections.free import FreeIntervals
from core.projections.views import POOL_VIEWS
from core.store.faults import Faults
from core.store.keys import Keys
from core.store.kv import Get, KeyValueStore

SCARCE_SHARE: Final = 1 / 8
"""A pool of which at most this share is free is nearly full: more, and a blind choice will do."""

VIEW_AGE_S: Final = 1.0
"""The view of a pool is read at most once in this time: it is published no oftener."""

SCARCE_S: Final = 60.0
"""How long a pool counts as nearly full after the last evidence of it."""

POOLS_MAX: Final = 256
"""Nearly full pools remembered at once; beyond it the oldest is forgotten."""

INTERVALS_MAX: Final = 1_024
"""Free intervals remembered of one pool; addresses released beyond it are not added."""

TRIES_MAX: Final = 8
"""Addresses that are being claimed already, passed over in one choice."""


class _Hint:
    """One pool: ``free`` by what is known, ``read_at`` of its view, ``until`` it is nearly full."""

    __slots__ = ("free", "read_at", "until")

    def __init__(self) -> None:
        self.free: FreeIntervals | None = None
        self.read_at = float("-inf")
        self.until = float("-inf")


class PoolHints:
    """The hints of one process."""

    def __init__(
        self, store: KeyValueStore, keys: Keys, faults: Faults, monotonic: Callable[[], float]
    ) -> None:
        self._store = store
        self._keys = keys
        self._faults = faults
        self._monotonic = monotonic
        self._pools: dict[str, _Hint] = {}

    def pick(self, pool: str, usable: AddressSet, seed: str, avoid: Container[int]) -> int | None:
        """A free address by the hint, which forgets it; None: there is no hint, or none is left.

        Requests with different seeds pick different addresses, so that agents rarely meet.
        """
        hint = self._pools.get(pool)
        if hint is None or hint.free is None or self._monotonic() > hint.until:
            return None
        for number in range(TRIES_MAX):
            if not hint.free.size:
                return None
            value = hint.free.at(spread_index(f"{seed} {number}", hint.free.size))
            hint.free.discard(value)
            if value in usable and value not in avoid:
                return value
        return None

    async def refresh(self, pool: str, usable: AddressSet) -> None:
        """After a miss: read the pool's view, unless that was done a moment ago.

        Raises StoreUnavailable.
        """
        hint, now = self._hint(pool), self._monotonic()
        if now - hint.read_at < VIEW_AGE_S:
            return
        hint.read_at = now
        key = self._keys.pool_view(pool)
        found = (await self._store.read([Get(key)])).ranges[0].first
        view = self._faults.read(POOL_VIEWS, self._keys, key, found.value) if found else None
        if view is not None and view.counts.free <= usable.size * SCARCE_SHARE:
            hint.free = FreeIntervals(AddressSet.from_items(view.free, view.family))
            hint.until = now + SCARCE_S

    def learn(self, pool: str, usable: AddressSet, free: Iterable[int]) -> None:
        """The truth had to be read for an address of this pool, and named these too.

        From now on, addresses that this process releases in it are remembered as well.
        """
        hint = self._hint(pool)
        hint.until = self._monotonic() + SCARCE_S
        hint.free = FreeIntervals(AddressSet.from_values(free, usable.family))

    def released(self, release: Release) -> None:
        """This process has released an address that does not rest."""
        hint = self._pools.get(release.pool)
        if hint is None or self._monotonic() > hint.until:
            return
        if hint.free is not None and len(hint.free) < INTERVALS_MAX:
            hint.free.add(parse_address(release.address).value)

    def _hint(self, pool: str) -> _Hint:
        hint = self._pools.get(pool)
        if hint is None:
            if len(self._pools) >= POOLS_MAX:
                del self._pools[next(iter(self._pools))]
            hint = self._pools[pool] = _Hint()
        return hint
