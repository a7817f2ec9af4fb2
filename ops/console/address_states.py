"""The state of every address of a pool at an instant: disjoint sets, from which all counts come.

An address is in one state. A holder counts first, then quarantine, reservation, and cool-down; so
the numbers of a page and the cells of a grid cannot differ. Interval arithmetic: an IPv6 /64 costs
what a /24 costs. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, get_args

from core.audit.indexed_log import LogInstant
from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import parse_address
from core.domain.configuration.configuration_state import readable_addresses, reserved_addresses
from core.domain.model import Pool, Quarantine, Reservation
from ops.console.values import Document, clamped

AddressState = Literal[
    "free", "allocated", "resting", "reserved", "excluded", "quarantined", "outside"
]
COUNTED: Final[tuple[AddressState, ...]] = get_args(AddressState)[:-1]
"""Every state that an address of the pool's ips can be in."""


class Resting(NamedTuple):
    """An address in cool-down: the row of its last holding, and until when."""

    row: int
    until_ms: int


class PoolConfiguration(NamedTuple):
    """What the states of pools follow from, at one instant."""

    pools: Mapping[str, Pool]
    reservations: Mapping[str, Reservation]
    quarantine: Mapping[str, Quarantine]

    @classmethod
    def at(cls, instant: LogInstant) -> PoolConfiguration:
        """That of an instant."""
        log, position = instant.log, instant.position
        return cls(
            log.pools.at(position), log.reservations.at(position), log.quarantine.at(position)
        )


class PoolStates(NamedTuple):
    """A pool at an instant. ``states`` are disjoint; ``total``: ips without excludeIPs."""

    pool: Pool
    states: Mapping[AddressState, AddressSet]
    resting: Mapping[int, Resting]
    total: int

    @property
    def span(self) -> tuple[int, int]:
        """The first and the last address of ips; (0, -1) without any."""
        named = AddressSet.from_items(self.pool.ips, self.pool.family)
        return (named.first(), named.last()) if named else (0, -1)

    @property
    def utilisation(self) -> float:
        """The allocated share of what can be allocated, from 0 to 1."""
        aside = self.states["reserved"].size + self.states["quarantined"].size
        usable = self.total - aside
        return min(1.0, self.states["allocated"].size / usable) if usable > 0 else 0.0

    def counts(self) -> Document:
        """``Counts`` of the contract."""
        sizes: Document = {state: clamped(self.states[state].size) for state in COUNTED}
        return {"total": clamped(self.total), **sizes}


def pool_states(
    instant: LogInstant, configuration: PoolConfiguration, pool: Pool, cool_down_s: float
) -> PoolStates:
    """The states of one pool's addresses."""
    family = pool.family
    assigned = readable_addresses(pool)
    named = AddressSet.from_items(pool.ips, family)
    values = instant.log.table(pool.name).values_at(instant.position)
    held = AddressSet.from_values(values, family)
    left = assigned - held
    aside = left & _quarantined(configuration.quarantine, pool)
    left -= aside
    reserved = left & reserved_addresses(configuration.reservations, family)
    left -= reserved
    resting = resting_at(instant, pool, cool_down_s, values)
    cooling = left & AddressSet.from_values(resting, family)
    states: dict[AddressState, AddressSet] = {
        "allocated": held,
        "quarantined": aside,
        "reserved": reserved,
        "resting": cooling,
        "free": left - cooling,
        "excluded": named - assigned - held,
    }
    return PoolStates(pool, states, resting, assigned.size)


def resting_at(
    instant: LogInstant, pool: Pool, cool_down_s: float, held: set[int]
) -> dict[int, Resting]:
    """The addresses released less than the cool-down ago, and not held again.

    Computed from releases and the log's clock, for every instant alike; an address of an older Pod
    of the same name may rest longer (``core.allocation.cooldown``).
    """
    log, table = instant.log, instant.log.table(pool.name)
    cool_down_ms = int(cool_down_s * 1000)
    after = log.clock.position_at(instant.time_ms - cool_down_ms)
    resting = {}
    for row in table.rows_ended(after, instant.position):
        value = table.value(row)
        if value in held:
            continue
        until_ms = log.clock.time_of(table.ended(row)) + cool_down_ms
        if until_ms > instant.time_ms:
            resting[value] = Resting(row, until_ms)
    return resting


def _quarantined(quarantine: Mapping[str, Quarantine], pool: Pool) -> AddressSet:
    values = (
        parse_address(item.address).value
        for item in quarantine.values()
        if item.family == pool.family
    )
    return AddressSet.from_values(values, pool.family)
