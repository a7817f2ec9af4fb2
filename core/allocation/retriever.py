"""Before a fixed endpoint passes to the next Pod: it holds all that it shows, or is told what not.

With intact state keys that is one read. A claim that is missing is made again in a transaction of
its own, under the guards of every claim (I2); what cannot be had is named, and the ADD replaces it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from core.allocation.proposals import (
    AddressChoice,
    StoredEndpoint,
    claim_proposal,
    configuration_guards,
)
from core.domain.addresses.ip_address import parse_address
from core.domain.claims.assignment import PoolOffer
from core.domain.events import AddressesClaimed, Cause
from core.domain.fixed.retrieval import missing_of, retrieve
from core.domain.model import Claim, Endpoint
from core.errors import LostRace
from core.eventstore.batch import Lost, Proposal
from core.eventstore.codec import CLAIM, EventDraft
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore, Unchanged
from core.eventstore.writer import Writer
from core.projections.configuration_view import ConfigurationSnapshot, ConfigurationView


class _Found(NamedTuple):
    """What is there of the endpoint's addresses: claims and rest marks, with their revisions."""

    claims: Mapping[str, Claim]
    revisions: Mapping[str, int]
    rests: Mapping[str, int]


class Retriever:
    """Makes endpoints whole."""

    def __init__(
        self, store: KeyValueStore, keys: Keys, writer: Writer, view: ConfigurationView
    ) -> None:
        self._store = store
        self._keys = keys
        self._writer = writer
        self._view = view

    async def make_whole(
        self, seen: StoredEndpoint, cause: Cause
    ) -> tuple[StoredEndpoint, frozenset[int]]:
        """The endpoint as it is afterwards, and the indexes of NICs that cannot be had again.

        Raises LostRace, NotReady, StoreUnavailable, OutcomeUnknown.
        """
        endpoint = seen.endpoint
        assert endpoint is not None, "there is nothing to retrieve"
        found = await self._read(endpoint)
        if not any(missing_of(nic, endpoint, found.claims) for nic in endpoint.nics):
            return seen, frozenset()
        await self._view.freshen()
        snapshot = self._view.current
        regain, lost = retrieve(endpoint, found.claims, _offers(endpoint, snapshot))
        if not regain:
            return seen, lost
        event = AddressesClaimed(endpoint, regain)
        outcome = await self._writer.append(self._proposal(seen, event, cause, found, snapshot))
        if isinstance(outcome, Lost):
            raise LostRace(f"addresses of {endpoint.name} changed meanwhile", subject=endpoint.name)
        return StoredEndpoint(endpoint, outcome.revision), lost

    async def _read(self, endpoint: Endpoint) -> _Found:
        keys = self._keys
        addresses = [address for address, _ in endpoint.addresses()]
        if not addresses:
            return _Found({}, {}, {})
        gets = [Get(keys.ip_of(address)) for address in addresses]
        gets += [Get(keys.rest(*parse_address(address))) for address in addresses]
        ranges = [one.kvs for one in (await self._store.read(gets)).ranges]
        held = dict(zip(addresses, ranges[: len(addresses)], strict=True))
        resting = dict(zip(addresses, ranges[len(addresses) :], strict=True))
        return _Found(
            {address: CLAIM.decode(kvs[0].value) for address, kvs in held.items() if kvs},
            {address: kvs[0].mod_revision for address, kvs in held.items() if kvs},
            {address: kvs[0].mod_revision for address, kvs in resting.items() if kvs},
        )

    def _proposal(
        self,
        seen: StoredEndpoint,
        event: AddressesClaimed,
        cause: Cause,
        found: _Found,
        snapshot: ConfigurationSnapshot,
    ) -> Proposal:
        """Claims for all addresses of these NICs: for the missing ones as for new ones."""
        pairs = [
            pair for index in event.new_nics for pair in event.endpoint.nics[index].addresses()
        ]
        missing = {address: pool for address, pool in pairs if address not in found.claims}
        addresses = {text: parse_address(text) for text in missing}
        used = [(pool, addresses[text].family) for text, pool in missing.items()]
        return claim_proposal(
            self._keys,
            EventDraft(self._writer.event_id(), cause, event),
            seen,
            [
                AddressChoice(one, one.value, found.rests.get(text, 0))
                for text, one in addresses.items()
            ],
            [
                *configuration_guards(self._keys, snapshot, used),
                *(
                    Unchanged(self._keys.ip_of(address), found.revisions[address])
                    for address, _ in pairs
                    if address not in missing
                ),
            ],
        )


def _offers(endpoint: Endpoint, snapshot: ConfigurationSnapshot) -> dict[str, PoolOffer]:
    return {
        name: PoolOffer(snapshot.pools[name].pool, snapshot.usable(name))
        for _, name in endpoint.addresses()
        if name in snapshot.pools
    }
