"""Hourly net growth of every pool and subnet, computed from the log.

The growth of a pool is its claims minus its releases. The growth of a subnet is the number of
addresses that pools took from it minus the number that pools returned.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Final, NamedTuple

from core.archive.replay import LogView, advance_clock
from core.domain.addresses.ip_address import AddressSyntaxError
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.events import (
    AddressesClaimed,
    AddressesReleased,
    PoolDefined,
    PoolDeleted,
    Recorded,
    SubnetDefined,
    SubnetDeleted,
)
from core.domain.forecast import HOURS_MAX
from core.domain.model import Pool
from core.domain.subnets.subnet_model import owner_subnet_name

HOUR_MS: Final = 3_600_000


class GrowthSubject(NamedTuple):
    """A pool or a subnet. ``kind``: "pool" or "subnet"."""

    kind: str
    name: str


class _Share(NamedTuple):
    """The number of addresses that a pool has from a subnet; ``subnet`` is "" without a subnet."""

    subnet: str
    size: int


_NO_SUBNET: Final = _Share(subnet="", size=0)


class GrowthLog:
    """Net growth in each hour, up to ``position``."""

    def __init__(self) -> None:
        self.position = 0
        self._clock_ms = 0
        self._first_hours: dict[GrowthSubject, int] = {}
        """Subject -> the hour from which its growth is known, in hours since 1970."""
        self._net: defaultdict[GrowthSubject, dict[int, int]] = defaultdict(dict)
        """Subject -> hour -> net growth."""
        self._shares: dict[str, _Share] = {}

    async def read(self, view: LogView, now_ms: int) -> None:
        """Read the new events of the log; the first call begins ``HOURS_MAX`` hours ago.

        Raises LogCorrupt, LogGap, Compacted, StoreUnavailable.
        """
        first_hour = now_ms // HOUR_MS - HOURS_MAX
        if not self.position:
            await asyncio.to_thread(self._begin, view, first_hour * HOUR_MS)
        async for batch in view.batches(self.position):
            for segment in batch.segments:
                for recorded in view.events_of(segment):
                    self._clock_ms = advance_clock(self._clock_ms, recorded, batch.read_at_ms)
                    self._apply(recorded, self._clock_ms // HOUR_MS)
                self.position = segment.position
            await asyncio.sleep(0)  # let other tasks run: reading sealed batches never awaits
        self._drop_before(first_hour)

    def net_growth(self, subject: GrowthSubject, now_ms: int) -> list[int]:
        """The growth in each complete hour, oldest hour first."""
        this_hour = now_ms // HOUR_MS
        first = max(self._first_hours.get(subject, this_hour), this_hour - HOURS_MAX)
        net = self._net.get(subject, {})
        return [net.get(hour, 0) for hour in range(first, this_hour)]

    def _begin(self, view: LogView, begin_ms: int) -> None:
        """Start at the newest snapshot not after ``begin_ms``."""
        snapshot = view.sealed.snapshot_at_time(begin_ms)
        self.position, self._clock_ms = snapshot.ledger.position, snapshot.clock_ms
        hour = snapshot.clock_ms // HOUR_MS
        for pool in snapshot.ledger.pools.values():
            self._first_hours[GrowthSubject("pool", pool.name)] = hour
            self._shares[pool.name] = _share_of(pool)
        for name in snapshot.ledger.subnets:
            self._first_hours[GrowthSubject("subnet", name)] = hour

    def _apply(self, recorded: Recorded, hour: int) -> None:
        match recorded.event:
            case AddressesClaimed(endpoint, new_nics):
                for index in new_nics:
                    for _, pool in endpoint.nics[index].addresses():
                        self._grow(GrowthSubject("pool", pool), hour, 1)
            case AddressesReleased(releases=releases):
                for release in releases:
                    self._grow(GrowthSubject("pool", release.pool), hour, -1)
            case PoolDefined(pool):
                self._first_hours.setdefault(GrowthSubject("pool", pool.name), hour)
                self._set_share(pool.name, _share_of(pool), hour)
            case PoolDeleted(name):
                self._set_share(name, _NO_SUBNET, hour)
                self._drop(GrowthSubject("pool", name))
            case SubnetDefined(subnet):
                self._first_hours.setdefault(GrowthSubject("subnet", subnet.name), hour)
            case SubnetDeleted(name):
                self._drop(GrowthSubject("subnet", name))
            case _:
                pass

    def _set_share(self, pool: str, after: _Share, hour: int) -> None:
        before = self._shares.get(pool, _NO_SUBNET)
        if after.subnet:
            self._shares[pool] = after
        else:
            self._shares.pop(pool, None)
        if GrowthSubject("subnet", before.subnet) in self._first_hours:
            self._grow(GrowthSubject("subnet", before.subnet), hour, -before.size)
        if after.subnet:
            self._grow(GrowthSubject("subnet", after.subnet), hour, after.size)

    def _grow(self, subject: GrowthSubject, hour: int, number: int) -> None:
        net = self._net[subject]
        net[hour] = net.get(hour, 0) + number

    def _drop(self, subject: GrowthSubject) -> None:
        self._first_hours.pop(subject, None)
        self._net.pop(subject, None)

    def _drop_before(self, first_hour: int) -> None:
        for net in self._net.values():
            for hour in [hour for hour in net if hour < first_hour]:
                del net[hour]


def _share_of(pool: Pool) -> _Share:
    subnet = owner_subnet_name(pool)
    if not subnet:
        return _NO_SUBNET
    try:
        return _Share(subnet, pool_addresses(pool).clamped_size)
    except AddressSyntaxError:  # ``orbctl verify`` reports such a pool
        return _NO_SUBNET
