"""Hand endpoints over to the network provider, which unbinds the addresses before their release.

A handover is guarded by the endpoint and the binding that were read. Afterwards a workflow calls
the provider and then releases the addresses.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.allocation.bindings import Binding, BindingStore, StoredBinding
from core.allocation.proposals import StoredEndpoint, endpoint_guard, endpoint_lost_race
from core.allocation.releaser import (
    ClaimRevisions,
    DecideRelease,
    Released,
    read_claims,
    revisions_of_claims,
)
from core.domain.claims.claim_decisions import ReleaseDecision
from core.domain.events import ReleaseReason
from core.domain.evolution import EndpointKey
from core.domain.model import Endpoint
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from core.eventstore.retry_policies import retry_lost_races

HANDED_OVER: Final = "handed over: the network provider unbinds the addresses first"
UNBINDING: Final = "the network provider is already unbinding the addresses"
SHARED: Final = (
    "another sandbox still has NICs of this endpoint; the provider unbinds the addresses when the"
    " last sandbox has ended"
)


class _BoundEndpoint(NamedTuple):
    endpoint: StoredEndpoint
    binding: StoredBinding


class Handover:
    """Hands endpoints over to the network provider."""

    def __init__(self, store: KeyValueStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self._bindings = BindingStore(store, keys)

    async def hand_over(
        self, key: EndpointKey, decide: DecideRelease, reason: ReleaseReason, evidence: str
    ) -> Released | None:
        """Hand over the bound addresses of an endpoint; None: no binding is stored.

        A repeated call changes nothing. ``decide`` is not called without an endpoint. Raises
        StoreUnavailable, OutcomeUnknown, and LostRace after the last try.
        """
        result: Released | None = await retry_lost_races()(
            self._hand_over_once, key, decide, reason, evidence
        )
        return result

    async def _hand_over_once(
        self, key: EndpointKey, decide: DecideRelease, reason: ReleaseReason, evidence: str
    ) -> Released | None:
        bound = await self._read(key)
        binding, endpoint = bound.binding.binding, bound.endpoint.endpoint
        if binding is None:
            return None
        request = binding.request
        if endpoint is not None:
            decision = decide(endpoint)
            if not decision.ends:
                return Released((), decision.why)
            if _has_live_sandbox(binding, decision):
                return await self._record_ended_sandbox(bound, decision)
            evidence = "; ".join(filter(None, (evidence, decision.evidence)))
            request = request._replace(
                claims=await read_revisions(self._store, self._keys, endpoint)
            )
        if binding.is_ending:
            return Released((), UNBINDING)
        returning_binding = Binding(request, "returning", evidence, reason)
        guard = endpoint_guard(self._keys.endpoint(*key), bound.endpoint)
        if not await self._bindings.write(bound.binding, returning_binding, guard):
            raise endpoint_lost_race(key)
        return Released((), HANDED_OVER)

    async def _record_ended_sandbox(
        self, bound: _BoundEndpoint, decision: ReleaseDecision
    ) -> Released:
        """Note the sandbox's container. The provider unbinds after the last sandbox has ended."""
        endpoint, binding = bound.endpoint.endpoint, bound.binding.binding
        assert endpoint is not None
        assert binding is not None
        ended_containers = {nic.container for nic in endpoint.nics if nic not in decision.keep}
        gone = tuple(sorted(ended_containers.union(binding.gone)))
        if gone != binding.gone and not await self._bindings.write(
            bound.binding, binding._replace(gone=gone)
        ):
            raise endpoint_lost_race(endpoint.key)
        return Released((), SHARED)

    async def _read(self, key: EndpointKey) -> _BoundEndpoint:
        gets = [Get(self._keys.endpoint(*key)), Get(self._keys.binding(*key))]
        endpoint, binding = (await self._store.read(gets)).ranges
        return _BoundEndpoint(StoredEndpoint.of(*endpoint.kvs), StoredBinding.of(binding.first))


def _has_live_sandbox(binding: Binding, decision: ReleaseDecision) -> bool:
    # A NIC has no container ("") until its first ADD.
    return any(nic.container not in ("", *binding.gone) for nic in decision.keep)


async def read_revisions(store: KeyValueStore, keys: Keys, endpoint: Endpoint) -> ClaimRevisions:
    """The endpoint's claims as (address, revision). Raises StoreUnavailable, LogCorrupt."""
    addresses = [address for address, _ in endpoint.addresses()]
    return revisions_of_claims(await read_claims(store, keys, endpoint.key, addresses))
