"""The history checker: checks the invariants of a log.

Each event is checked against the state before it, then folded; nothing is assumed, not even that an
event is well formed. A violation is data and never stops the check: the ledger continues as every
reader's ledger does. Pure: an archive, a live log and a recorded test run get the same result.
Nothing is repaired, skipped or reordered.

    order         positions and places grow; a segment has one writer; a writer's epochs grow
    shape         an event contradicts itself (an unknown NIC index, an invalid address)
    I1            an address is claimed while another holder has it
    I2            an address is claimed that its pool does not offer at that moment
    I3            a release does not name a claim that exists, by its revision
    I4            the addresses of an endpoint's NICs and its claims differ
    pool-empty    a pool is deleted that has claims or does not exist
    pool-shrink   claimed addresses are removed from a pool
    pool-overlap  two pools of a family offer the same address
    subnet-...    see ``core.domain.subnets.subnet_checks``

A repeated claim by the endpoint that holds the address is not a violation: two NICs may share an
address, and a repair writes a lost claim again (docs/how-to/audit.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
    judge_deletion,
    judge_share,
    judge_subnet,
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

RULES: Final = (
    ORDER, SHAPE, ONE_HOLDER, IN_ITS_POOL, NAMED_CLAIM, ENDPOINT_AGREES,
    POOL_EMPTY, POOL_SHRINK, POOL_OVERLAP, SUBNET_SHARE, SUBNET_OVERLAP, SUBNET_EMPTY,
)  # fmt: skip

K = TypeVar("K")
_EVENT_ID_PARTS: Final = 3


class Violation(NamedTuple):
    """One violated rule: the position of the event, the object, and a text."""

    position: int
    place: int
    rule: str
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.position}.{self.place} {self.rule} {self.subject}: {self.text}"


class Checker:
    """Judges a log event by event; ``ledger`` is the fold of the events so far."""

    def __init__(self, ledger: Ledger | None = None) -> None:
        """Start at the beginning, or behind a state that has been checked before."""
        self.ledger = Ledger() if ledger is None else ledger
        self._order = _Order(self.ledger.position)
        self._offers = _Offers(self.ledger)
        self._held: dict[EndpointKey, dict[str, None]] = {}
        self._in_pool: dict[str, dict[str, None]] = {}
        for address, held in self.ledger.claims.items():
            self._note(address, held)

    def check(self, recorded: Recorded) -> list[Violation]:
        """What this event breaks; afterwards it is part of the ledger."""
        findings = list(self._order.judge(recorded))
        missing = _missing_nics(recorded.event)
        if missing:
            text = f"NICs {missing} are called new and are not there; no reader can fold it"
            findings.append((SHAPE, recorded.event_id, text))
        else:
            findings += self._judge(recorded.event)
            findings += self._apply(recorded)
        return [Violation(recorded.position, recorded.place, *finding) for finding in findings]

    def _judge(self, event: Event) -> Iterator[Finding]:
        match event:
            case AddressesClaimed():
                yield from self._judge_claim(event)
            case AddressesReleased():
                yield from self._judge_release(event)
            case PoolDefined():
                yield from self._judge_pool(event.pool)
                yield from judge_share(event.pool, self.ledger)
            case SubnetDefined():
                yield from judge_subnet(event.subnet, self.ledger)
            case SubnetDeleted():
                yield from judge_deletion(event.name, self.ledger)
            case SubnetRetired() if event.name not in self.ledger.subnets:
                yield SUBNET_EMPTY, event.name, "a subnet retires that does not exist"
            case PoolDeleted():
                yield from self._judge_deletion(event.name)
            case GuidsAssigned():
                yield from self._judge_guids(event)
            case ReservationDefined():
                yield from self._judge_reservation(event)
            case PoolRetired() if event.name not in self.ledger.pools:
                yield POOL_EMPTY, event.name, "a pool retires that does not exist"
            case _:
                pass

    # Claims, by the first two invariants

    def _judge_claim(self, event: AddressesClaimed) -> Iterator[Finding]:
        endpoint = event.endpoint
        for index in event.new_nics:
            for address, pool, family in _addresses(endpoint.nics[index]):
                held = self.ledger.claims.get(address)
                if held is None:
                    yield from self._judge_offer(address, pool, family)
                elif not _is_holder(held, endpoint) or held.claim.pool != pool:
                    text = f"{endpoint.holder} of {_path(endpoint.key)} claims it from {_who(held)}"
                    yield ONE_HOLDER, address, text

    def _judge_offer(self, address: str, name: str, family: Family) -> Iterator[Finding]:
        pool = self.ledger.pools.get(name)
        if pool is None:
            yield IN_ITS_POOL, address, f"pool {name} does not exist"
            return
        if pool.family != family:
            text = f"is claimed as IPv{family} from pool {name} of IPv{pool.family}"
            yield IN_ITS_POOL, address, text
            return
        if not _contains(self._offers.of_pool(pool), address):
            yield IN_ITS_POOL, address, f"pool {name} does not contain it"
        reserved = self._offers.reserved(family)
        if reserved and _contains(reserved, address):
            yield IN_ITS_POOL, address, "is reserved"
        if address in self.ledger.quarantine:
            yield IN_ITS_POOL, address, "is in quarantine"
        if pool.disabled or pool.retiring:
            state = "disabled" if pool.disabled else "retiring"
            yield IN_ITS_POOL, address, f"pool {name} is {state}"

    # Releases, by the third one

    def _judge_release(self, event: AddressesReleased) -> Iterator[Finding]:
        key = (event.namespace, event.name)
        if key not in self.ledger.endpoints and not event.releases:
            yield NAMED_CLAIM, _path(key), "a release of an endpoint that does not exist"
        named: set[str] = set()
        for address, pool, holder, revision in event.releases:
            held = None if address in named else self.ledger.claims.get(address)
            named.add(address)
            if held is None:
                yield NAMED_CLAIM, address, "a release of an address without a claim"
            elif held.revision != revision:
                text = f"the release names the claim of revision {revision}, not {held.revision}"
                yield NAMED_CLAIM, address, text
            elif (held.claim.pool, held.claim.holder) != (pool, holder):
                yield NAMED_CLAIM, address, f"{holder} in {pool} releases the claim of {_who(held)}"
            elif (held.claim.namespace, held.claim.pod) != key:
                yield NAMED_CLAIM, address, f"{_path(key)} releases the claim of {_who(held)}"

    # GUIDs, by the first invariant

    def _judge_guids(self, event: GuidsAssigned) -> Iterator[Finding]:
        for guid in event.guids:
            holder = self.ledger.guids.get(guid.guid)
            if holder is not None and holder != claim_of(event.node, guid):
                text = f"virtual function {holder.vf} of {holder.nic} on {holder.node} has it"
                yield ONE_HOLDER, guid.guid, text

    # Pools

    def _judge_pool(self, pool: Pool) -> Iterator[Finding]:
        try:
            offered = pool_addresses(pool)
        except AddressSyntaxError as error:
            yield SHAPE, pool.name, str(error)
            offered = AddressSet(pool.family)
        for other in self.ledger.pools.values():
            if other.name == pool.name or other.family != pool.family:
                continue
            if not offered.isdisjoint(self._offers.of_pool(other)):
                common = ", ".join((offered & self._offers.of_pool(other)).to_items()[:3])
                yield POOL_OVERLAP, pool.name, f"pool {other.name} offers {common} too"
        for address in self._in_pool.get(pool.name, ()):
            if not _contains(offered, address):
                holder = _who(self.ledger.claims[address])
                yield POOL_SHRINK, pool.name, f"gives up {address}, which {holder} holds"

    def _judge_deletion(self, name: str) -> Iterator[Finding]:
        if name not in self.ledger.pools:
            yield POOL_EMPTY, name, "a pool is deleted that does not exist"
        held = self._in_pool.get(name)
        if held:
            yield POOL_EMPTY, name, f"is deleted with {len(held)} claims, one of {next(iter(held))}"

    def _judge_reservation(self, event: ReservationDefined) -> Iterator[Finding]:
        reservation = event.reservation
        try:
            reserved_addresses({reservation.name: reservation}, reservation.family)
        except AddressSyntaxError as error:
            yield SHAPE, reservation.name, str(error)

    # The fold, and what must agree after it: I4

    def _apply(self, recorded: Recorded) -> Iterator[Finding]:
        event = recorded.event
        touched = _claims_touched(event)
        for address in touched:
            self._forget(address)
        self.ledger.apply(recorded)
        for address in touched:
            held = self.ledger.claims.get(address)
            if held is not None:
                self._note(address, held)
        if isinstance(event, AddressesClaimed | EndpointChanged):
            yield from self._judge_agreement(event.endpoint.key)
        elif isinstance(event, AddressesReleased):
            yield from self._judge_agreement((event.namespace, event.name))
        else:
            self._offers.forget(event)

    def _judge_agreement(self, key: EndpointKey) -> Iterator[Finding]:
        endpoint = self.ledger.endpoints.get(key)
        shown = dict(endpoint.addresses()) if endpoint is not None else {}
        held = self._held.get(key, {})
        for address, pool in shown.items():
            if address not in held:
                yield ENDPOINT_AGREES, _path(key), f"shows {address} without a claim"
            elif self.ledger.claims[address].claim.pool != pool:
                yield ENDPOINT_AGREES, _path(key), f"shows {address} in another pool than its claim"
            elif endpoint and self.ledger.claims[address].claim.holder != endpoint.holder:
                text = f"belongs to {endpoint.holder}, the claim of {address} does not"
                yield ENDPOINT_AGREES, _path(key), text
        for address in held:
            if address not in shown:
                yield ENDPOINT_AGREES, _path(key), f"holds {address} and does not show it"

    def _note(self, address: str, held: RevisedClaim) -> None:
        claim = held.claim
        self._held.setdefault((claim.namespace, claim.pod), {})[address] = None
        self._in_pool.setdefault(claim.pool, {})[address] = None

    def _forget(self, address: str) -> None:
        held = self.ledger.claims.get(address)
        if held is None:
            return
        _discard(self._held, (held.claim.namespace, held.claim.pod), address)
        _discard(self._in_pool, held.claim.pool, address)


def check_log(events: Iterable[Recorded]) -> Iterator[Violation]:
    """Every violation of a whole log, in its order."""
    checker = Checker()
    for recorded in events:
        yield from checker.check(recorded)


class _Order:
    """Total order of places; one writer per segment; epochs of a writer never come back.

    Event ids made by the writer read ``<writer>.<epoch>.<count>`` with hexadecimal numbers; others
    are not judged, since an id may have any form.
    """

    def __init__(self, position: int) -> None:
        self._position = position
        self._place: float = float("inf")
        self._writer = ""
        self._epochs: dict[str, int] = {}
        self._known: dict[str, str] = {}

    def judge(self, recorded: Recorded) -> Iterator[Finding]:
        at = f"{recorded.position}.{recorded.place}"
        same_segment = recorded.position == self._position
        if recorded.position < self._position or (same_segment and recorded.place <= self._place):
            yield ORDER, recorded.writer, f"{at} comes after {self._position}.{self._place}"
        elif same_segment and recorded.writer != self._writer:
            yield ORDER, recorded.writer, f"{at} lies in a segment of {self._writer}"
        elif recorded.place != (self._place + 1 if same_segment else 0):
            yield ORDER, recorded.writer, f"an event before {at} is missing in its segment"
        self._position, self._place = recorded.position, recorded.place
        self._writer = recorded.writer
        yield from self._judge_epoch(recorded)

    def _judge_epoch(self, recorded: Recorded) -> Iterator[Finding]:
        series = recorded.event_id.rpartition(".")[0]
        if self._known.get(recorded.writer) == series:
            return
        self._known[recorded.writer] = series
        epoch = _epoch(recorded)
        latest = self._epochs.get(recorded.writer, 0)
        if epoch is not None and epoch < latest:
            text = f"event {recorded.event_id} was written after epoch {latest:x} had begun"
            yield ORDER, recorded.writer, text
        elif epoch is not None:
            self._epochs[recorded.writer] = epoch


class _Offers:
    """What pools and reservations stand for, kept until an event changes it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._pools: dict[str, tuple[Pool, AddressSet]] = {}
        self._reserved: dict[Family, AddressSet] = {}

    def of_pool(self, pool: Pool) -> AddressSet:
        """The addresses of this version of the pool; none if its texts are no addresses."""
        cached = self._pools.get(pool.name)
        if cached is None or cached[0] is not pool:
            try:
                cached = (pool, pool_addresses(pool))
            except AddressSyntaxError:  # reported where the pool was defined
                cached = (pool, AddressSet(pool.family))
            self._pools[pool.name] = cached
        return cached[1]

    def reserved(self, family: Family) -> AddressSet:
        """The addresses that all reservations of a family keep back."""
        cached = self._reserved.get(family)
        if cached is None:
            cached = self._reserved[family] = AddressSet(family)
            for one in self._ledger.reservations.values():
                with suppress(AddressSyntaxError):  # reported where the reservation was defined
                    cached |= reserved_addresses({one.name: one}, family)
            self._reserved[family] = cached
        return cached

    def forget(self, event: Event) -> None:
        """Drop what this event has changed."""
        if isinstance(event, PoolDeleted):
            self._pools.pop(event.name, None)
        elif isinstance(event, ReservationDefined | ReservationDeleted):
            self._reserved = {}


def _addresses(nic: Nic) -> Iterator[tuple[str, str, Family]]:
    if nic.ipv4:
        yield nic.ipv4.partition("/")[0], nic.ipv4_pool, 4
    if nic.ipv6:
        yield nic.ipv6.partition("/")[0], nic.ipv6_pool, 6


def _claims_touched(event: Event) -> list[str]:
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


def _contains(offered: AddressSet, address: str) -> bool:
    try:
        parsed = parse_address(address)
    except AddressSyntaxError:
        return False
    return parsed.family == offered.family and parsed.value in offered


def _is_holder(held: RevisedClaim, endpoint: Endpoint) -> bool:
    claim = held.claim
    return (claim.holder, claim.namespace, claim.pod) == (endpoint.holder, *endpoint.key)


def _who(held: RevisedClaim) -> str:
    claim = held.claim
    return f"{claim.holder} of {claim.namespace}/{claim.pod} (since {held.revision})"


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


def _discard(holders: dict[K, dict[str, None]], key: K, address: str) -> None:
    """Drop one member, and the whole entry when it was the last one."""
    members = holders.get(key)
    if members is not None:
        members.pop(address, None)
        if not members:
            del holders[key]
