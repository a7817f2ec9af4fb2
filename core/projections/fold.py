"""The projection: the state with counters of each pool, folded event by event.

Pure. Folds events with the ``Ledger`` and has a tally for each pool. The cost of an event depends
on what it changes: only its own claims are read, except when the addresses of a pool change. A
projection built from a ledger equals one built event by event (a property test).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from core.domain.addresses.ip_address import format_address, parse_address
from core.domain.configuration.configuration_state import pool_addresses, reserved_addresses
from core.domain.events import (
    AddressesClaimed,
    AddressesReleased,
    AddressQuarantined,
    AllocationRefused,
    EndpointChanged,
    Event,
    PoolDefined,
    PoolDeleted,
    PoolRetired,
    QuarantineLifted,
    Recorded,
    ReservationDefined,
    ReservationDeleted,
    SubnetDefined,
    SubnetDeleted,
    SubnetRetired,
)
from core.domain.evolution import EndpointKey, Ledger, RevisedClaim, claims_made
from core.domain.fixed.owners import CLAIM_SUFFIX
from core.domain.model import Endpoint
from core.domain.subnets.subnet_model import owner_of
from core.projections.change_buffer import ChangeBuffer
from core.projections.pool_tally import PoolTally

_Move = Callable[[PoolTally, int], bool]


class Projection:
    """The state after a prefix of the log; ``followers`` get the names of what changes."""

    def __init__(self, ledger: Ledger | None = None) -> None:
        self.ledger = ledger or Ledger()
        self.tallies: dict[str, PoolTally] = {}
        self.followers: list[ChangeBuffer] = []
        self._held: defaultdict[str, set[int]] = defaultdict(set)
        for address, held in self.ledger.claims.items():
            self._held[held.claim.pool].add(parse_address(address).value)
        for name in self.ledger.pools:
            self._recount(name)

    @property
    def position(self) -> int:
        """The position of the last event, or the revision of the state it was built from."""
        return self.ledger.position

    def addresses_in(self, pool: str) -> list[str]:
        """The addresses held of a pool, in their order; canonical text."""
        tally = self.tallies.get(pool)
        if tally is None:
            return []
        return [format_address(tally.pool.family, value) for value in sorted(tally.held)]

    def apply(self, recorded: Recorded) -> None:
        """Fold one event; events come in log order."""
        event = recorded.event
        match event:
            case AddressesClaimed() | AddressesReleased() | EndpointChanged():
                self._apply_to_endpoint(recorded, event)
            case ReservationDefined() | ReservationDeleted():
                self._apply_reservation(recorded, event)
            case AllocationRefused(namespace, name) if name.endswith(CLAIM_SUFFIX):
                self.ledger.apply(recorded)
                for changes in self.followers:
                    changes.refusals[namespace, name] = event
            case _:
                self.ledger.apply(recorded)
                self._configure(event)

    def apply_all(self, events: Iterable[Recorded]) -> Projection:
        """Fold many; returns itself."""
        for recorded in events:
            self.apply(recorded)
        return self

    def _apply_to_endpoint(
        self, recorded: Recorded, event: AddressesClaimed | AddressesReleased | EndpointChanged
    ) -> None:
        ledger = self.ledger
        key = _endpoint_key(event)
        addresses = list(_addresses_of(recorded))
        held_before = [ledger.claims.get(address) for address in addresses]
        endpoint_before = ledger.endpoints.get(key)
        ledger.apply(recorded)
        for address, before in zip(addresses, held_before, strict=True):
            self._claim_moved(address, before, ledger.claims.get(address))
        self._handed_over(endpoint_before, ledger.endpoints.get(key))
        for changes in self.followers:
            changes.endpoints.add(key)

    def _apply_reservation(
        self, recorded: Recorded, event: ReservationDefined | ReservationDeleted
    ) -> None:
        """Recount the pools whose addresses it reserves or frees, and no others."""
        name = event.reservation.name if isinstance(event, ReservationDefined) else event.name
        before = self.ledger.reservations.get(name)
        self.ledger.apply(recorded)
        values = [
            reservation
            for reservation in (before, self.ledger.reservations.get(name))
            if reservation is not None
        ]
        concerned = [
            reserved_addresses({name: reservation}, reservation.family) for reservation in values
        ]
        for pool_name, tally in list(self.tallies.items()):
            own = pool_addresses(tally.pool)
            is_near = any(
                changed.family == own.family and not own.isdisjoint(changed)
                for changed in concerned
            )
            if is_near and tally.is_changed_by(self.ledger.reservations):
                self._recount(pool_name)

    def _claim_moved(
        self, address: str, before: RevisedClaim | None, after: RevisedClaim | None
    ) -> None:
        if before is after:
            return
        value = parse_address(address).value
        for held, change, free in (
            (before, set.discard, PoolTally.release),
            (after, set.add, PoolTally.claim),
        ):
            if held is None:
                continue
            pool = held.claim.pool
            change(self._held[pool], value)
            if (tally := self.tallies.get(pool)) is not None:
                free(tally, value)
            self._touch(pool)

    def _handed_over(self, before: Endpoint | None, after: Endpoint | None) -> None:
        """The reports of its pools name the Pod, also where no claim has moved."""
        if before is not None and after is not None and before.uid != after.uid:
            for _, pool in after.addresses():
                self._touch(pool)

    def _configure(self, event: Event) -> None:
        match event:
            case PoolDefined(pool):
                self._redefine(pool.name)
            case PoolRetired(name) | PoolDeleted(name):
                self._redefine(name)
            case SubnetDefined(subnet):
                self._touch_subnet(subnet.name)
            case SubnetRetired(name) | SubnetDeleted(name):
                self._touch_subnet(name)
            case AddressQuarantined(quarantine):
                self._quarantine(quarantine.address, PoolTally.quarantine)
            case QuarantineLifted(address):
                self._quarantine(address, PoolTally.lift_quarantine)

    def _quarantine(self, text: str, move: _Move) -> None:
        address = parse_address(text)
        for name, tally in self.tallies.items():
            if tally.pool.family == address.family and move(tally, address.value):
                self._touch(name)

    def _redefine(self, name: str) -> None:
        """A pool is new, other than before, or gone; its subnet has another share then."""
        before = self.tallies.get(name)
        for pool in (before and before.pool, self.ledger.pools.get(name)):
            if pool and (subnet := owner_of(pool)):
                self._touch_subnet(subnet)
        self._recount(name)

    def _touch(self, pool: str) -> None:
        for changes in self.followers:
            changes.pools.add(pool)

    def _touch_subnet(self, name: str) -> None:
        for changes in self.followers:
            changes.subnets.add(name)

    def _recount(self, name: str) -> None:
        self._touch(name)
        pool = self.ledger.pools.get(name)
        if pool is None:
            self.tallies.pop(name, None)
            if not self._held[name]:
                del self._held[name]
            return
        quarantined = [
            parse_address(one.address).value
            for one in self.ledger.quarantine.values()
            if one.family == pool.family
        ]
        self.tallies[name] = PoolTally(
            pool, self.ledger.reservations, quarantined, self._held[name]
        )


def _endpoint_key(event: AddressesClaimed | AddressesReleased | EndpointChanged) -> EndpointKey:
    if isinstance(event, AddressesReleased):
        return event.namespace, event.name
    return event.endpoint.key


def _addresses_of(recorded: Recorded) -> Iterator[str]:
    """The addresses whose claims an event makes or may end."""
    event = recorded.event
    if isinstance(event, AddressesClaimed):
        yield from (address for address, _ in claims_made(event, recorded.event_id))
    elif isinstance(event, AddressesReleased):
        yield from (release.address for release in event.releases)
