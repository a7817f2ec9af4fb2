"""Claim addresses that the caller names, all of them or none.

The callers are operators, takeovers, and ADDs of Pods whose fixed addresses have lost their claims.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from core.allocation.proposals import (
    AddressChoice,
    StoredEndpoint,
    claim_proposal,
    configuration_guards,
)
from core.domain.addresses.ip_address import Address, parse_address
from core.domain.claims.assignment import PoolAvailability, StoredState, decide_assignment
from core.domain.events import AddressesClaimed, Cause
from core.domain.evolution import EndpointKey
from core.domain.fixed.retrieval import missing_claims, retrieve
from core.domain.model import Claim, Endpoint
from core.errors import LostRace
from core.eventstore.codec import CLAIM_CODEC, EventDraft
from core.eventstore.group_commit import Lost
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore, Unchanged
from core.eventstore.retry_policies import retry_lost_races
from core.eventstore.writer import Writer
from core.projections.configuration_view import ConfigurationSnapshot, ConfigurationView


class Assigned(NamedTuple):
    """The endpoint after the claim. ``revision`` 0: the endpoint had all addresses already."""

    endpoint: Endpoint
    revision: int


class _AddressStates(NamedTuple):
    stored: StoredEndpoint
    claims: Mapping[Address, Claim]
    claim_revisions: Mapping[Address, int]
    cool_down_revisions: Mapping[Address, int]


class Assigner:
    """Claims addresses that the caller names."""

    def __init__(
        self, store: KeyValueStore, keys: Keys, writer: Writer, view: ConfigurationView
    ) -> None:
        self._store = store
        self._keys = keys
        self._writer = writer
        self._view = view

    async def assign(self, desired: Endpoint, cause: Cause) -> Assigned:
        """Claim every address of ``desired`` that the endpoint does not have yet.

        Raises Refused, LostRace, NotReady, StoreUnavailable, OutcomeUnknown.
        """
        assigned: Assigned = await retry_lost_races()(self._assign_once, desired, cause)
        return assigned

    async def restore(
        self, stored: StoredEndpoint, cause: Cause
    ) -> tuple[StoredEndpoint, frozenset[int]]:
        """Claim the endpoint's addresses that have lost their claims, if the pools allow the claim.

        Returns the endpoint after the claim, and the indexes of NICs that need new addresses.
        Raises LostRace, NotReady, StoreUnavailable, OutcomeUnknown.
        """
        endpoint = stored.endpoint
        assert endpoint is not None, "there is no endpoint to restore"
        states = await self._read(endpoint.key, _addresses(endpoint.addresses()))
        if not any(missing_claims(nic, endpoint, states.claims) for nic in endpoint.nics):
            return stored, frozenset()
        await self._view.freshen()
        pools = _availability(endpoint, self._view.current)
        claimable, lost = retrieve(endpoint, states.claims, pools)
        if not claimable:
            return stored, lost
        event = AddressesClaimed(endpoint, new_nics=claimable)
        states = states._replace(stored=stored)  # guard the endpoint that the caller has read
        revision = await self._commit(states, event, self._view.current, cause)
        return StoredEndpoint(endpoint, revision), lost

    async def _assign_once(self, desired: Endpoint, cause: Cause) -> Assigned:
        await self._view.freshen()
        snapshot = self._view.current
        states = await self._read(desired.key, _addresses(desired.addresses()))
        endpoint = states.stored.endpoint
        stored_state = StoredState(endpoint, states.claims)
        event = decide_assignment(desired, stored_state, _availability(desired, snapshot))
        if event is None:
            return Assigned(endpoint or desired, revision=0)
        return Assigned(event.endpoint, await self._commit(states, event, snapshot, cause))

    async def _read(self, key: EndpointKey, addresses: Sequence[Address]) -> _AddressStates:
        keys = self._keys
        gets = [
            Get(keys.endpoint(*key)),
            *(Get(keys.ip(*address)) for address in addresses),
            *(Get(keys.cool_down(*address)) for address in addresses),
        ]
        endpoint, *values = (answer.first for answer in (await self._store.read(gets)).ranges)
        claims = dict(zip(addresses, values[: len(addresses)], strict=True))
        cool_down_marks = dict(zip(addresses, values[len(addresses) :], strict=True))
        return _AddressStates(
            StoredEndpoint.of(endpoint),
            {address: CLAIM_CODEC.decode(kv.value) for address, kv in claims.items() if kv},
            {address: kv.mod_revision for address, kv in claims.items() if kv},
            {address: kv.mod_revision for address, kv in cool_down_marks.items() if kv},
        )

    async def _commit(
        self,
        states: _AddressStates,
        event: AddressesClaimed,
        snapshot: ConfigurationSnapshot,
        cause: Cause,
    ) -> int:
        pools = {
            parse_address(text): pool
            for index in event.new_nics
            for text, pool in event.endpoint.nics[index].addresses()
        }
        unclaimed = [address for address in pools if address not in states.claims]
        used = [(pools[address], address.family) for address in unclaimed]
        guards = [
            *configuration_guards(self._keys, snapshot, used),
            *(
                Unchanged(self._keys.ip(*address), states.claim_revisions[address])
                for address in pools
                if address in states.claims
            ),
        ]
        choices = [
            AddressChoice(address, states.cool_down_revisions.get(address, 0))
            for address in unclaimed
        ]
        draft = EventDraft(self._writer.event_id(), cause, event)
        proposal = claim_proposal(self._keys, draft, states.stored, choices, guards)
        outcome = await self._writer.append(proposal)
        if isinstance(outcome, Lost):
            name = f"{event.endpoint.namespace}/{event.endpoint.name}"
            problem = f"endpoint {name}, its addresses or their pools have changed meanwhile"
            raise LostRace(problem, subject=name)
        return outcome.revision


def _addresses(pairs: Iterable[tuple[str, str]]) -> list[Address]:
    return [parse_address(text) for text, _ in pairs]


def _availability(
    endpoint: Endpoint, snapshot: ConfigurationSnapshot
) -> dict[str, PoolAvailability]:
    return {
        name: PoolAvailability(snapshot.pools[name].pool, snapshot.usable(name))
        for _, name in endpoint.addresses()
        if name in snapshot.pools
    }
