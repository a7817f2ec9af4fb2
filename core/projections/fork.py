"""A fork of the state: what commands would do, tried with the real ``decide`` and never written.

``apply --dry-run`` and ``simulate`` are this: each command is decided on what the ones before it
would leave, its events are folded, and at the end the fork says how counters move and which holders
notice. Pure; the ledger it is given belongs to it from then on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import V4, V6, Family, format_address, parse_address
from core.domain.claims.assignment import PoolOffer, Present, decide_assignment
from core.domain.configuration.commands import Command
from core.domain.configuration.configuration_state import Configuration, offered, reserved_addresses
from core.domain.configuration.decisions import decide, given_up
from core.domain.configuration.refusals import Refusal
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
from core.domain.subnets.subnet_decisions import wants_more
from core.errors import Refused
from core.projections.fold import Projection
from core.projections.pool_tally import PoolCounts

_CAUSE = Cause("fork")


class SimulatedStep(NamedTuple):
    """What one command would do: events, or refusals and the holders that stand in the way.

    ``changed``: the fields of a pool or reservation that would differ; none for a new one.
    """

    command: Command
    events: tuple[Event, ...]
    refusals: tuple[Refusal, ...] = ()
    in_the_way: tuple[Holding, ...] = ()
    changed: tuple[str, ...] = ()


class Holding(NamedTuple):
    """Who holds an address; ``why`` says what it would notice."""

    address: str
    pool: str
    namespace: str
    pod: str
    why: str


class PoolEffect(NamedTuple):
    """Counters of a pool before and after; None: there is no such pool."""

    name: str
    before: PoolCounts | None
    after: PoolCounts | None


class Fork:
    """A state that commands can be tried on."""

    def __init__(
        self, ledger: Ledger, *, ipv4_enabled: bool = True, ipv6_enabled: bool = True
    ) -> None:
        self._projection = Projection(ledger)
        self._enabled = (ipv4_enabled, ipv6_enabled)
        self._pools_before = dict(ledger.pools)
        self._reservations_before = dict(ledger.reservations)
        self._quarantine_before = dict(ledger.quarantine)
        self._counts_before = {
            name: tally.counts for name, tally in self._projection.tallies.items()
        }

    @property
    def ledger(self) -> Ledger:
        """The state as it would be now; only commands change it."""
        return self._projection.ledger

    @property
    def configuration(self) -> Configuration:
        """The configuration as it would be now."""
        return Configuration.of(self._projection.ledger, self._enabled)

    def apply(self, command: Command) -> SimulatedStep:
        """Try one command to its end; refused ones leave the fork as it was."""
        step = last = self._try(command)
        while wants_more(command, last.events):
            last = self._try(command)
            step = step._replace(events=step.events + last.events)
        return step

    def _try(self, command: Command) -> SimulatedStep:
        configuration = self.configuration
        leaving = given_up(configuration, command)
        holdings = tuple(self._inside(leaving))
        ledger = self._projection.ledger
        claimed = {one.address: ledger.claims[one.address].claim for one in holdings}
        try:
            events = decide(configuration, command, claimed)
        except Refused as error:
            refusals = tuple(one for one in error.refusals if isinstance(one, Refusal))
            return SimulatedStep(command, (), refusals, holdings)
        changed = tuple(field for event in events for field in _fields_changed(ledger, event))
        for event in events:
            self._fold(event)
        return SimulatedStep(command, events, changed=changed)

    def assign(self, wanted: Endpoint) -> tuple[Refusal, ...]:
        """Try a claim of named addresses; why it would be refused, nothing if it would not."""
        ledger = self._projection.ledger
        offers = {
            name: PoolOffer(pool, offered(pool, ledger.reservations, ledger.quarantine))
            for _, name in wanted.addresses()
            if (pool := ledger.pools.get(name)) is not None
        }
        claims = {
            parse_address(text): ledger.claims[text].claim
            for text, _ in wanted.addresses()
            if text in ledger.claims
        }
        present = Present(ledger.endpoints.get(wanted.key), claims)
        try:
            event = decide_assignment(wanted, present, offers)
        except Refused as error:
            return tuple(one for one in error.refusals if isinstance(one, Refusal))
        if event is not None:
            self._fold(event)
        return ()

    def effects(self) -> list[PoolEffect]:
        """Every pool whose counters differ from those at the beginning, by name."""
        after = {name: tally.counts for name, tally in self._projection.tallies.items()}
        before = self._counts_before
        return [
            PoolEffect(name, before.get(name), after.get(name))
            for name in sorted(before.keys() | after.keys())
            if before.get(name) != after.get(name)
        ]

    def noticed(self) -> Iterator[Holding]:
        """Holders that would notice: their address is set aside, or what came with it differs.

        Nobody loses an address by configuration; ``why`` says what is different from now on.
        """
        ledger = self._projection.ledger
        for family in (V4, V6):
            reserved = _newly_reserved(family, self._reservations_before, ledger.reservations)
            why = "reserved from now on: kept, and not handed out again after its release"
            yield from self._inside(reserved, why)
        for address in sorted(ledger.quarantine.keys() - self._quarantine_before.keys()):
            held = ledger.claims.get(address)
            if held is not None:
                yield _holding(address, held, "quarantined while it is held")
        for name, before in sorted(self._pools_before.items()):
            after = ledger.pools.get(name)
            why = _what_came_with_it(before, after) if after else ""
            if why:
                tally = self._projection.tallies[name]
                values = AddressSet.from_values(tally.held, tally.pool.family)
                yield from self._inside(values, why)

    def _fold(self, event: Event) -> None:
        position = self._projection.ledger.position + 1
        self._projection.apply(Recorded(position, 0, "", 0, "", _CAUSE, event))

    def _inside(self, addresses: AddressSet | None, why: str = "") -> Iterator[Holding]:
        """The holders of addresses in a set; linear in the claims of the family."""
        if not addresses:
            return
        ledger = self._projection.ledger
        family = addresses.family
        for tally in self._projection.tallies.values():
            if tally.pool.family != family:
                continue
            for value in sorted(value for value in tally.held if value in addresses):
                address = format_address(family, value)
                yield _holding(address, ledger.claims[address], why)


def _fields_changed(ledger: Ledger, event: Event) -> list[str]:
    if isinstance(event, PoolDefined):
        return _differing(ledger.pools.get(event.pool.name), event.pool)
    if isinstance(event, SubnetDefined):
        return _differing(ledger.subnets.get(event.subnet.name), event.subnet)
    if isinstance(event, ReservationDefined):
        return _differing(ledger.reservations.get(event.reservation.name), event.reservation)
    return []


def _differing(
    before: Pool | Reservation | Subnet | None, after: Pool | Reservation | Subnet
) -> list[str]:
    if before is None:
        return []
    pairs = zip(after._fields, before, after, strict=True)
    return [field for field, old, new in pairs if old != new]


def _newly_reserved(
    family: Family, before: dict[str, Reservation], after: dict[str, Reservation]
) -> AddressSet:
    return reserved_addresses(after, family) - reserved_addresses(before, family)


def _what_came_with_it(before: Pool, after: Pool) -> str:
    kept = []
    if before.gateway != after.gateway:
        kept.append(f"gateway {before.gateway}" if before.gateway else "no gateway")
    if before.routes != after.routes:
        kept.append("its old routes")
    return f"keeps {' and '.join(kept)} until its Pod is made anew" if kept else ""


def _holding(address: str, held: RevisedClaim, why: str) -> Holding:
    claim = held.claim
    return Holding(address, claim.pool, claim.namespace, claim.pod, why)
