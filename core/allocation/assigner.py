"""Claims of named addresses: read, decide, commit, all addresses or none.

Every try reads the endpoint and the claims on the wanted addresses first, because nobody waits for
the microseconds that an ADD saves by guessing, and because a refusal must be exact. The guards are
those of every claim (I2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from core.allocation.proposals import (
    AddressChoice,
    StoredEndpoint,
    claim_proposal,
    configuration_guards,
)
from core.domain.addresses.ip_address import Address, parse_address
from core.domain.claims.assignment import PoolOffer, Present, decide_assignment
from core.domain.events import Cause
from core.domain.model import Claim, Endpoint
from core.errors import LostRace
from core.eventstore.batch import Lost
from core.eventstore.codec import CLAIM, EventDraft
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from core.eventstore.retry_policies import racing
from core.eventstore.writer import Writer
from core.projections.configuration_view import ConfigurationView


class Assigned(NamedTuple):
    """The endpoint after the claim; ``revision`` 0: everything was so already."""

    endpoint: Endpoint
    revision: int


class Assigner:
    """Gives endpoints the addresses that somebody names."""

    def __init__(
        self, store: KeyValueStore, keys: Keys, writer: Writer, view: ConfigurationView
    ) -> None:
        self._store = store
        self._keys = keys
        self._writer = writer
        self._view = view

    async def assign(self, wanted: Endpoint, cause: Cause) -> Assigned:
        """Claim every address of ``wanted`` that it does not have yet.

        Raises Refused, LostRace, NotReady, StoreUnavailable, OutcomeUnknown.
        """
        assigned: Assigned = await racing()(self._once, wanted, cause)
        return assigned

    async def _once(self, wanted: Endpoint, cause: Cause) -> Assigned:
        await self._view.freshen()
        snapshot = self._view.current
        addresses = [parse_address(text) for text, _ in wanted.addresses()]
        present, seen, rests = await self._read(wanted, addresses)
        offers = {
            name: PoolOffer(snapshot.pools[name].pool, snapshot.usable(name))
            for _, name in wanted.addresses()
            if name in snapshot.pools
        }
        event = decide_assignment(wanted, present, offers)
        if event is None:
            return Assigned(present.endpoint or wanted, 0)
        new = [pair for index in event.new_nics for pair in event.endpoint.nics[index].addresses()]
        choices = [
            AddressChoice(address, address.value, rests[address])
            for address in (parse_address(text) for text, _ in new)
        ]
        draft = EventDraft(self._writer.event_id(), cause, event)
        used = ((name, parse_address(text).family) for text, name in new)
        guards = configuration_guards(self._keys, snapshot, used)
        outcome = await self._writer.append(
            claim_proposal(self._keys, draft, seen, choices, guards)
        )
        if isinstance(outcome, Lost):
            raise LostRace(f"{', '.join(map(str, addresses))} changed", subject=wanted.name)
        return Assigned(event.endpoint, outcome.revision)

    async def _read(
        self, wanted: Endpoint, addresses: Sequence[Address]
    ) -> tuple[Present, StoredEndpoint, dict[Address, int]]:
        """What is there, the endpoint's revision, and the rest marks of the addresses."""
        keys = self._keys
        gets = [Get(keys.endpoint(*wanted.key))]
        gets += [Get(keys.ip(*address)) for address in addresses]
        gets += [Get(keys.rest(*address)) for address in addresses]
        own, *found = (each.first for each in (await self._store.read(gets)).ranges)
        seen = StoredEndpoint.of(own)
        claims: dict[Address, Claim] = {}
        rests: dict[Address, int] = {}
        for place, address in enumerate(addresses):
            claimed, resting = found[place], found[place + len(addresses)]
            if claimed is not None:
                claims[address] = CLAIM.decode(claimed.value)
            rests[address] = resting.mod_revision if resting else 0
        return Present(seen.endpoint, claims), seen, rests
