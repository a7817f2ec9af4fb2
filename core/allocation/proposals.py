"""Build the transactions of events about addresses: writes and guards. Pure.

The guards ensure that a chosen address is unclaimed and not quarantined, that its pool and the
reservations have not changed (I2), and that a release ends only the claims that it names (I3).

If a guard of a claim fails, the transaction reads a window: the claims and cool-down marks of the
picked address and the addresses after it. The next try avoids these addresses.

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
from core.eventstore.codec import CLAIM_CODEC, ENDPOINT_CODEC, EventDraft
from core.eventstore.group_commit import NO_PROPOSAL_READS, Proposal, Reads
from core.eventstore.keys import Keys
from core.eventstore.kv import Absent, Delete, Get, Guard, KeyValue, Put, Unchanged, Write
from core.projections.configuration_view import ConfigurationSnapshot

WINDOW_KEYS_MAX = 64
"""The most claims, and the most cool-down marks, in one window."""


class AddressChoice(NamedTuple):
    """An address to claim.

    ``cool_down_revision``: the revision of the mark that the claim deletes (0: no mark).
    ``claim_revision``: the revision of the older claim that the claim replaces (0: no older claim).
    """

    address: Address
    cool_down_revision: int = 0
    claim_revision: int = 0


def window_reads(keys: Keys, address: Address, last: int) -> tuple[Get, Get]:
    """The reads of the window from ``address`` to ``last``: of claims, and of cool-down marks.

    The value of a cool-down mark is the last holder of the address.
    """
    ip, cool_down, _ = keys.of_address(*address)
    last_ip, last_cool_down, _ = keys.of_address(address.family, last)
    return (
        Get(ip, last_ip + b"\0", WINDOW_KEYS_MAX, keys_only=True),
        Get(cool_down, last_cool_down + b"\0", WINDOW_KEYS_MAX),
    )


class StoredEndpoint(NamedTuple):
    """An endpoint as read. ``revision``: the key's revision (0: no endpoint is stored)."""

    endpoint: Endpoint | None = None
    revision: int = 0

    @classmethod
    def of(cls, kv: KeyValue | None = None) -> StoredEndpoint:
        """Decode the value of an endpoint's key. Raises LogCorrupt."""
        return cls() if kv is None else cls(ENDPOINT_CODEC.decode(kv.value), kv.mod_revision)


NO_ENDPOINT: Final = StoredEndpoint()


def endpoint_lost_race(key: EndpointKey) -> LostRace:
    """The error of a proposal whose endpoint another writer changed first."""
    subject = "/".join(key)
    return LostRace(f"another writer changed endpoint {subject} first", subject=subject)


def endpoint_guard(name: bytes, stored: StoredEndpoint) -> Guard:
    """The guard that the endpoint has not changed since it was read."""
    return Unchanged(name, stored.revision) if stored.revision else Absent(name)


def configuration_guards(
    keys: Keys, snapshot: ConfigurationSnapshot, pools: Iterable[tuple[str, Family]]
) -> list[Guard]:
    """The guards that pools and reservations still have the revisions of the snapshot (I2)."""
    guards: dict[Guard, None] = {}
    for pool_and_family in pools:
        pair = snapshot.pool_guards.get(pool_and_family)
        if pair is None:
            pool, family = pool_and_family
            reservations = keys.guard("reservations", family)
            pair = snapshot.pool_guards[pool_and_family] = (
                Unchanged(keys.pool(pool), snapshot.pools[pool].revision),
                Unchanged(reservations, snapshot.guards.get(reservations, 0)),
            )
        guards.update(dict.fromkeys(pair))
    return list(guards)


def claim_proposal(
    keys: Keys,
    draft: EventDraft,
    stored: StoredEndpoint,
    choices: Sequence[AddressChoice],
    further_guards: Iterable[Guard],
    reads: Reads = NO_PROPOSAL_READS,
) -> Proposal:
    """Claim the chosen addresses, all or none (I4).

    ``stored``: the endpoint before the claim. ``further_guards``: guards of the configuration
    and of other claims. ``reads``: what to read if a guard fails.
    """
    event = draft.event
    assert isinstance(event, AddressesClaimed)
    endpoint = event.endpoint
    name = keys.endpoint(endpoint.namespace, endpoint.name)
    guards: list[Guard] = [endpoint_guard(name, stored), *further_guards]
    writes: list[Write] = [Put(name, ENDPOINT_CODEC.encode(endpoint))]
    for (family, value), cool_down_revision, claim_revision in choices:
        ip, cool_down, quarantine = keys.of_address(family, value)
        if not claim_revision:  # otherwise the release guards the older claim
            guards.append(Absent(ip))
        guards.append(Unchanged(cool_down, cool_down_revision))
        guards.append(Absent(quarantine))
        if cool_down_revision:
            writes.append(Delete(cool_down))
    for address, claim in claims_made(event, draft.event_id):
        writes.append(Put(keys.ip_of(address), CLAIM_CODEC.encode(claim)))
    return Proposal((draft,), tuple(guards), tuple(writes), reads)


def with_release(claim: Proposal, release: Proposal) -> Proposal:
    """Combine a release (``release_in_claim``) and a claim into one transaction."""
    return Proposal(
        (*release.drafts, *claim.drafts),
        (*claim.guards, *release.guards),
        (*release.writes, *claim.writes),
        claim.reads,
    )


def change_proposal(keys: Keys, draft: EventDraft, stored: StoredEndpoint) -> Proposal:
    """Write a changed endpoint."""
    event = draft.event
    assert isinstance(event, EndpointChanged)
    name = keys.endpoint(*event.endpoint.key)
    put = Put(name, ENDPOINT_CODEC.encode(event.endpoint))
    return Proposal((draft,), (endpoint_guard(name, stored),), (put,))


def release_proposal(keys: Keys, draft: EventDraft, stored: StoredEndpoint, lease: int) -> Proposal:
    """End the named claims (I3), and write or delete the endpoint.

    ``lease``: the lease of the cool-down marks (0: no cool-down).
    """
    event = draft.event
    assert isinstance(event, AddressesReleased)
    after = evolve_endpoint(stored.endpoint, event)
    claim_writes = release_writes(keys, event.releases, lease)
    name = keys.endpoint(event.namespace, event.name)
    endpoint_write: Write = (
        Delete(name) if after is None else Put(name, ENDPOINT_CODEC.encode(after))
    )
    guards = (endpoint_guard(name, stored), *claim_guards(keys, event.releases))
    return Proposal((draft,), guards, (*claim_writes, endpoint_write))


def release_in_claim(
    keys: Keys, draft: EventDraft, lease: int, claimed: Container[str] = ()
) -> Proposal:
    """The part of a claim's transaction that ends older claims.

    ``claimed``: addresses that the same transaction claims again.
    """
    event = draft.event
    assert isinstance(event, AddressesReleased)
    not_claimed = [release for release in event.releases if release.address not in claimed]
    writes = release_writes(keys, not_claimed, lease)
    return Proposal((draft,), claim_guards(keys, event.releases), writes)


def claim_guards(keys: Keys, claims: Sequence[Release]) -> tuple[Guard, ...]:
    """The guards that the claims still have their revisions."""
    return tuple(Unchanged(keys.ip_of(claim.address), claim.claim_revision) for claim in claims)


def release_writes(keys: Keys, releases: Sequence[Release], lease: int) -> tuple[Write, ...]:
    """Delete the claims; with a lease, write a cool-down mark for each address."""
    writes: list[Write] = []
    for release in releases:
        family, value = parse_address(release.address)
        writes.append(Delete(keys.ip(family, value)))
        if lease:
            writes.append(Put(keys.cool_down(family, value), release.holder.encode(), lease))
    return tuple(writes)
