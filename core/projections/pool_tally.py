"""The counters and free addresses of one pool, updated claim by claim.

Only a change of the pool, or of reservations in the pool, requires a new tally; other changes are
look-ups, not scans. No I/O.

total      = reserved + quarantined + assignable
assignable = free + claimed addresses that are neither reserved nor quarantined
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from core.domain.addresses.address_set import CLAMPED_SIZE_MAX, AddressSet
from core.domain.configuration.configuration_state import pool_addresses, unreserved_addresses
from core.domain.model import Pool, Reservation
from core.projections.free_intervals import FreeIntervals


class PoolCounts(NamedTuple):
    """Numbers of addresses of a pool by state, each 2**63 - 1 at most.

    ``total``: ips without excludeIPs. ``claimed``: all claims, including claims of addresses that
    the pool no longer contains. The other fields count only addresses of ``total``.
    ``quarantined``: in quarantine and not reserved. ``free``: not claimed, reserved or quarantined.
    """

    total: int
    claimed: int
    reserved: int
    quarantined: int
    free: int


class PoolTally:
    """The counters and free addresses of one pool.

    ``claimed``: the claimed addresses as integers; the caller updates this set.
    """

    __slots__ = ("_quarantined", "_total", "_usable", "claimed", "free", "pool")

    def __init__(
        self,
        pool: Pool,
        reservations: Mapping[str, Reservation],
        quarantined: Iterable[int],
        claimed: set[int],
    ) -> None:
        self.pool = pool
        self.claimed = claimed
        self._total = pool_addresses(pool).size
        self._usable = unreserved_addresses(pool, reservations)  # includes quarantined addresses
        self._quarantined = {value for value in quarantined if value in self._usable}
        taken_addresses = AddressSet.from_values(claimed | self._quarantined, pool.family)
        self.free = FreeIntervals(self._usable - taken_addresses)

    def is_changed_by(self, reservations: Mapping[str, Reservation]) -> bool:
        """Whether these reservations change which addresses of the pool are reserved."""
        return unreserved_addresses(self.pool, reservations) != self._usable

    def claim(self, value: int) -> None:
        """Remove a claimed address from ``free``."""
        self.free.discard(value)

    def release(self, value: int) -> None:
        """Add a released address to ``free``, unless it is reserved or in quarantine."""
        if value in self._usable and value not in self._quarantined:
            self.free.add(value)

    def quarantine(self, value: int) -> bool:
        """Record that the address is in quarantine; return whether a counter may change."""
        if value not in self._usable:
            return False
        self._quarantined.add(value)
        self.free.discard(value)
        return True

    def lift_quarantine(self, value: int) -> bool:
        """Record that the quarantine was lifted; return whether a counter changes."""
        if value not in self._quarantined:
            return False
        self._quarantined.discard(value)
        if value not in self.claimed:
            self.free.add(value)
        return True

    @property
    def counts(self) -> PoolCounts:
        """The current counters."""
        exact_counts = (
            self._total,
            len(self.claimed),
            self._total - self._usable.size,
            len(self._quarantined),
            self.free.size,
        )
        return PoolCounts(*(min(count, CLAMPED_SIZE_MAX) for count in exact_counts))
