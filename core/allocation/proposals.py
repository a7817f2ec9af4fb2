"""Build the transactions of events about addresses: the keys they write, and their guards. Pure.

The values of state keys are computed by ``core.domain.evolution`` (I5). The guards ensure that an
address is unclaimed, not quarantined and not in cool-down, that its pool and the reservations are
those of the decision (I2), and that a release ends the claim that it names (I3).

Invariants (I1 to I10): docs/contributing/architecture.md, "Invariants".
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Final, NamedTuple

from core.domain.addresses.ip_address import Address, Family, parse_address
from core.domain.events import AddressesClaimed, AddressesReleased, EndpointChanged, Release
from core.domain.evolution import EndpointKey, claims_made, evolve_endpoint
from core.domain.model import Endpoint
from core.errors import LostRace
from core.eventstore.codec import CLAIM, ENDPOINT, EventDraft
from core.eventstore.group_commit import NO_PROPOSAL_READS, Proposal, Reads
from core.eventstore.keys import Keys
from core.eventstore.kv import Absent, Delete, Get, Guard, KeyValue, Put, Unchanged, Write
from core.projections.configuration_view import ConfigurationSnapshot

WINDOW_KEYS_MAX = 64
"""After a lost race, the keys of this many addresses are read, from the picked one on."""


class AddressChoice(NamedTuple):
    """An address to claim.

    ``cool_down_revision``: of its cool-down mark, which the claim deletes. ``claim_revision``: of
    the older claim that a takeover ends in the same transaction. 0: the address has none.
    """

    address: Address
    cool_down_revision: int = 0
    claim_revision: int = 0


def window_reads(keys: Keys, address: Address, last: int) -> tuple[Get, Get]:
    """Two range reads from the address to ``last``: the keys of claims, and cool-down marks.

    Marks are read with their value, the last holder.
    """
    ip, cool_down, _ = keys.of_address(*address)
    last_ip, last_cool_down, _ = keys.of_address(address.family, last)
    return (
        Get(ip, last_ip + b"\0", WINDOW_KEYS_MAX, keys_only=True),
        Get(cool_down, last_cool_down + b"\0", WINDOW_KEYS_MAX),
    )


class StoredEndpoint(NamedTuple):
    """An endpoint as it was read; None and revision 0: it does not exist."""

    endpoint: Endpoint | None = None
    revision: int = 0

    @classmethod
    def of(cls, kv: KeyValue | None) -> StoredEndpoint:
        """Decode the value of an endpoint's key. Raises LogCorrupt."""
        return cls() if kv is None else cls(ENDPOINT.decode(kv.value), kv.mod_revision)


NO_ENDPOINT: Final = StoredEndpoint()


def endpoint_changed(key: EndpointKey) -> LostRace:
    """The error of a proposal whose endpoint another writer changed first."""
    subject = "/".join(key)
    return LostRace(f"another writer changed endpoint {subject} first", subject=subject)


def endpoint_guard(name: bytes, stored: StoredEndpoint) -> Guard:
    """The guard that the endpoint with this key has not changed since it was read."""
    return Unchanged(name, stored.revision) if stored.revision else Absent(name)


def configuration_guards(
    keys: Keys, snapshot: ConfigurationSnapshot, used: Iterable[tuple[str, Family]]
) -> list[Guard]:
    """The guards that the used pools, and the reservations, are those of the snapshot."""
    guards: dict[Guard, None] = {}
    for pool_and_family in used:
        pair = snapshot.choice_guards.get(pool_and_family)
        if pair is None:
            pool, family = pool_and_family
            topic = keys.guard("reservations", family)
            pair = snapshot.choice_guards[pool_and_family] = (
                Unchanged(keys.pool(pool), snapshot.pools[pool].revision),
                Unchanged(topic, snapshot.guards.get(topic, 0)),
            )
        guards.update(dict.fromkeys(pair))
    return list(guards)


def claim_proposal(
    keys: Keys,
    draft: EventDraft,
    stored: StoredEndpoint,
    choices: Sequence[AddressChoice],
    configuration: Iterable[Guard],
    releasing: Proposal | None = None,
    reads: Reads = NO_PROPOSAL_READS,
) -> Proposal:
    """Claim the chosen addresses, all or none (I4). ``releasing``: a release to commit with it."""
    event = draft.event
    assert isinstance(event, AddressesClaimed)
    endpoint = event.endpoint
    name = keys.endpoint(endpoint.namespace, endpoint.name)
    guards: list[Guard] = [endpoint_guard(name, stored), *configuration]
    writes: list[Write] = [Put(name, ENDPOINT.encode(endpoint))]
    for (family, value), cool_down_revision, claim_revision in choices:
        ip, cool_down, quarantine = keys.of_address(family, value)
        if not claim_revision:  # else the release guards the claim that ends
            guards.append(Absent(ip))
        guards.append(Unchanged(cool_down, cool_down_revision))
        guards.append(Absent(quarantine))
        if cool_down_revision:
            writes.append(Delete(cool_down))
    for address, claim in claims_made(event, draft.event_id):
        writes.append(Put(keys.ip_of(address), CLAIM.encode(claim)))
    if releasing is None:
        return Proposal((draft,), tuple(guards), tuple(writes), reads)
    return Proposal(
        (*releasing.drafts, draft),
        (*guards, *releasing.guards),
        (*releasing.writes, *writes),
        reads,
    )


def change_proposal(keys: Keys, draft: EventDraft, stored: StoredEndpoint) -> Proposal:
    """Write a changed endpoint."""
    event = draft.event
    assert isinstance(event, EndpointChanged)
    name = keys.endpoint(*event.endpoint.key)
    put = Put(name, ENDPOINT.encode(event.endpoint))
    return Proposal((draft,), (endpoint_guard(name, stored),), (put,))


def release_proposal(keys: Keys, draft: EventDraft, stored: StoredEndpoint, lease: int) -> Proposal:
    """End the named claims (I3), mark their cool-down, and write or delete the endpoint."""
    event = draft.event
    assert isinstance(event, AddressesReleased)
    after = evolve_endpoint(stored.endpoint, event)
    released = release_writes(keys, event.releases, lease)
    name = keys.endpoint(event.namespace, event.name)
    endpoint_write: Write = Delete(name) if after is None else Put(name, ENDPOINT.encode(after))
    guards = (endpoint_guard(name, stored), *release_guards(keys, event.releases))
    return Proposal((draft,), guards, (*released, endpoint_write))


def release_in_claim(
    keys: Keys, draft: EventDraft, lease: int, claimed: Container[str] = ()
) -> Proposal:
    """The part of a claim's transaction that ends older claims; the claim writes the endpoint.

    ``claimed``: addresses that the claim takes over; their keys are written by the claim.
    """
    event = draft.event
    assert isinstance(event, AddressesReleased)
    free = [release for release in event.releases if release.address not in claimed]
    writes = release_writes(keys, free, lease)
    return Proposal((draft,), release_guards(keys, event.releases), writes)


def release_guards(keys: Keys, releases: Sequence[Release]) -> tuple[Guard, ...]:
    """The guards that each claim has the revision that the release names."""
    return tuple(
        Unchanged(keys.ip_of(release.address), release.claim_revision) for release in releases
    )


def release_writes(keys: Keys, releases: Sequence[Release], lease: int) -> tuple[Write, ...]:
    """Delete the claims; with a lease, write a cool-down mark for each address."""
    writes: list[Write] = []
    for release in releases:
        family, value = parse_address(release.address)
        writes.append(Delete(keys.ip(family, value)))
        if lease:
            writes.append(Put(keys.cool_down(family, value), release.holder.encode(), lease))
    return tuple(writes)
