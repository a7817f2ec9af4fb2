"""From a domain event to a transaction: which keys it writes and which guards protect it.

I5 lives here: the state keys are exactly what ``core.domain.evolution`` says the event makes. I2
and I3 live in the guards: an address must be unclaimed, unquarantined and rested, its pool and the
reservations as they were when the choice was made, and a release names the claim it ends. Nothing
here talks to the store.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

from core.domain.addresses.ip_address import Address, Family, parse_address
from core.domain.events import AddressesClaimed, AddressesReleased, EndpointChanged, Release
from core.domain.evolution import EndpointKey, claims_made, evolve_endpoint
from core.domain.model import Endpoint
from core.errors import LostRace
from core.eventstore.batch import Proposal
from core.eventstore.codec import CLAIM, ENDPOINT, EventDraft
from core.eventstore.keys import Keys
from core.eventstore.kv import Absent, Delete, Get, Guard, KeyValue, Put, Unchanged, Write
from core.projections.configuration_view import ConfigurationSnapshot

WINDOW_KEYS_MAX = 64
"""Keys a failed try reads from the address it wanted onwards."""


class AddressChoice(NamedTuple):
    """An address that an ADD wants: where a failed try reads up to, and the rest mark it would end.

    ``claim_revision``: the claim of it that ends in the same transaction, 0 for none.
    """

    address: Address
    window_last: int
    rest_revision: int = 0
    claim_revision: int = 0


def claim_window(keys: Keys, choice: AddressChoice) -> Get:
    """The read of the claims from the chosen address to the end of its window."""
    family, value = choice.address
    end = keys.ip(family, choice.window_last) + b"\0"
    return Get(keys.ip(family, value), end, WINDOW_KEYS_MAX, keys_only=True)


def rest_window(keys: Keys, choice: AddressChoice) -> Get:
    """The read of the rest marks of that window, each with the holder before."""
    family, value = choice.address
    end = keys.rest(family, choice.window_last) + b"\0"
    return Get(keys.rest(family, value), end, WINDOW_KEYS_MAX)


class StoredEndpoint(NamedTuple):
    """An endpoint as it was read; revision 0 and None: there is none."""

    endpoint: Endpoint | None = None
    revision: int = 0

    @classmethod
    def of(cls, found: KeyValue | None) -> StoredEndpoint:
        """What an endpoint's key says. Raises LogCorrupt."""
        return cls() if found is None else cls(ENDPOINT.decode(found.value), found.mod_revision)


def endpoint_changed(key: EndpointKey) -> LostRace:
    """The error of a proposal that lost to another one about its endpoint."""
    subject = "/".join(key)
    return LostRace(f"endpoint {subject} changed meanwhile", subject=subject)


def endpoint_guard(keys: Keys, key: EndpointKey, seen: StoredEndpoint) -> Guard:
    """The endpoint is still as it was seen."""
    name = keys.endpoint(*key)
    return Unchanged(name, seen.revision) if seen.revision else Absent(name)


def configuration_guards(
    keys: Keys, snapshot: ConfigurationSnapshot, used: Iterable[tuple[str, Family]]
) -> list[Guard]:
    """The pools that addresses come from, and the reservations, are as in ``snapshot``."""
    guards: dict[Guard, None] = {}
    for pool, family in used:
        guards[Unchanged(keys.pool(pool), snapshot.pools[pool].revision)] = None
        topic = keys.guard("reservations", family)
        guards[Unchanged(topic, snapshot.guards.get(topic, 0))] = None
    return list(guards)


def claim_proposal(
    keys: Keys,
    draft: EventDraft,
    seen: StoredEndpoint,
    choices: Sequence[AddressChoice],
    configuration: Iterable[Guard],
    releasing: Proposal | None = None,
) -> Proposal:
    """Claim the chosen addresses, all or none (I4); ``releasing`` ends an older holder's claims."""
    event = draft.event
    assert isinstance(event, AddressesClaimed)
    key = keys.endpoint(*event.endpoint.key)
    guards: list[Guard] = [endpoint_guard(keys, event.endpoint.key, seen), *configuration]
    writes: list[Write] = [Put(key, ENDPOINT.encode(event.endpoint))]
    reads = [Get(key)]
    for choice in choices:
        family, value = choice.address
        ip, rest = keys.ip(family, value), keys.rest(family, value)
        if not choice.claim_revision:  # else the release guards the claim that ends
            guards.append(Absent(ip))
        guards.append(Unchanged(rest, choice.rest_revision))
        guards.append(Absent(keys.quarantine(family, value)))
        if choice.rest_revision:
            writes.append(Delete(rest))
        reads += (claim_window(keys, choice), rest_window(keys, choice))
    for address, claim in claims_made(event, draft.event_id):
        writes.append(Put(keys.ip_of(address), CLAIM.encode(claim)))
    if releasing is None:
        return Proposal((draft,), tuple(guards), tuple(writes), tuple(reads))
    return Proposal(
        (*releasing.drafts, draft),
        (*guards, *releasing.guards),
        (*releasing.writes, *writes),
        tuple(reads),
    )


def change_proposal(keys: Keys, draft: EventDraft, seen: StoredEndpoint) -> Proposal:
    """Write a changed endpoint."""
    event = draft.event
    assert isinstance(event, EndpointChanged)
    key = keys.endpoint(*event.endpoint.key)
    guard = endpoint_guard(keys, event.endpoint.key, seen)
    return Proposal((draft,), (guard,), (Put(key, ENDPOINT.encode(event.endpoint)),), (Get(key),))


def release_proposal(keys: Keys, draft: EventDraft, seen: StoredEndpoint, lease: int) -> Proposal:
    """End the named claims (I3), let their addresses rest, and write or delete the endpoint."""
    event = draft.event
    assert isinstance(event, AddressesReleased)
    key = (event.namespace, event.name)
    after = evolve_endpoint(seen.endpoint, event)
    released = release_writes(keys, event.releases, lease)
    name = keys.endpoint(*key)
    own: Write = Delete(name) if after is None else Put(name, ENDPOINT.encode(after))
    guards = (endpoint_guard(keys, key, seen), *release_guards(keys, event.releases))
    return Proposal((draft,), guards, (*released, own))


def release_in_claim(
    keys: Keys, draft: EventDraft, lease: int, claimed: Container[str] = ()
) -> Proposal:
    """The part of a claim that ends older claims; the claim itself writes the endpoint.

    ``claimed``: addresses that the claim takes at once. Their keys are written by it alone.
    """
    event = draft.event
    assert isinstance(event, AddressesReleased)
    free = [one for one in event.releases if one.address not in claimed]
    writes = release_writes(keys, free, lease)
    return Proposal((draft,), release_guards(keys, event.releases), writes)


def release_guards(keys: Keys, releases: Sequence[Release]) -> tuple[Guard, ...]:
    """Each claim is still the one that the release names."""
    return tuple(Unchanged(keys.ip_of(one.address), one.claim_revision) for one in releases)


def release_writes(keys: Keys, releases: Sequence[Release], lease: int) -> tuple[Write, ...]:
    """Delete the claims; with a lease, mark the addresses as resting."""
    writes: list[Write] = []
    for one in releases:
        family, value = parse_address(one.address)
        writes.append(Delete(keys.ip(family, value)))
        if lease:
            writes.append(Put(keys.rest(family, value), one.holder.encode(), lease))
    return tuple(writes)
