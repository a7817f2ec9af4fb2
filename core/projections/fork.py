"""A fork: a copy of the state on which commands are tried; nothing is written to etcd.

``apply --dry-run`` and ``simulate`` use a fork. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import V4, V6, Family, format_address, parse_address
from core.domain.claims.assignment import PoolAvailability, StoredState, decide_assignment
from core.domain.configuration.commands import Command
from core.domain.configuration.configuration_state import (
    Configuration,
    FeatureSwitches,
    claimable_addresses,
    reserved_addresses,
)
from core.domain.configuration.decisions import decide, removed_addresses
from core.domain.events import (
    Cause,
    Event,
    PoolDefined,
    Recorded,
    ReservationDefined,
    SubnetDefined,
)
from core.domain.evolution import Ledger, RevisedClaim
from core.domain.model import Endpoint, Pool, Reservation, Subnet
from core.domain.subnets.subnet_decisions import must_repeat
from core.errors import Refusal, Refused
from core.projections.pool_tally import PoolCounts
from core.projections.projection import Projection

_CAUSE = Cause("fork")


class SimulatedStep(NamedTuple):
    """The result of one command: events if it is accepted, refusals if not.

    ``blocking``: claimed addresses that a refused command would have removed. ``changed``: fields
    of an existing object that the command changes.
    """

    command: Command
    events: tuple[Event, ...]
    refusals: tuple[Refusal, ...] = ()
    blocking: tuple[Holding, ...] = ()
    changed: tuple[str, ...] = ()


class Holding(NamedTuple):
    """A claimed address and its holder. ``why``: how the commands affect the holder."""

    address: str
    pool: str
    namespace: str
    pod: str
    why: str


class PoolEffect(NamedTuple):
    """Counters of a pool before and after the commands; None if the pool does not exist then."""

    name: str
    before: PoolCounts | None
    after: PoolCounts | None


class Fork:
    """Tries commands on ``ledger``, which the fork changes: pass a copy."""

    def __init__(
        self, ledger: Ledger, *, ipv4_enabled: bool = True, ipv6_enabled: bool = True
    ) -> None:
        self._projection = Projection(ledger)
        self._switches = FeatureSwitches(ipv4_enabled, ipv6_enabled)
        self._pools_before = dict(ledger.pools)
        self._reservations_before = dict(ledger.reservations)
        self._quarantine_before = dict(ledger.quarantine)
        self._counts_before = {
            name: tally.counts for name, tally in self._projection.tallies.items()
        }

    @property
    def ledger(self) -> Ledger:
        """The state after the commands so far."""
        return self._projection.ledger

    @property
    def configuration(self) -> Configuration:
        """The configuration after the commands so far."""
        return Configuration.of(self._projection.ledger, self._switches)

    def apply(self, command: Command) -> SimulatedStep:
        """Apply one command; a refused command does not change the fork.

        A command whose pools do not fit into one transaction is repeated until no pool
        changes.
        """
        step = last_step = self._try(command)
        while must_repeat(command, last_step.events):
            last_step = self._try(command)
            step = step._replace(events=step.events + last_step.events)
        return step

    def _try(self, command: Command) -> SimulatedStep:
        configuration = self.configuration
        holdings = tuple(self._holdings_in(removed_addresses(configuration, command)))
        ledger = self._projection.ledger
        claimed = {holding.address: ledger.claims[holding.address].claim for holding in holdings}
        try:
            events = decide(configuration, command, claimed)
        except Refused as error:
            return SimulatedStep(command, (), error.refusals, holdings)
        changed = tuple(field for event in events for field in _fields_changed(ledger, event))
        for event in events:
            self._apply_event(event)
        return SimulatedStep(command, events, changed=changed)

    def assign(self, desired: Endpoint) -> tuple[Refusal, ...]:
        """Try to assign the addresses of an endpoint; return the refusals, empty on success."""
        ledger = self._projection.ledger
        pools = {
            name: PoolAvailability(
                pool, claimable_addresses(pool, ledger.reservations, ledger.quarantine)
            )
            for _, name in desired.addresses()
            if (pool := ledger.pools.get(name)) is not None
        }
        claims = {
            parse_address(text): ledger.claims[text].claim
            for text, _ in desired.addresses()
            if text in ledger.claims
        }
        stored = StoredState(ledger.endpoints.get(desired.key), claims)
        try:
            event = decide_assignment(desired, stored, pools)
        except Refused as error:
            return error.refusals
        if event is not None:
            self._apply_event(event)
        return ()

    def effects(self) -> list[PoolEffect]:
        """The pools whose counters have changed, sorted by name."""
        after = {name: tally.counts for name, tally in self._projection.tallies.items()}
        before = self._counts_before
        return [
            PoolEffect(name, before.get(name), after.get(name))
            for name in sorted(before.keys() | after.keys())
            if before.get(name) != after.get(name)
        ]

    def affected_holders(self) -> Iterator[Holding]:
        """The holders that the commands affect; every holder keeps its address."""
        ledger = self._projection.ledger
        for family in (V4, V6):
            reserved = _new_reserved_addresses(
                family, self._reservations_before, ledger.reservations
            )
            why = "reserved: stays claimed, and cannot be claimed again after its release"
            yield from self._holdings_in(reserved, why)
        for address in sorted(ledger.quarantine.keys() - self._quarantine_before.keys()):
            revised = ledger.claims.get(address)
            if revised is not None:
                yield _holding_of(address, revised, "quarantined while it is held")
        for name, before in sorted(self._pools_before.items()):
            after = ledger.pools.get(name)
            why = _old_settings(before, after) if after else ""
            if why:
                tally = self._projection.tallies[name]
                values = AddressSet.from_values(tally.claimed, tally.pool.family)
                yield from self._holdings_in(values, why)

    def _apply_event(self, event: Event) -> None:
        position = self._projection.ledger.position + 1
        # The event is in no log: it gets the next position, and no id, time or writer.
        recorded = Recorded(
            position,
            index_in_segment=0,
            event_id="",
            recorded_at_ms=0,
            writer="",
            cause=_CAUSE,
            event=event,
        )
        self._projection.apply(recorded)

    def _holdings_in(self, addresses: AddressSet | None, why: str = "") -> Iterator[Holding]:
        if not addresses:
            return
        ledger = self._projection.ledger
        family = addresses.family
        for tally in self._projection.tallies.values():
            if tally.pool.family != family:
                continue
            for value in sorted(value for value in tally.claimed if value in addresses):
                address = format_address(family, value)
                yield _holding_of(address, ledger.claims[address], why)


def _fields_changed(ledger: Ledger, event: Event) -> list[str]:
    if isinstance(event, PoolDefined):
        return _differing_fields(ledger.pools.get(event.pool.name), event.pool)
    if isinstance(event, SubnetDefined):
        return _differing_fields(ledger.subnets.get(event.subnet.name), event.subnet)
    if isinstance(event, ReservationDefined):
        return _differing_fields(ledger.reservations.get(event.reservation.name), event.reservation)
    return []


def _differing_fields(
    before: Pool | Reservation | Subnet | None, after: Pool | Reservation | Subnet
) -> list[str]:
    if before is None:
        return []
    pairs = zip(after._fields, before, after, strict=True)
    return [field for field, old, new in pairs if old != new]


def _new_reserved_addresses(
    family: Family, before: dict[str, Reservation], after: dict[str, Reservation]
) -> AddressSet:
    return reserved_addresses(after, family) - reserved_addresses(before, family)


def _old_settings(before: Pool, after: Pool) -> str:
    """The old settings that a running Pod keeps, as text; "" for none."""
    parts = []
    if before.gateway != after.gateway:
        parts.append(f"gateway {before.gateway}" if before.gateway else "no gateway")
    if before.routes != after.routes:
        parts.append("its old routes")
    return f"keeps {' and '.join(parts)} until its Pod is created again" if parts else ""


def _holding_of(address: str, revised: RevisedClaim, why: str) -> Holding:
    claim = revised.claim
    return Holding(address, claim.pool, claim.namespace, claim.pod, why)
