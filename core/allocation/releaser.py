"""Releases: one path for DEL, GC, operators, reclaim and the network provider (I3, I6, I7).

Each release is a decision about an endpoint and its claims, committed by ``EndpointWriter``. What a
network provider has bound is handed over to it instead (``core.allocation.handover``). A claim that
has ended needs no release, which is success.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from core.allocation.cooldown import CoolDown
from core.allocation.endpoint_writer import (
    DecideChange,
    EndpointCache,
    EndpointState,
    EndpointWriter,
)
from core.domain.claims.claim_decisions import ReleaseDecision
from core.domain.events import AddressesReleased, Cause, Release, ReleaseReason
from core.domain.evolution import EndpointKey
from core.domain.model import Endpoint, Nic
from core.eventstore.claim_cause import link_to_claim
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.eventstore.retry_policies import racing
from core.eventstore.writer import Writer
from core.process import tracing


class ReleaseRequest(NamedTuple):
    """Why addresses are released and what proves it (I6); NICs to ``keep`` are not released."""

    reason: ReleaseReason
    evidence: str
    cause: Cause
    keep: tuple[Nic, ...] = ()


class Released(NamedTuple):
    """The addresses released, at ``revision``; 0: nothing was written, for the reason ``why``."""

    addresses: tuple[str, ...]
    why: str
    revision: int = 0


DecideRelease = Callable[[Endpoint], ReleaseDecision]
HandOver = Callable[[EndpointKey, DecideRelease, ReleaseReason, str], Awaitable[Released | None]]


class Releaser(EndpointWriter):
    """Releases addresses under one writer; several calls may run at once.

    ``provider`` hands over what a network provider has bound (``Handover.hand_over``); None: no
    provider binds addresses. Every release raises what ``EndpointWriter.change`` does.
    """

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        writer: Writer,
        cooldown: CoolDown,
        provider: HandOver | None = None,
    ) -> None:
        super().__init__(store, keys, writer, cooldown)
        self._provider = provider
        self.cache = EndpointCache()
        self.on_free: Callable[[Release], None] | None = None
        """Called for each address that this process has released and that does not rest."""

    async def release(
        self, key: EndpointKey, decide: DecideRelease, request: ReleaseRequest
    ) -> Released:
        """Release the endpoint, except for the NICs to keep, if ``decide`` says so about it."""

        def decide_kept(endpoint: Endpoint) -> ReleaseDecision:
            decision = decide(endpoint)
            return decision._replace(keep=request.keep or decision.keep)

        handed = await self.hand_over(key, decide_kept, request.reason, request.evidence)
        if handed is not None:
            return handed
        released: Released = await racing()(self._release_once, key, decide_kept, request)
        return released

    async def hand_over(
        self, key: EndpointKey, decide: DecideRelease, reason: ReleaseReason, evidence: str
    ) -> Released | None:
        """See ``Handover.hand_over``; None without a network provider."""
        if self._provider is None:
            return None
        return await self._provider(key, decide, reason, evidence)

    async def release_claims(
        self, key: EndpointKey, addresses: Sequence[str], decide: DecideChange, cause: Cause
    ) -> Released:
        """End the claims of the AddressesReleased that ``decide`` returns for these addresses."""
        event, revision, why = await self.change(key, addresses, decide, cause)
        if event is None:
            return Released((), why)
        assert isinstance(event, AddressesReleased)
        return Released(event.addresses(), event.evidence, revision)

    async def _release_once(
        self, key: EndpointKey, decide: DecideRelease, request: ReleaseRequest
    ) -> Released:
        """Use the cached endpoint; read it from etcd if there is none, or if nothing would end."""
        self._cooldown.grant_ahead()
        state = self.cache.pop(key)
        decision = None if state is None else _decide(state, decide)
        if state is None or decision is None or not (decision.ends or decision.asks):
            state = await self.read(key)
            decision = _decide(state, decide)
        if decision is None:
            return Released((), "there is no endpoint")
        if decision.asks:
            # The earlier reads are kept as guards: the answer may release the addresses (I6).
            self.cache.put(key, state)
        if not decision.ends:
            return Released((), decision.why)
        kept = {address for nic in decision.keep for address, _ in nic.addresses()}
        ending = tuple(claim for claim in state.claims if claim.address not in kept)
        evidence = "; ".join(filter(None, (request.evidence, decision.evidence)))
        event = AddressesReleased(*key, ending, decision.keep, request.reason, evidence)
        revision = await self.commit(key, state, event, request.cause)
        span = tracing.current_span()
        if span is not None and ending:
            await link_to_claim(span, self._store, self._keys, ending[0])
        if self.on_free is not None and not self._cooldown.seconds:
            for claim in ending:
                self.on_free(claim)
        return Released(event.addresses(), decision.why, revision)


def _decide(state: EndpointState, decide: DecideRelease) -> ReleaseDecision | None:
    """None: there is no endpoint."""
    return None if state.endpoint is None else decide(state.endpoint)
