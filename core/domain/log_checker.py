"""Check the invariants of a log of events (the history checker). Pure.

Each event is checked against the state before the event, then applied. An event with an unknown
NIC index is skipped. A violation has one of these rules:

    order         an event is out of order, a segment has two writers, or an epoch has decreased
    shape         an event has an unknown NIC index or an invalid address
    I1            an event claims an address or GUID that another holder has
    I2            a claimed address is not offered by the pool at that time
    I3            a release names a claim or a revision that does not exist
    I4            after the event, an endpoint's NICs and claims have different addresses
    pool-empty    an event deletes a pool with claims, or deletes or retires a missing pool
    pool-shrink   a pool loses an address that is claimed
    pool-overlap  two pools of a family offer the same address
    subnet-...    see ``core.domain.subnets.subnet_checks``

An endpoint may claim an address twice: two NICs may share an address, and if a claim's key in etcd
is lost, a repair writes a second event for the claim (docs/how-to/audit.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple, TypeVar

from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import AddressSyntaxError, Family, parse_address
from core.domain.configuration.configuration_state import pool_addresses, reserved_addresses
from core.domain.events import (
    AddressesClaimed,
    AddressesReleased,
    EndpointChanged,
    Event,
    GuidsAssigned,
    PoolDefined,
    PoolDeleted,
    PoolRetired,
    Recorded,
    ReservationDefined,
    ReservationDeleted,
    SubnetDefined,
    SubnetDeleted,
    SubnetRetired,
)
from core.domain.evolution import EndpointKey, Ledger, RevisedClaim
from core.domain.model import Endpoint, Nic, Pool
from core.domain.sriov.guid_decisions import claim_of
from core.domain.subnets.subnet_checks import (
    SUBNET_EMPTY,
    SUBNET_OVERLAP,
    SUBNET_SHARE,
    Finding,
    check_deletion,
    check_subnet,
    check_subnet_of_pool,
)

ORDER: Final = "order"
SHAPE: Final = "shape"
ONE_HOLDER: Final = "I1"
IN_ITS_POOL: Final = "I2"
NAMED_CLAIM: Final = "I3"
ENDPOINT_AGREES: Final = "I4"
POOL_EMPTY: Final = "pool-empty"
POOL_SHRINK: Final = "pool-shrink"
POOL_OVERLAP: Final = "pool-overlap"

CHECKER_RULES: Final = (
    ORDER, SHAPE, ONE_HOLDER, IN_ITS_POOL, NAMED_CLAIM, ENDPOINT_AGREES,
    POOL_EMPTY, POOL_SHRINK, POOL_OVERLAP, SUBNET_SHARE, SUBNET_OVERLAP, SUBNET_EMPTY,
)  # fmt: skip

K = TypeVar("K")
_EVENT_ID_PARTS: Final = 3  # <writer>.<epoch>.<count>, in hexadecimal


class Violation(NamedTuple):
    """A rule that an event violates."""

    position: int
    index_in_segment: int
    rule: str
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.position}.{self.index_in_segment} {self.rule} {self.subject}: {self.text}"


class Checker:
    """Checks one log, event by event. ``ledger`` is the state after the events so far."""

    def __init__(self, ledger: Ledger | None = None) -> None:
        """``ledger``: a state that was checked before."""
        self.ledger = Ledger() if ledger is None else ledger
        self._order = _OrderCheck(self.ledger.position)
        self._address_sets = _AddressSetCache(self.ledger)
        # Claimed addresses; dicts are used as ordered sets.
        self._by_endpoint: dict[EndpointKey, dict[str, None]] = {}
        self._by_pool: dict[str, dict[str, None]] = {}
        for address, claim in self.ledger.claims.items():
            self._index(address, claim)

    def check(self, recorded: Recorded) -> list[Violation]:
        """Apply the event to the ledger; return the violations."""
        findings = list(self._order.check(recorded))
        missing_nics = _missing_nics(recorded.event)
        if missing_nics:
            absent = f"NICs {missing_nics}, which the endpoint lacks"
            text = f"new_nics lists {absent}; the event is skipped"
            findings.append((SHAPE, recorded.event_id, text))
        else:
            findings += self._check_event(recorded.event)
            findings += self._apply(recorded)
        return [
            Violation(recorded.position, recorded.index_in_segment, *finding)
            for finding in findings
        ]

    def _check_event(self, event: Event) -> Iterator[Finding]:
        match event:
            case AddressesClaimed():
                yield from self._check_claim(event)
            case AddressesReleased():
                yield from self._check_release(event)
            case PoolDefined():
                yield from self._check_pool(event.pool)
                yield from check_subnet_of_pool(event.pool, self.ledger)
            case SubnetDefined():
                yield from check_subnet(event.subnet, self.ledger)
            case SubnetDeleted():
                yield from check_deletion(event.name, self.ledger)
            case SubnetRetired() if event.name not in self.ledger.subnets:
                yield SUBNET_EMPTY, event.name, "is retired, but does not exist"
            case PoolDeleted():
                yield from self._check_deletion(event.name)
            case GuidsAssigned():
                yield from self._check_guids(event)
            case ReservationDefined():
                yield from self._check_reservation(event)
            case PoolRetired() if event.name not in self.ledger.pools:
                yield POOL_EMPTY, event.name, "is retired, but does not exist"
            case _:
                pass

    def _check_claim(self, event: AddressesClaimed) -> Iterator[Finding]:
        endpoint = event.endpoint
        for index in event.new_nics:
            for address, pool, family in _addresses(endpoint.nics[index]):
                existing = self.ledger.claims.get(address)
                if existing is None:
                    yield from self._check_offer(address, pool, family)
                elif not _is_holder(existing, endpoint) or existing.claim.pool != pool:
                    claimer = f"{endpoint.holder} of {_path(endpoint.key)} in pool {pool}"
                    holder = f"{_claim_text(existing)} in pool {existing.claim.pool}"
                    yield ONE_HOLDER, address, f"is claimed by {claimer}, but held by {holder}"

    def _check_offer(self, address: str, name: str, family: Family) -> Iterator[Finding]:
        pool = self.ledger.pools.get(name)
        if pool is None:
            yield IN_ITS_POOL, address, f"is claimed from pool {name}, which does not exist"
            return
        if pool.family != family:
            text = f"is an IPv{family} address, but is claimed from IPv{pool.family} pool {name}"
            yield IN_ITS_POOL, address, text
            return
        if not _contains(self._address_sets.of_pool(pool), address):
            yield IN_ITS_POOL, address, f"is claimed from pool {name}, which does not contain it"
        reserved = self._address_sets.reserved(family)
        if reserved and _contains(reserved, address):
            yield IN_ITS_POOL, address, "is claimed, but reserved"
        if address in self.ledger.quarantine:
            yield IN_ITS_POOL, address, "is claimed, but in quarantine"
        if pool.disabled or pool.retiring:
            state = "disabled" if pool.disabled else "retiring"
            yield IN_ITS_POOL, address, f"is claimed from pool {name}, which is {state}"

    def _check_release(self, event: AddressesReleased) -> Iterator[Finding]:
        key = (event.namespace, event.name)
        if key not in self.ledger.endpoints and not event.releases:
            yield NAMED_CLAIM, _path(key), "the release names an endpoint that does not exist"
        released: set[str] = set()
        for address, pool, holder, revision in event.releases:
            existing = None if address in released else self.ledger.claims.get(address)
            released.add(address)
            if existing is None:
                yield NAMED_CLAIM, address, "the release names an address without a claim"
            elif existing.revision != revision:
                text = f"the release names revision {revision}"
                yield NAMED_CLAIM, address, f"{text}, but the claim has {existing.revision}"
            elif (existing.claim.pool, existing.claim.holder) != (pool, holder):
                text = f"the release names {holder} in pool {pool}"
                owner = f"{_claim_text(existing)} in pool {existing.claim.pool}"
                yield NAMED_CLAIM, address, f"{text}, but the claim is of {owner}"
            elif (existing.claim.namespace, existing.claim.pod) != key:
                text = f"{_path(key)} releases the claim of {_claim_text(existing)}"
                yield NAMED_CLAIM, address, text

    def _check_guids(self, event: GuidsAssigned) -> Iterator[Finding]:
        for guid in event.guids:
            holder = self.ledger.guids.get(guid.guid)
            if holder is not None and holder != claim_of(event.node, guid):
                vf = f"virtual function {holder.vf} of {holder.nic} on {holder.node}"
                yield ONE_HOLDER, guid.guid, f"is assigned again, but held by {vf}"

    def _check_pool(self, pool: Pool) -> Iterator[Finding]:
        try:
            offered = pool_addresses(pool)
        except AddressSyntaxError as error:
            yield SHAPE, pool.name, str(error)
            offered = AddressSet(pool.family)
        for other in self.ledger.pools.values():
            if other.name == pool.name or other.family != pool.family:
                continue
            if not offered.isdisjoint(self._address_sets.of_pool(other)):
                common = ", ".join((offered & self._address_sets.of_pool(other)).to_items()[:3])
                yield POOL_OVERLAP, pool.name, f"offers {common}, as does pool {other.name}"
        for address in self._by_pool.get(pool.name, ()):
            if not _contains(offered, address):
                holder = _claim_text(self.ledger.claims[address])
                yield POOL_SHRINK, pool.name, f"loses {address}, which {holder} holds"

    def _check_deletion(self, name: str) -> Iterator[Finding]:
        if name not in self.ledger.pools:
            yield POOL_EMPTY, name, "is deleted, but does not exist"
        claimed = self._by_pool.get(name)
        if claimed:
            example, count = next(iter(claimed)), len(claimed)
            yield POOL_EMPTY, name, f"is deleted although {example} is claimed; claims: {count}"

    def _check_reservation(self, event: ReservationDefined) -> Iterator[Finding]:
        reservation = event.reservation
        try:
            reserved_addresses({reservation.name: reservation}, reservation.family)
        except AddressSyntaxError as error:
            yield SHAPE, reservation.name, str(error)

    # Endpoints: I4, checked after the event is applied

    def _apply(self, recorded: Recorded) -> Iterator[Finding]:
        event = recorded.event
        affected = _affected_addresses(event)
        for address in affected:
            self._unindex(address)
        self.ledger.apply(recorded)
        for address in affected:
            claim = self.ledger.claims.get(address)
            if claim is not None:
                self._index(address, claim)
        if isinstance(event, AddressesClaimed | EndpointChanged):
            yield from self._check_endpoint(event.endpoint.key)
        elif isinstance(event, AddressesReleased):
            yield from self._check_endpoint((event.namespace, event.name))
        else:
            self._address_sets.forget(event)

    def _check_endpoint(self, key: EndpointKey) -> Iterator[Finding]:
        endpoint = self.ledger.endpoints.get(key)
        nic_addresses = dict(endpoint.addresses()) if endpoint is not None else {}
        claimed = self._by_endpoint.get(key, {})
        for address, pool in nic_addresses.items():
            if address not in claimed:
                yield ENDPOINT_AGREES, _path(key), f"has a NIC with {address}, which is not claimed"
                continue
            claim = self.ledger.claims[address].claim
            if claim.pool != pool:
                text = f"has {address} from pool {pool}, but the claim is from pool {claim.pool}"
                yield ENDPOINT_AGREES, _path(key), text
            elif endpoint and claim.holder != endpoint.holder:
                text = f"belongs to {endpoint.holder}, but {claim.holder} claims {address}"
                yield ENDPOINT_AGREES, _path(key), text
        for address in claimed:
            if address not in nic_addresses:
                yield ENDPOINT_AGREES, _path(key), f"claims {address}, but no NIC has the address"

    def _index(self, address: str, revised: RevisedClaim) -> None:
        claim = revised.claim
        self._by_endpoint.setdefault((claim.namespace, claim.pod), {})[address] = None
        self._by_pool.setdefault(claim.pool, {})[address] = None

    def _unindex(self, address: str) -> None:
        revised = self.ledger.claims.get(address)
        if revised is None:
            return
        claim = revised.claim
        _discard(self._by_endpoint, (claim.namespace, claim.pod), address)
        _discard(self._by_pool, claim.pool, address)


class _OrderCheck:
    """Checks the order of events, the writer of a segment, and the epochs of writers."""

    def __init__(self, position: int) -> None:
        self._position = position
        self._index_in_segment: float = float("inf")  # all events of ``position`` were checked
        self._writer = ""
        self._epochs: dict[str, int] = {}
        self._id_prefixes: dict[str, str] = {}

    def check(self, recorded: Recorded) -> Iterator[Finding]:
        at = f"{recorded.position}.{recorded.index_in_segment}"
        same_segment = recorded.position == self._position
        if recorded.position < self._position or (
            same_segment and recorded.index_in_segment <= self._index_in_segment
        ):
            last = f"{self._position}.{self._index_in_segment}".removesuffix(".inf")
            yield ORDER, recorded.writer, f"{at} comes after {last}"
        elif same_segment and recorded.writer != self._writer:
            yield ORDER, recorded.writer, f"{at} is in a segment of writer {self._writer}"
        elif recorded.index_in_segment != (self._index_in_segment + 1 if same_segment else 0):
            yield ORDER, recorded.writer, f"an event before {at} is missing in its segment"
        self._position, self._index_in_segment = recorded.position, recorded.index_in_segment
        self._writer = recorded.writer
        yield from self._check_epoch(recorded)

    def _check_epoch(self, recorded: Recorded) -> Iterator[Finding]:
        prefix = recorded.event_id.rpartition(".")[0]
        if self._id_prefixes.get(recorded.writer) == prefix:
            return
        self._id_prefixes[recorded.writer] = prefix
        epoch = _epoch(recorded)
        latest = self._epochs.get(recorded.writer, 0)
        if epoch is not None and epoch < latest:
            text = f"event {recorded.event_id} was written after epoch {latest:x} had begun"
            yield ORDER, recorded.writer, text
        elif epoch is not None:
            self._epochs[recorded.writer] = epoch


class _AddressSetCache:
    """The addresses of pools and all reserved addresses, cached until an event changes them."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._pools: dict[str, tuple[Pool, AddressSet]] = {}
        self._reserved: dict[Family, AddressSet] = {}

    def of_pool(self, pool: Pool) -> AddressSet:
        cached = self._pools.get(pool.name)
        if cached is None or cached[0] is not pool:
            try:
                cached = (pool, pool_addresses(pool))
            except AddressSyntaxError:  # reported when the pool was defined
                cached = (pool, AddressSet(pool.family))
            self._pools[pool.name] = cached
        return cached[1]

    def reserved(self, family: Family) -> AddressSet:
        cached = self._reserved.get(family)
        if cached is None:
            cached = self._reserved[family] = AddressSet(family)
            for name, reservation in self._ledger.reservations.items():
                with suppress(AddressSyntaxError):  # reported when the reservation was defined
                    cached |= reserved_addresses({name: reservation}, family)
            self._reserved[family] = cached
        return cached

    def forget(self, event: Event) -> None:
        if isinstance(event, PoolDeleted):
            self._pools.pop(event.name, None)
        elif isinstance(event, ReservationDefined | ReservationDeleted):
            self._reserved = {}


def _addresses(nic: Nic) -> Iterator[tuple[str, str, Family]]:
    if nic.ipv4:
        yield nic.ipv4.partition("/")[0], nic.ipv4_pool, 4
    if nic.ipv6:
        yield nic.ipv6.partition("/")[0], nic.ipv6_pool, 6


def _affected_addresses(event: Event) -> list[str]:
    if isinstance(event, AddressesReleased):
        return [release.address for release in event.releases]
    if isinstance(event, AddressesClaimed):
        nics = event.endpoint.nics
        return [address for index in event.new_nics for address, _ in nics[index].addresses()]
    return []


def _missing_nics(event: Event) -> list[int]:
    if not isinstance(event, AddressesClaimed):
        return []
    count = len(event.endpoint.nics)
    return [index for index in event.new_nics if not 0 <= index < count]


def _contains(address_set: AddressSet, address: str) -> bool:
    try:
        parsed = parse_address(address)
    except AddressSyntaxError:
        return False
    return parsed.family == address_set.family and parsed.value in address_set


def _is_holder(revised: RevisedClaim, endpoint: Endpoint) -> bool:
    claim = revised.claim
    return (claim.holder, claim.namespace, claim.pod) == (endpoint.holder, *endpoint.key)


def _claim_text(revised: RevisedClaim) -> str:
    claim = revised.claim
    return f"{claim.holder} of {claim.namespace}/{claim.pod} (since revision {revised.revision})"


def _path(key: EndpointKey) -> str:
    return "/".join(key)


def _epoch(recorded: Recorded) -> int | None:
    parts = recorded.event_id.rsplit(".", 2)
    if len(parts) != _EVENT_ID_PARTS or parts[0] != recorded.writer:
        return None
    try:
        return int(parts[1], 16)
    except ValueError:
        return None


def _discard(index: dict[K, dict[str, None]], key: K, address: str) -> None:
    members = index.get(key)
    if members is not None:
        members.pop(address, None)
        if not members:
            del index[key]
