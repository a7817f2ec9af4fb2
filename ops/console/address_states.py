"""States of a pool's addresses at an instant, as disjoint sets of intervals. Pure.

An address has the first state that applies: allocated (has a holder), excluded (in excludeIPs),
quarantined, reserved, resting (in cool-down), free. With intervals, an IPv6 /64 takes no more
memory than an IPv4 /24.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, get_args

from core.audit.indexed_log import LogInstant
from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import parse_address
from core.domain.configuration.configuration_state import readable_addresses, reserved_addresses
from core.domain.model import Pool, Quarantine, Reservation
from ops.console.json_values import Document, clamped

AddressState = Literal[
    "free", "allocated", "resting", "reserved", "excluded", "quarantined", "outside"
]
COUNTED_STATES: Final[tuple[AddressState, ...]] = get_args(AddressState)[:-1]
"""``outside`` is left out: it is the state of addresses that are not in the pool's ips."""


class AddressCoolDown(NamedTuple):
    """An address in cool-down.

    ``row``: the last holder's row in the table of the pool's holdings. ``until_ms``: the end, in
    Unix milliseconds.
    """

    row: int
    until_ms: int


class PoolConfiguration(NamedTuple):
    """The configuration of all pools at one instant."""

    pools: Mapping[str, Pool]
    reservations: Mapping[str, Reservation]
    quarantine: Mapping[str, Quarantine]

    @classmethod
    def at(cls, instant: LogInstant) -> PoolConfiguration:
        """Read the configuration of an instant."""
        log, position = instant.log, instant.position
        return cls(
            log.pools.at(position), log.reservations.at(position), log.quarantine.at(position)
        )


class PoolStates(NamedTuple):
    """A pool at an instant. ``states`` are disjoint.

    ``cool_downs``: address as a number -> cool-down, without allocated addresses. ``total``: the
    size of ips without excludeIPs.
    """

    pool: Pool
    states: Mapping[AddressState, AddressSet]
    cool_downs: Mapping[int, AddressCoolDown]
    total: int

    @property
    def span(self) -> tuple[int, int]:
        """First and last address of ips, or (0, -1)."""
        addresses = AddressSet.from_items(self.pool.ips, self.pool.family)
        return (addresses.first(), addresses.last()) if addresses else (0, -1)

    @property
    def utilisation(self) -> float:
        """The allocated share of usable addresses, from 0 to 1."""
        unusable = self.states["reserved"].size + self.states["quarantined"].size
        usable = self.total - unusable
        return min(1.0, self.states["allocated"].size / usable) if usable > 0 else 0.0

    def counts(self) -> Document:
        """``Counts`` of console-api.yaml."""
        sizes: Document = {state: clamped(self.states[state].size) for state in COUNTED_STATES}
        return {"total": clamped(self.total), **sizes}


def pool_states(
    instant: LogInstant, configuration: PoolConfiguration, pool: Pool, cool_down_s: float
) -> PoolStates:
    """The states of one pool's addresses."""
    family = pool.family
    assignable = readable_addresses(pool)
    all_ips = AddressSet.from_items(pool.ips, family)
    allocated_values = instant.log.table(pool.name).values_at(instant.position)
    allocated = AddressSet.from_values(allocated_values, family)
    free = assignable - allocated
    quarantined = free & _quarantined(configuration.quarantine, pool)
    free -= quarantined
    reserved = free & reserved_addresses(configuration.reservations, family)
    free -= reserved
    cool_downs = cool_downs_at(instant, pool, cool_down_s, allocated_values)
    in_cool_down = free & AddressSet.from_values(cool_downs, family)
    states: dict[AddressState, AddressSet] = {
        "allocated": allocated,
        "quarantined": quarantined,
        "reserved": reserved,
        "resting": in_cool_down,
        "free": free - in_cool_down,
        "excluded": all_ips - assignable - allocated,
    }
    return PoolStates(pool, states, cool_downs, assignable.size)


def cool_downs_at(
    instant: LogInstant, pool: Pool, cool_down_s: float, held: set[int]
) -> dict[int, AddressCoolDown]:
    """Addresses, as numbers, that were released less than ``cool_down_s`` ago, except ``held``.

    The cool-down in etcd can be longer (``core.allocation.cooldown``).
    """
    log, table = instant.log, instant.log.table(pool.name)
    cool_down_ms = int(cool_down_s * 1000)
    after = log.clock.position_at(instant.time_ms - cool_down_ms)
    cool_downs = {}
    for row in table.rows_ended(after, instant.position):
        value = table.value(row)
        if value in held:
            continue
        until_ms = log.clock.time_of(table.ended(row)) + cool_down_ms
        if until_ms > instant.time_ms:
            cool_downs[value] = AddressCoolDown(row, until_ms)
    return cool_downs


def _quarantined(quarantine: Mapping[str, Quarantine], pool: Pool) -> AddressSet:
    values = (
        parse_address(item.address).value
        for item in quarantine.values()
        if item.family == pool.family
    )
    return AddressSet.from_values(values, pool.family)
