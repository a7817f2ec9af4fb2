"""Compute the state after an event.

The writer and the ``Ledger`` share these functions, so that the stored state equals the state that
the log gives (I5 in docs/contributing/architecture.md, "Invariants").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from core.domain.events import (
    AddressesClaimed,
    AddressesReleased,
    AddressQuarantined,
    AllocationRefused,
    ApplicationScaled,
    BindingChanged,
    EndpointChanged,
    Event,
    GuidsAssigned,
    GuidsReleased,
    PoolDefined,
    PoolDeleted,
    PoolRetired,
    QuarantineLifted,
    RecordDefined,
    RecordDeleted,
    Recorded,
    ReservationDefined,
    ReservationDeleted,
    SubnetDefined,
    SubnetDeleted,
    SubnetRetired,
)
from core.domain.model import Claim, Endpoint, Pool, Quarantine, Reservation, Subnet
from core.domain.sriov.model import GuidClaim

V = TypeVar("V")
EndpointKey = tuple[str, str]
RecordKey = tuple[str, str, str]


class RevisedClaim(NamedTuple):
    """A claim and its revision, which a release must name (I3)."""

    claim: Claim
    revision: int


def evolve_endpoint(
    endpoint: Endpoint | None, event: AddressesClaimed | EndpointChanged | AddressesReleased
) -> Endpoint | None:
    """The endpoint after the event; None: deleted."""
    if not isinstance(event, AddressesReleased):
        return event.endpoint
    remaining_nics = event.nics
    if endpoint is None or not remaining_nics:
        return None
    return endpoint._replace(nics=remaining_nics)


def evolve_pool(pool: Pool | None, event: PoolDefined | PoolRetired | PoolDeleted) -> Pool | None:
    """The pool after the event; None: deleted."""
    if isinstance(event, PoolDefined):
        return event.pool
    if isinstance(event, PoolDeleted) or pool is None:
        return None
    return pool._replace(retiring=True)


def evolve_subnet(
    subnet: Subnet | None, event: SubnetDefined | SubnetRetired | SubnetDeleted
) -> Subnet | None:
    """The subnet after the event; None: deleted."""
    if isinstance(event, SubnetDefined):
        return event.subnet
    if isinstance(event, SubnetDeleted) or subnet is None:
        return None
    return subnet._replace(retiring=True)


def evolve_guids(guids: dict[str, GuidClaim], event: GuidsAssigned | GuidsReleased) -> None:
    """Change ``guids`` in place. A release is ignored if another function has the GUID now."""
    for guid, nic, nic_guid, vf in event.guids:
        claim = GuidClaim(event.node, nic, nic_guid, vf)
        if isinstance(event, GuidsAssigned):
            guids[guid] = claim
        elif guids.get(guid) == claim:
            del guids[guid]


def claims_made(event: AddressesClaimed, event_id: str) -> tuple[tuple[str, Claim], ...]:
    """The (address, claim) pairs that the event adds."""
    endpoint = event.endpoint
    # A list is faster than a generator, and a replay calls this for every claim.
    return tuple(
        [
            (address, Claim(pool, endpoint.holder, endpoint.namespace, endpoint.name, event_id))
            for index in event.new_nics
            for address, pool in endpoint.nics[index].addresses()
        ]
    )


class Ledger:
    """The state after the events of a log up to ``position``.

    ``apply`` does not check events; ``core.domain.log_checker`` does.

    ``undecodable``: state keys, without the cluster's prefix, whose values could not be decoded.
    These objects exist, so their absence from the ledger is not evidence for a release (I6).
    """

    __slots__ = (
        "claims", "endpoints", "guids", "pools", "position", "quarantine", "records",
        "reservations", "subnets", "undecodable",
    )  # fmt: skip

    def __init__(self) -> None:
        self.position = 0
        self.pools: dict[str, Pool] = {}
        self.subnets: dict[str, Subnet] = {}
        self.reservations: dict[str, Reservation] = {}
        self.quarantine: dict[str, Quarantine] = {}
        self.records: dict[RecordKey, RecordDefined] = {}
        self.endpoints: dict[EndpointKey, Endpoint] = {}
        self.claims: dict[str, RevisedClaim] = {}
        self.guids: dict[str, GuidClaim] = {}
        self.undecodable: set[str] = set()

    def apply(self, recorded: Recorded) -> None:
        """Apply one event. The caller passes events in log order."""
        event = recorded.event
        if isinstance(event, AddressesClaimed):
            for address, claim in claims_made(event, recorded.event_id):
                self.claims[address] = RevisedClaim(claim, recorded.position)
            self.endpoints[event.endpoint.key] = event.endpoint
        elif isinstance(event, AddressesReleased):
            self._release(event)
        elif isinstance(event, EndpointChanged):
            self.endpoints[event.endpoint.key] = event.endpoint
        else:
            self._configure(event)
        self.position = recorded.position

    def apply_all(self, events: Iterable[Recorded]) -> Ledger:
        """Apply the events; return the ledger itself."""
        for recorded in events:
            self.apply(recorded)
        return self

    def _release(self, event: AddressesReleased) -> None:
        for release in event.releases:
            claim = self.claims.get(release.address)
            if claim is not None and claim.revision == release.claim_revision:
                del self.claims[release.address]
        key = (event.namespace, event.name)
        after = evolve_endpoint(self.endpoints.get(key), event)
        if after is None:
            self.endpoints.pop(key, None)
        else:
            self.endpoints[key] = after

    def _configure(self, event: Event) -> None:
        match event:
            case PoolDefined() | PoolRetired() | PoolDeleted():
                name = event.pool.name if isinstance(event, PoolDefined) else event.name
                _set_or_remove(self.pools, name, evolve_pool(self.pools.get(name), event))
            case SubnetDefined() | SubnetRetired() | SubnetDeleted():
                name = event.subnet.name if isinstance(event, SubnetDefined) else event.name
                _set_or_remove(self.subnets, name, evolve_subnet(self.subnets.get(name), event))
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
            case GuidsAssigned() | GuidsReleased():
                evolve_guids(self.guids, event)
            case AllocationRefused() | ApplicationScaled() | BindingChanged():
                pass
            case _:
                raise AssertionError(f"the ledger cannot apply a {type(event).__name__}")


def _set_or_remove(target: dict[str, V], name: str, value: V | None) -> None:
    if value is None:
        target.pop(name, None)
    else:
        target[name] = value
