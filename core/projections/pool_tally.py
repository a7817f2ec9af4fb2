"""The counters and free addresses of one pool, updated claim by claim.

A claim, a release and a quarantine cost a look-up, not a scan. Only a change of the pool itself, or
of reservations inside it, makes a new tally, from this pool's claims alone. Pure: no clock, no I/O.

    total = reserved + quarantined + usable        usable = free + claimed among them
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

    ``total``: ips without excludeIPs. ``claimed``: also outside of the pool's current addresses.
    ``reserved``: of the total. ``quarantined``: of the total and not reserved. ``free``: can be
    claimed.
    """

    total: int
    claimed: int
    reserved: int
    quarantined: int
    free: int


class PoolTally:
    """One pool. ``held`` is the pool's set of claimed values, which its owner keeps up to date."""

    __slots__ = ("_aside", "_candidates", "_total", "free", "held", "pool")

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
        self._aside = {value for value in quarantined if value in self._candidates}
        taken = AddressSet.from_values((*held, *self._aside), pool.family)
        self.free = FreeIntervals(self._candidates - taken)

    def is_changed_by(self, reservations: Mapping[str, Reservation]) -> bool:
        """Whether these reservations leave other addresses than before."""
        return usable(self.pool, reservations) != self._candidates

    def claim(self, value: int) -> None:
        """The address is held from now on."""
        self.free.discard(value)

    def release(self, value: int) -> None:
        """The address is held no longer."""
        if value in self._candidates and value not in self._aside:
            self.free.add(value)

    def set_aside(self, value: int) -> bool:
        """The address was quarantined; whether it is one of this pool's."""
        if value not in self._candidates:
            return False
        self._aside.add(value)
        self.free.discard(value)
        return True

    def take_back(self, value: int) -> bool:
        """The quarantine was lifted; whether it was one of this pool's."""
        if value not in self._aside:
            return False
        self._aside.discard(value)
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
            len(self._aside),
            self.free.size,
        )
        return PoolCounts(*(min(count, CLAMPED_SIZE_MAX) for count in exact))
