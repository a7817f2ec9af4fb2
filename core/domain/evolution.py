"""The fold: what is true after an event.

``evolve_endpoint`` and ``claims_made`` are pure and used by the writer (to make the state keys of a
transaction) and by the ``Ledger`` (to fold a log): one definition, so that I5 can hold at all. The
ledger is the only mutable thing here; it is a container of immutable values and applies events in
log order. It trusts the log. Whether the log keeps the invariants is ``core.domain.checker``'s
question.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from core.domain.events import (
    AddressesClaimed,
    AddressesReleased,
    AddressQuarantined,
    EndpointChanged,
    Event,
    PoolDefined,
    PoolDeleted,
    PoolRetired,
    QuarantineLifted,
    RecordDefined,
    RecordDeleted,
    Recorded,
    ReservationDefined,
    ReservationDeleted,
)
from core.domain.model import Claim, Endpoint, Pool, Quarantine, Reservation

EndpointKey = tuple[str, str]
RecordKey = tuple[str, str, str]


class Held(NamedTuple):
    """A claim and the revision that made it: what a release must name (I3)."""

    claim: Claim
    revision: int


def evolve_endpoint(
    endpoint: Endpoint | None, event: AddressesClaimed | EndpointChanged | AddressesReleased
) -> Endpoint | None:
    """The endpoint after the event; None when it is gone."""
    if not isinstance(event, AddressesReleased):
        return event.endpoint
    if endpoint is None or not event.nics:
        return None
    return endpoint._replace(nics=event.nics)


def evolve_pool(pool: Pool | None, event: PoolDefined | PoolRetired | PoolDeleted) -> Pool | None:
    """The pool after the event; None when it is gone."""
    if isinstance(event, PoolDefined):
        return event.pool
    if isinstance(event, PoolDeleted) or pool is None:
        return None
    return pool._replace(retiring=True)


def claims_made(event: AddressesClaimed, event_id: str) -> tuple[tuple[str, Claim], ...]:
    """The (address, claim) pairs that this event makes."""
    endpoint = event.endpoint
    return tuple(
        (address, Claim(pool, endpoint.holder, endpoint.namespace, endpoint.name, event_id))
        for index in event.new_nics
        for address, pool in endpoint.nics[index].addresses()
    )


class Ledger:
    """The state of everything after a prefix of the log."""

    __slots__ = (
        "claims", "endpoints", "pools", "position", "quarantine", "records", "reservations",
    )  # fmt: skip

    def __init__(self) -> None:
        self.position = 0
        self.pools: dict[str, Pool] = {}
        self.reservations: dict[str, Reservation] = {}
        self.quarantine: dict[str, Quarantine] = {}
        self.records: dict[RecordKey, RecordDefined] = {}
        self.endpoints: dict[EndpointKey, Endpoint] = {}
        self.claims: dict[str, Held] = {}

    def apply(self, recorded: Recorded) -> None:
        """Fold one event; events come in log order."""
        event = recorded.event
        if isinstance(event, AddressesClaimed):
            for address, claim in claims_made(event, recorded.event_id):
                self.claims[address] = Held(claim, recorded.position)
            self.endpoints[event.endpoint.key] = event.endpoint
        elif isinstance(event, AddressesReleased):
            self._release(event)
        elif isinstance(event, EndpointChanged):
            self.endpoints[event.endpoint.key] = event.endpoint
        else:
            self._configure(event)
        self.position = recorded.position

    def apply_all(self, events: Iterable[Recorded]) -> Ledger:
        """Fold many; returns itself."""
        for recorded in events:
            self.apply(recorded)
        return self

    def claims_of_pool(self, pool: str) -> dict[str, Held]:
        """Address -> claim, for one pool; linear in all claims."""
        return {ip: held for ip, held in self.claims.items() if held.claim.pool == pool}

    def _release(self, event: AddressesReleased) -> None:
        for release in event.releases:
            held = self.claims.get(release.address)
            if held is not None and held.revision == release.claim_revision:
                del self.claims[release.address]
        key = (event.namespace, event.name)
        after = evolve_endpoint(self.endpoints.get(key), event)
        if after is None:
            self.endpoints.pop(key, None)
        else:
            self.endpoints[key] = after

    def _configure(self, event: Event) -> None:
        match event:
            case PoolDefined():
                self.pools[event.pool.name] = event.pool
            case PoolRetired():
                pool = evolve_pool(self.pools.get(event.name), event)
                if pool is not None:
                    self.pools[event.name] = pool
            case PoolDeleted():
                self.pools.pop(event.name, None)
            case ReservationDefined():
                self.reservations[event.reservation.name] = event.reservation
            case ReservationDeleted():
                self.reservations.pop(event.name, None)
            case AddressQuarantined():
                self.quarantine[event.quarantine.address] = event.quarantine
            case QuarantineLifted():
                self.quarantine.pop(event.address, None)
            case RecordDefined():
                self.records[event.kind, event.namespace, event.name] = event
            case RecordDeleted():
                self.records.pop((event.kind, event.namespace, event.name), None)
            case _:
                raise AssertionError(f"an event type without a fold: {type(event).__name__}")
