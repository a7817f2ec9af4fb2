"""The books of externally bound addresses: what the provider chose, and the end of their claims.

Both steps name the claims they are about, by revision (I3): late and repeated ones change nothing.
What the provider itself knows is not asked here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from core.allocation.cooldown import CoolDown
from core.allocation.proposals import (
    StoredEndpoint,
    change_proposal,
    endpoint_changed,
    release_proposal,
)
from core.allocation.releaser import Released, Releaser
from core.domain.events import AddressesReleased, Cause, EndpointChanged, Release, ReleaseReason
from core.domain.evolution import EndpointKey
from core.domain.model import Nic
from core.eventstore.batch import Lost
from core.eventstore.codec import EventDraft
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from core.eventstore.retry_policies import racing
from core.eventstore.writer import Writer

LATE: Final = "these claims have ended already"
Claims = tuple[tuple[str, int], ...]
"""(address, revision of its claim), sorted."""


class ProviderChoice(NamedTuple):
    """What the provider chose for a NIC; "" and 0: nothing."""

    mac: str = ""
    vlan: int = 0


class Binder:
    """Writes under one writer; several calls may run at once."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        writer: Writer,
        releaser: Releaser,
        cooldown: CoolDown,
    ) -> None:
        self._store = store
        self._keys = keys
        self._writer = writer
        self._releaser = releaser
        self._cooldown = cooldown

    async def record(
        self, key: EndpointKey, claims: Claims, choices: Mapping[str, ProviderChoice], cause: Cause
    ) -> bool:
        """Put choices, by IPv4 address, into the endpoint; False: the claims have ended.

        Raises StoreUnavailable, OutcomeUnknown, LostRace (after the bounded time of ``racing``).
        """
        return await racing()(self._record, key, claims, choices, cause)

    async def release(
        self, key: EndpointKey, claims: Claims, reason: ReleaseReason, evidence: str, cause: Cause
    ) -> Released:
        """End exactly these claims. Raises what ``record`` does."""
        return await racing()(self._release, key, claims, reason, evidence, cause)

    async def claims_of(self, key: EndpointKey, addresses: tuple[str, ...]) -> Claims:
        """The claims that this endpoint has of these addresses."""
        found = await self._fences(key, addresses)
        return tuple(sorted((one.address, one.claim_revision) for one in found))

    async def _record(
        self, key: EndpointKey, claims: Claims, choices: Mapping[str, ProviderChoice], cause: Cause
    ) -> bool:
        seen = await self._look(key)
        addresses = tuple(address for address, _ in claims)
        if seen.endpoint is None or await self.claims_of(key, addresses) != claims:
            return False
        nics = tuple(_chosen(nic, choices) for nic in seen.endpoint.nics)
        if nics == seen.endpoint.nics:
            return True
        event = EndpointChanged(seen.endpoint._replace(nics=nics))
        draft = EventDraft(self._writer.event_id(), cause, event)
        outcome = await self._writer.append(change_proposal(self._keys, draft, seen))
        if isinstance(outcome, Lost):
            raise endpoint_changed(key)
        return True

    async def _release(
        self, key: EndpointKey, claims: Claims, reason: ReleaseReason, evidence: str, cause: Cause
    ) -> Released:
        seen = await self._look(key)
        addresses = tuple(address for address, _ in claims)
        left = [one for one in await self._fences(key, addresses) if _names(claims, one)]
        if not left:
            return Released((), LATE)
        ended = {one.address for one in left}
        nics = seen.endpoint.nics if seen.endpoint is not None else ()
        kept = tuple(nic for nic in nics if ended.isdisjoint(a for a, _ in nic.addresses()))
        event = AddressesReleased(*key, tuple(left), kept, reason, evidence)
        draft = EventDraft(self._writer.event_id(), cause, event)
        outcome = await self._cooldown.append(
            self._writer, lambda lease: release_proposal(self._keys, draft, seen, lease)
        )
        if isinstance(outcome, Lost):
            raise endpoint_changed(key)
        return Released(tuple(sorted(ended)), evidence, outcome.revision)

    async def _look(self, key: EndpointKey) -> StoredEndpoint:
        return StoredEndpoint.of(
            (await self._store.read([Get(self._keys.endpoint(*key))])).ranges[0].first
        )

    async def _fences(self, key: EndpointKey, addresses: tuple[str, ...]) -> tuple[Release, ...]:
        return await self._releaser.fences([(address, "") for address in addresses], key)


def _names(claims: Claims, one: Release) -> bool:
    return (one.address, one.claim_revision) in claims


def _chosen(nic: Nic, choices: Mapping[str, ProviderChoice]) -> Nic:
    choice = choices.get(nic.ipv4.partition("/")[0], ProviderChoice())
    return nic._replace(mac=choice.mac or nic.mac, vlan=choice.vlan or nic.vlan)
