"""Releases of endpoints whose addresses a provider has bound: handed over, not carried out.

Handing over is one transaction, guarded by the endpoint and the binding that were seen: once it is
through, the addresses are given back whoever dies, and until the provider has let go of them nobody
else gets them. An endpoint without a binding is none of this module's business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from core.allocation.binder import Claims
from core.allocation.bindings import Binding, Bindings, StoredBinding
from core.allocation.cooldown import CoolDown
from core.allocation.proposals import StoredEndpoint, endpoint_changed
from core.allocation.releaser import Released, ReleaseOrder, Releaser, releases_of
from core.domain.claims.claim_decisions import ReleaseDecision
from core.domain.events import ReleaseReason
from core.domain.evolution import EndpointKey
from core.domain.model import Endpoint
from core.eventstore.keys import Keys
from core.eventstore.kv import Absent, Get, KeyValueStore, Unchanged
from core.eventstore.retry_policies import racing
from core.eventstore.writer import Writer

HANDED_OVER: Final = "handed over: the network provider lets go of its addresses first"
ENDING: Final = "the network provider is letting go of its addresses already"
LAST: Final = "another sandbox has NICs of it: the provider's addresses go back with the last one"

Decide = Callable[[Endpoint], ReleaseDecision]


class _Sight(NamedTuple):
    """An endpoint and its binding, at one revision."""

    endpoint: StoredEndpoint
    found: StoredBinding


class Handover:
    """Hands endpoints over."""

    def __init__(self, store: KeyValueStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self._bindings = Bindings(store, keys)

    async def hand_over(
        self, key: EndpointKey, decide: Decide, reason: ReleaseReason, evidence: str
    ) -> Released | None:
        """None: no address of it is the provider's. ``decide`` as in ``Releaser.release``.

        A binding whose endpoint is gone is handed over too. Repeating it changes nothing. Raises
        StoreUnavailable, OutcomeUnknown, LostRace (after the bounded time of ``racing``).
        """
        done: Released | None = await racing()(self._once, key, decide, reason, evidence)
        return done

    async def _once(
        self, key: EndpointKey, decide: Decide, reason: ReleaseReason, evidence: str
    ) -> Released | None:
        sight = await self._look(key)
        binding, (endpoint, revision) = sight.found.binding, sight.endpoint
        if binding is None:
            return None
        order, name = binding.order, self._keys.endpoint(*key)
        if endpoint is not None:
            decision = decide(endpoint)
            if not decision.ends:
                return Released((), decision.why)
            if _left(binding, decision):
                return await self._note_gone(sight, decision)
            evidence = "; ".join(filter(None, (evidence, decision.evidence)))
            order = order._replace(claims=await claims_of(self._store, self._keys, endpoint))
        if binding.is_ending:
            return Released((), ENDING)
        after = Binding(order, "returning", evidence, reason)
        guard = Absent(name) if endpoint is None else Unchanged(name, revision)
        if not await self._bindings.write(sight.found, after, guard):
            raise endpoint_changed(key)
        return Released((), HANDED_OVER)

    async def _note_gone(self, sight: _Sight, decision: ReleaseDecision) -> Released:
        """Remember the sandbox that has ended: the provider's addresses go back together."""
        (endpoint, _), binding = sight.endpoint, sight.found.binding
        assert endpoint is not None
        assert binding is not None
        ended = {nic.container for nic in endpoint.nics if nic not in decision.keep}
        gone = tuple(sorted(ended.union(binding.gone)))
        if gone != binding.gone and not await self._bindings.write(
            sight.found, binding._replace(gone=gone)
        ):
            raise endpoint_changed(endpoint.key)
        return Released((), LAST)

    async def _look(self, key: EndpointKey) -> _Sight:
        gets = [Get(self._keys.endpoint(*key)), Get(self._keys.binding(*key))]
        endpoint, binding = (await self._store.read(gets)).ranges
        return _Sight(StoredEndpoint.of(endpoint.first), StoredBinding.of(binding.first))


class HandingReleaser(Releaser):
    """A releaser that hands over what a provider has bound, and releases everything else."""

    def __init__(
        self, store: KeyValueStore, keys: Keys, writer: Writer, cooldown: CoolDown
    ) -> None:
        super().__init__(store, keys, writer, cooldown)
        self._handover = Handover(store, keys)

    async def release(self, key: EndpointKey, decide: Decide, order: ReleaseOrder) -> Released:
        """See ``Releaser.release``; addresses that were handed over are not counted as released."""

        def decide_whole(endpoint: Endpoint) -> ReleaseDecision:
            decision = decide(endpoint)
            return decision._replace(keep=order.keep or decision.keep)

        done = await self._handover.hand_over(key, decide_whole, order.reason, order.evidence)
        return await super().release(key, decide, order) if done is None else done


def _left(binding: Binding, decision: ReleaseDecision) -> bool:
    """Whether a sandbox that has not ended has NICs of the endpoint."""
    return any(nic.container not in ("", *binding.gone) for nic in decision.keep)


async def claims_of(store: KeyValueStore, keys: Keys, endpoint: Endpoint) -> Claims:
    """The claims that an endpoint has now, sorted."""
    addresses = sorted(address for address, _ in endpoint.addresses())
    ranges = (await store.read([Get(keys.ip_of(one)) for one in addresses])).ranges
    releases = releases_of(addresses, ranges, endpoint.key)
    return tuple((one.address, one.claim_revision) for one in releases)
