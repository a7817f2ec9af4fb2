"""The counters and free addresses of one pool, updated claim by claim.

A claim, a release and a quarantine cost a look-up, not a scan. Only a change of the pool itself, or
of reservations inside it, makes a new tally, from this pool's claims alone. Pure: no clock, no I/O.

    total      = reserved + quarantined + assignable
    assignable = free + claimed addresses that are neither reserved nor quarantined
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from core.domain.addresses.address_set import CLAMPED_SIZE_MAX, AddressSet
from core.domain.configuration.configuration_state import pool_addresses, usable
from core.domain.model import Pool, Reservation
from core.projections.free import FreeIntervals


class PoolCounts(NamedTuple):
    """Addresses by state, each 2**63 - 1 at most.

    ``total``: ips without excludeIPs. ``claimed``: all claims, including those of addresses that
    the pool no longer contains. ``reserved``: of the total. ``quarantined``: of the total and not
    reserved. ``free``: can be claimed.
    """

    total: int
    claimed: int
    reserved: int
    quarantined: int
    free: int


class PoolTally:
    """One pool. ``held``: the claimed addresses as integers; the caller updates the set."""

    __slots__ = ("_candidates", "_quarantined", "_total", "free", "held", "pool")

    def __init__(
        self,
        pool: Pool,
        reservations: Mapping[str, Reservation],
        quarantined: Iterable[int],
        held: set[int],
    ) -> None:
        self.pool = pool
        self.held = held
        self._total = pool_addresses(pool).size
        self._candidates = usable(pool, reservations)
        self._quarantined = {value for value in quarantined if value in self._candidates}
        taken = AddressSet.from_values((*held, *self._quarantined), pool.family)
        self.free = FreeIntervals(self._candidates - taken)

    def is_changed_by(self, reservations: Mapping[str, Reservation]) -> bool:
        """Whether these reservations reserve other addresses of the pool than before."""
        return usable(self.pool, reservations) != self._candidates

    def claim(self, value: int) -> None:
        """Record that the address is claimed."""
        self.free.discard(value)

    def release(self, value: int) -> None:
        """Record that the claim of the address has ended."""
        if value in self._candidates and value not in self._quarantined:
            self.free.add(value)

    def quarantine(self, value: int) -> bool:
        """Record that the address is in quarantine; returns whether it belongs to this pool."""
        if value not in self._candidates:
            return False
        self._quarantined.add(value)
        self.free.discard(value)
        return True

    def lift_quarantine(self, value: int) -> bool:
        """Record that its quarantine was lifted; returns whether this pool had it in quarantine."""
        if value not in self._quarantined:
            return False
        self._quarantined.discard(value)
        if value not in self.held:
            self.free.add(value)
        return True

    @property
    def counts(self) -> PoolCounts:
        """The present counters."""
        exact = (
            self._total,
            len(self.held),
            self._total - self._candidates.size,
            len(self._quarantined),
            self.free.size,
        )
        return PoolCounts(*(min(count, CLAMPED_SIZE_MAX) for count in exact))
