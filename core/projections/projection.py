"""The projection of a log: its state (``Ledger``) and the counters of each pool (``PoolTally``).

Applying an event reads only the claims in the event, unless the event changes the addresses of a
pool. A projection built from a ledger equals a projection built event by event. No I/O.
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
from core.domain.fixed.fixed_address_owners import IPAM_CLAIM_SUFFIX
from core.domain.model import Endpoint
from core.domain.subnets.subnet_model import owner_subnet_name
from core.projections.change_buffer import ChangeBuffer
from core.projections.pool_tally import PoolTally

_QuarantineChange = Callable[[PoolTally, int], bool]


class Projection:
    """The state after all applied events; ``followers`` receive the names of changed objects."""

    def __init__(self, ledger: Ledger | None = None) -> None:
        self.ledger = ledger or Ledger()
        self.tallies: dict[str, PoolTally] = {}
        self.followers: list[ChangeBuffer] = []
        self._claimed: defaultdict[str, set[int]] = defaultdict(set)
        """Pool -> its claimed addresses."""
        for address, revised in self.ledger.claims.items():
            self._claimed[revised.claim.pool].add(parse_address(address).value)
        for name in self.ledger.pools:
            self._recount(name)

    @property
    def position(self) -> int:
        """The position of the last event in the state."""
        return self.ledger.position

    def addresses_in(self, pool: str) -> list[str]:
        """The claimed addresses of a pool as canonical text, ascending."""
        tally = self.tallies.get(pool)
        if tally is None:
            return []
        return [format_address(tally.pool.family, value) for value in sorted(tally.claimed)]

    def apply(self, recorded: Recorded) -> None:
        """Apply one event; the caller passes events in log order."""
        event = recorded.event
        match event:
            case AddressesClaimed() | AddressesReleased() | EndpointChanged():
                self._apply_to_endpoint(recorded, event)
            case ReservationDefined() | ReservationDeleted():
                self._apply_reservation(recorded, event)
            case AllocationRefused(namespace, name) if name.endswith(IPAM_CLAIM_SUFFIX):
                # An IPAMClaim shows the refusal in its status.
                self.ledger.apply(recorded)
                for changes in self.followers:
                    changes.refusals[namespace, name] = event
            case _:
                self.ledger.apply(recorded)
                self._update_configuration(event)

    def apply_all(self, events: Iterable[Recorded]) -> Projection:
        """Apply the events; return the projection itself."""
        for recorded in events:
            self.apply(recorded)
        return self

    def _apply_to_endpoint(
        self, recorded: Recorded, event: AddressesClaimed | AddressesReleased | EndpointChanged
    ) -> None:
        ledger = self.ledger
        key = _endpoint_key(event)
        addresses = list(_addresses_of(recorded))
        claims_before = [ledger.claims.get(address) for address in addresses]
        endpoint_before = ledger.endpoints.get(key)
        ledger.apply(recorded)
        for address, before in zip(addresses, claims_before, strict=True):
            self._update_tallies(address, before, ledger.claims.get(address))
        self._mark_pools_if_pod_replaced(endpoint_before, ledger.endpoints.get(key))
        for changes in self.followers:
            changes.endpoints.add(key)

    def _apply_reservation(
        self, recorded: Recorded, event: ReservationDefined | ReservationDeleted
    ) -> None:
        name = event.reservation.name if isinstance(event, ReservationDefined) else event.name
        before = self.ledger.reservations.get(name)
        self.ledger.apply(recorded)
        reservations = [
            reservation
            for reservation in (before, self.ledger.reservations.get(name))
            if reservation is not None
        ]
        affected_sets = [
            reserved_addresses({name: reservation}, reservation.family)
            for reservation in reservations
        ]
        for pool_name, tally in list(self.tallies.items()):
            addresses = pool_addresses(tally.pool)
            is_affected = any(
                affected.family == addresses.family and not addresses.isdisjoint(affected)
                for affected in affected_sets
            )
            if is_affected and tally.is_changed_by(self.ledger.reservations):
                self._recount(pool_name)

    def _update_tallies(
        self, address: str, before: RevisedClaim | None, after: RevisedClaim | None
    ) -> None:
        if before is after:
            return
        value = parse_address(address).value
        if before is not None:
            pool = before.claim.pool
            self._claimed[pool].discard(value)
            if pool in self.tallies:
                self.tallies[pool].release(value)
            self._mark_pool(pool)
        if after is not None:
            pool = after.claim.pool
            self._claimed[pool].add(value)
            if pool in self.tallies:
                self.tallies[pool].claim(value)
            self._mark_pool(pool)

    def _mark_pools_if_pod_replaced(self, before: Endpoint | None, after: Endpoint | None) -> None:
        """Mark the pools if an endpoint has another Pod: the status of a pool names Pods."""
        if before is not None and after is not None and before.uid != after.uid:
            for _, pool in after.addresses():
                self._mark_pool(pool)

    def _update_configuration(self, event: Event) -> None:
        match event:
            case PoolDefined(pool):
                self._update_pool(pool.name)
            case PoolRetired(name) | PoolDeleted(name):
                self._update_pool(name)
            case SubnetDefined(subnet):
                self._mark_subnet(subnet.name)
            case SubnetRetired(name) | SubnetDeleted(name):
                self._mark_subnet(name)
            case AddressQuarantined(quarantine):
                self._change_quarantine(quarantine.address, PoolTally.quarantine)
            case QuarantineLifted(address):
                self._change_quarantine(address, PoolTally.lift_quarantine)

    def _change_quarantine(self, text: str, change: _QuarantineChange) -> None:
        address = parse_address(text)
        for name, tally in self.tallies.items():
            if tally.pool.family == address.family and change(tally, address.value):
                self._mark_pool(name)

    def _update_pool(self, name: str) -> None:
        before = self.tallies.get(name)
        for pool in (before and before.pool, self.ledger.pools.get(name)):
            if pool and (subnet := owner_subnet_name(pool)):
                self._mark_subnet(subnet)
        self._recount(name)

    def _mark_pool(self, pool: str) -> None:
        for changes in self.followers:
            changes.pools.add(pool)

    def _mark_subnet(self, name: str) -> None:
        for changes in self.followers:
            changes.subnets.add(name)

    def _recount(self, name: str) -> None:
        self._mark_pool(name)
        pool = self.ledger.pools.get(name)
        if pool is None:
            self.tallies.pop(name, None)
            if not self._claimed[name]:
                del self._claimed[name]
            return
        quarantined = [
            parse_address(quarantine.address).value
            for quarantine in self.ledger.quarantine.values()
            if quarantine.family == pool.family
        ]
        self.tallies[name] = PoolTally(
            pool, self.ledger.reservations, quarantined, self._claimed[name]
        )


def _endpoint_key(event: AddressesClaimed | AddressesReleased | EndpointChanged) -> EndpointKey:
    if isinstance(event, AddressesReleased):
        return event.namespace, event.name
    return event.endpoint.key


def _addresses_of(recorded: Recorded) -> Iterator[str]:
    """The addresses whose claims the event adds or may end."""
    event = recorded.event
    if isinstance(event, AddressesClaimed):
        yield from (address for address, _ in claims_made(event, recorded.event_id))
    elif isinstance(event, AddressesReleased):
        yield from (release.address for release in event.releases)
