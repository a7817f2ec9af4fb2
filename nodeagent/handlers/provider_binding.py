"""ADDs of NICs whose addresses a network provider has to bind: claimed, bound, then answered.

    look at the binding ──▶ claim ──▶ ask the controllers ──▶ wait for what they say ──▶ answer

Only with a provider, and asked is only for NICs that take part (docs/concepts/network-provider.md).
No provider is spoken to here. An ADD that fails or cannot wait leaves nothing that is not on its
way to be given back; one that is repeated attaches to what is under way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Final, NamedTuple, Protocol

from core.allocation.add_request import AddRequest
from core.allocation.allocator import Added, Confirm
from core.allocation.bindings import Binding, BindingRequest, Bindings
from core.allocation.handover import Handover, read_revisions
from core.domain.claims.claim_decisions import ReleaseDecision
from core.domain.events import ReleaseReason
from core.domain.facts import PodFacts, RequestFacts
from core.domain.model import Endpoint
from core.domain.provider.provider_nics import NicFacts, addresses_of, parents_of
from core.errors import Compacted, DeadlineExceeded, LostRace, NotReady, ProviderError
from core.eventstore.codec import ENDPOINT
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from core.eventstore.retry_policies import racing
from nodeagent.handlers.add_handler import Allocate

BIND_S_MAX: Final = 90.0
"""From the beginning of an ADD to its answer, below ``BOUND_ADD_DEADLINE_S`` of the gate."""

BOOKS_S: Final = 5.0
"""Seconds of that for recording the provider's answer and returning it."""


class Networks(Protocol):
    """The SpiderMultusConfigs of the NICs of Pods."""

    def nics(self, pod: PodFacts, interfaces: tuple[str, ...]) -> tuple[NicFacts, ...]:
        """The networks of these NICs. Raises NotReady if they cannot be read now."""
        ...


class Times(NamedTuple):
    """How long an ADD waits, and the wall clock of its deadline for controllers."""

    bind_s: float = BIND_S_MAX
    now_s: Callable[[], float] = time.time


class _Asked(NamedTuple):
    """``revision``: of the binding request in etcd, 0 if the addresses are bound already."""

    order: BindingRequest
    revision: int


class BindingAllocator:
    """An allocator that waits until a network provider has bound the addresses."""

    def __init__(
        self,
        allocate: Allocate,
        store: KeyValueStore,
        keys: Keys,
        networks: Networks,
        confirm: Confirm,
        times: Times = Times(),
    ) -> None:
        self._allocate = allocate
        self._confirm = confirm
        self._store = store
        self._keys = keys
        self._networks = networks
        self._times = times
        self._bindings = Bindings(store, keys)
        self._handover = Handover(store, keys)

    async def allocate_and_bind(self, request: AddRequest, facts: RequestFacts) -> Added:
        """See ``Allocator.allocate``.

        Raises ProviderError, NotReady, DeadlineExceeded, BadInput too.
        """
        ends = asyncio.get_running_loop().time() + self._times.bind_s
        pod = facts.pod
        parents_of(self._networks.nics(pod, (request.attachment.interface,)))
        await self._admit(request, pod)
        added = await self._allocate(request, facts)
        order = await self._order(added.endpoint, pod)
        if not order.addresses or pod.migrating:
            return added
        asked: _Asked = await racing()(self._ask, order, pod, ends)
        if asked.revision:
            await self._wait(asked, pod, ends)
        return added._replace(endpoint=await self._endpoint(order))

    async def _admit(self, request: AddRequest, pod: PodFacts) -> None:
        """Raise NotReady while addresses of an earlier binding are being released."""
        binding = (await self._bindings.find(pod.endpoint_key)).binding
        if binding is None:
            return
        if not binding.is_ending:
            if _continues(binding.order, pod):
                return
            await self._confirm(request.pod)
            await self._give_back(pod, "superseded", f"Pod {pod.uid} asks for addresses")
        raise _not_yet(binding)

    async def _order(self, endpoint: Endpoint, pod: PodFacts) -> BindingRequest:
        """The binding request of an endpoint, with its current claims."""
        interfaces = tuple(nic.interface for nic in endpoint.nics if nic.interface and nic.ipv4)
        parents = parents_of(self._networks.nics(pod, interfaces))
        addresses = addresses_of(endpoint, parents)
        claims = await read_revisions(self._store, self._keys, endpoint) if addresses else ()
        return BindingRequest(
            *endpoint.key, pod.name, endpoint.uid, endpoint.node, addresses, claims
        )

    async def _ask(self, order: BindingRequest, pod: PodFacts, ends: float) -> _Asked:
        """Write the binding request for the controllers."""
        seen = await self._bindings.find(order.key)
        binding = seen.binding
        if binding is not None:
            if not _texts(binding.order) <= _texts(order):
                await self._give_back(pod, "unbound", "its addresses are others than those bound")
                raise _not_yet(binding)
            if binding.is_ending:
                raise _not_yet(binding)
            order = order._replace(uid=binding.order.uid, pod=binding.order.pod)
            if binding.state == "bound" and binding.order.covers(order):
                return _Asked(order, 0)
        left_s = ends - asyncio.get_running_loop().time() - BOOKS_S
        deadline_ms = round((self._times.now_s() + left_s) * 1000)
        order = order._replace(deadline_ms=deadline_ms)
        gone = () if binding is None else binding.gone
        revision = await self._bindings.write(seen, Binding(order, "asked", gone=gone))
        if not revision:
            raise LostRace(f"the binding of {'/'.join(order.key)} changed meanwhile")
        return _Asked(order, revision)

    async def _wait(self, asked: _Asked, pod: PodFacts, ends: float) -> None:
        """Wait until the addresses are bound."""
        order = asked.order
        try:
            async with (
                asyncio.timeout_at(ends),
                aclosing(self._bindings.changes(order.key, asked.revision)) as changes,
            ):
                async for binding in changes:
                    if _is_bound(order, binding):
                        return
        except (TimeoutError, Compacted):
            why = f"the network provider did not bind it within {self._times.bind_s:g} s"
            await self._give_back(pod, "unbound", why)
            raise DeadlineExceeded(
                f"{why}; a binding that it may have made is being released",
                subject="/".join(order.key),
                remedy="check that a controller is running: `orbctl status`; see"
                f" `orbctl workflow history {order.workflow_id}`",
            ) from None

    async def _give_back(self, pod: PodFacts, reason: ReleaseReason, why: str) -> None:
        """Hand over this Pod's addresses for release; if superseded, those of an earlier Pod."""

        def decide(endpoint: Endpoint) -> ReleaseDecision:
            is_ours = (endpoint.uid, endpoint.node) == (pod.uid, pod.node)
            return ReleaseDecision(is_ours == (reason != "superseded"), why)

        await self._handover.hand_over(pod.endpoint_key, decide, reason, why)

    async def _endpoint(self, order: BindingRequest) -> Endpoint:
        """With the MACs and VLANs that the provider chose."""
        kvs = (await self._store.read([Get(self._keys.endpoint(*order.key))])).ranges[0].kvs
        if not kvs:
            raise ProviderError(f"the addresses of {'/'.join(order.key)} have been released")
        return ENDPOINT.decode(kvs[0].value)


def _continues(order: BindingRequest, pod: PodFacts) -> bool:
    """Whether a binding is valid for this Pod too.

    It is for the same Pod, for the next Pod of a fixed address on the same node, and for the target
    of a live migration, whose source still uses the addresses.
    """
    same_node = pod.fixed is not None and order.node == pod.node
    return order.uid == pod.uid or same_node or pod.migrating


def _texts(order: BindingRequest) -> set[str]:
    return {one.address for one in order.addresses}


def _is_bound(order: BindingRequest, binding: Binding | None) -> bool:
    """Whether the addresses are bound. Raises ProviderError if they are being released."""
    if binding is None or binding.is_ending:
        released = f"the addresses of {'/'.join(order.key)} have been released"
        raise ProviderError(
            released if binding is None or binding.state != "failed" else binding.why,
            subject=order.workflow_id,
            remedy=f"see `orbctl workflow history {order.workflow_id}`",
        )
    return binding.state == "bound"


def _not_yet(binding: Binding) -> NotReady:
    order = binding.order
    because = f" ({binding.why})" if binding.why else ""
    return NotReady(
        f"earlier addresses of {'/'.join(order.key)} are still being released by the network"
        f" provider{because}",
        subject=order.workflow_id,
        remedy=f"wait: the runtime tries again; see `orbctl workflow describe {order.workflow_id}`",
    )
