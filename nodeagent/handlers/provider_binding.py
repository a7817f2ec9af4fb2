"""ADDs whose addresses a network provider must bind before the ADD is answered.

    read the binding ──▶ claim ──▶ write a binding request ──▶ wait for the bind ──▶ answer

Only some NICs need a bind (docs/concepts/network-provider.md). The controllers call the provider.
If the bind takes too long, the addresses are handed over to the controllers, which unbind and
release them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Final, NamedTuple, Protocol

from core.allocation.add_request import AddRequest
from core.allocation.allocator import Added, Confirm
from core.allocation.bindings import Binding, BindingRequest, BindingStore
from core.allocation.handover import Handover, read_revisions
from core.domain.claims.claim_decisions import ReleaseDecision
from core.domain.events import ReleaseReason
from core.domain.model import Endpoint
from core.domain.provider.provider_nics import NicConfiguration, addresses_of, parent_macs_of
from core.domain.request_facts import PodFacts, RequestFacts
from core.errors import Compacted, DeadlineExceeded, LostRace, NotReady, ProviderError
from core.eventstore.codec import ENDPOINT_CODEC
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from core.eventstore.retry_policies import retry_lost_races
from core.process import tracing
from nodeagent.handlers.add_handler import Allocate

BIND_S_MAX: Final = 90.0
"""From the start of an ADD to its answer. Less than ``BOUND_ADD_DEADLINE_S``."""

ANSWER_RECORD_S: Final = 5.0
"""The part of ``BIND_S_MAX`` to store and return the provider's answer."""


class Networks(Protocol):
    """The SpiderMultusConfigs of the Pods' NICs."""

    def nics(self, pod: PodFacts, interfaces: tuple[str, ...]) -> tuple[NicConfiguration, ...]:
        """Raises NotReady until networks have been read."""
        ...


class Times(NamedTuple):
    """The times of a bind. ``bind_s``: see ``BIND_S_MAX``. ``now_s``: the clock (Unix seconds)."""

    bind_s: float = BIND_S_MAX
    now_s: Callable[[], float] = time.time


class _StoredRequest(NamedTuple):
    """A binding request. ``revision``: in etcd; 0 if the addresses are already bound."""

    binding_request: BindingRequest
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
        self._bindings = BindingStore(store, keys)
        self._handover = Handover(store, keys)

    async def allocate_and_bind(self, request: AddRequest, facts: RequestFacts) -> Added:
        """Like ``Allocator.allocate``, but returns after the bind.

        Also raises ProviderError, NotReady, DeadlineExceeded, BadInput.
        """
        end_time = asyncio.get_running_loop().time() + self._times.bind_s
        pod = facts.pod
        # Called for its errors: NotReady and BadInput must come before an address is claimed.
        parent_macs_of(self._networks.nics(pod, (request.attachment.interface,)))
        await self._end_earlier_binding(request, pod)
        added = await self._allocate(request, facts)
        binding_request = await self._binding_request_of(added.endpoint, pod)
        if not binding_request.addresses or pod.migrating:
            return added
        stored_request: _StoredRequest = await retry_lost_races()(
            self._request_binding, binding_request, pod, request.cause.traceparent, end_time
        )
        if stored_request.revision:
            await self._wait(stored_request, pod, end_time)
        return added._replace(endpoint=await self._bound_endpoint(binding_request))

    async def _end_earlier_binding(self, request: AddRequest, pod: PodFacts) -> None:
        """Hand over an earlier Pod's binding. Raises NotReady until the binding has ended."""
        binding = (await self._bindings.find(pod.endpoint_key)).binding
        if binding is None:
            return
        if not binding.is_ending:
            if _is_valid_for(binding.request, pod):
                return
            await self._confirm(request.pod)  # raises if the API server has no Pod with this UID
            await self._hand_over(pod, "superseded", f"Pod {pod.uid} requests addresses")
        raise _still_releasing_error(binding)

    async def _binding_request_of(self, endpoint: Endpoint, pod: PodFacts) -> BindingRequest:
        interfaces = tuple(nic.interface for nic in endpoint.nics if nic.interface and nic.ipv4)
        parent_macs = parent_macs_of(self._networks.nics(pod, interfaces))
        addresses = addresses_of(endpoint, parent_macs)
        claims = await read_revisions(self._store, self._keys, endpoint) if addresses else ()
        return BindingRequest(
            *endpoint.key, pod.name, endpoint.uid, endpoint.node, addresses, claims
        )

    async def _request_binding(
        self, binding_request: BindingRequest, pod: PodFacts, traceparent: str, end_time: float
    ) -> _StoredRequest:
        """Write the binding request for the controllers, unless the addresses are bound."""
        stored_binding = await self._bindings.find(binding_request.key)
        binding = stored_binding.binding
        if binding is not None:
            if not _address_set(binding.request) <= _address_set(binding_request):
                why = "the claimed addresses are not the addresses of the binding"
                await self._hand_over(pod, "unbound", why)
                raise _still_releasing_error(binding)
            if binding.is_ending:
                raise _still_releasing_error(binding)
            # A binding keeps its first Pod, even if a later Pod uses it (``_is_valid_for``).
            binding_request = binding_request._replace(
                uid=binding.request.uid, pod=binding.request.pod
            )
            if binding.state == "bound" and binding.request.covers(binding_request):
                return _StoredRequest(binding_request, revision=0)
        left_s = end_time - asyncio.get_running_loop().time() - ANSWER_RECORD_S
        deadline_ms = round((self._times.now_s() + left_s) * 1000)
        binding_request = binding_request._replace(deadline_ms=deadline_ms)
        ended_sandboxes = () if binding is None else binding.gone
        trace = tracing.outgoing_context(traceparent)
        new_binding = Binding(binding_request, "asked", gone=ended_sandboxes, trace=trace)
        revision = await self._bindings.write(stored_binding, new_binding)
        if not revision:
            raise LostRace(
                "another process changed the network provider's binding of Pod"
                f" {'/'.join(binding_request.key)} meanwhile",
                remedy="wait: kubelet repeats the ADD",
            )
        return _StoredRequest(binding_request, revision)

    async def _wait(self, stored_request: _StoredRequest, pod: PodFacts, end_time: float) -> None:
        binding_request = stored_request.binding_request
        try:
            async with (
                asyncio.timeout_at(end_time),
                aclosing(self._bindings.states(binding_request.key)) as states,
            ):
                async for binding in states:
                    if _is_bound(binding_request, binding):
                        return
        except (TimeoutError, Compacted) as error:
            why = f"the network provider did not bind the addresses within {self._times.bind_s:g} s"
            if isinstance(error, Compacted):
                why = "etcd compacted the changes of the binding before the agent read them"
            await self._hand_over(pod, "unbound", why)
            raise DeadlineExceeded(
                f"{why}; a binding that the provider may have made is being released",
                subject="/".join(binding_request.key),
                remedy="check that a controller is running: `orbctl status`; see"
                f" `orbctl workflow history {binding_request.workflow_id}`",
            ) from None

    async def _hand_over(self, pod: PodFacts, reason: ReleaseReason, why: str) -> None:
        """Hand over this Pod's addresses; for "superseded", the addresses of an earlier Pod."""

        def decide(endpoint: Endpoint) -> ReleaseDecision:
            is_ours = (endpoint.uid, endpoint.node) == (pod.uid, pod.node)
            ends = not is_ours if reason == "superseded" else is_ours
            return ReleaseDecision(ends=ends, why=why)

        await self._handover.hand_over(pod.endpoint_key, decide, reason, why)

    async def _bound_endpoint(self, binding_request: BindingRequest) -> Endpoint:
        """The endpoint with the MAC addresses and VLANs that the provider chose."""
        result = await self._store.read([Get(self._keys.endpoint(*binding_request.key))])
        kvs = result.ranges[0].kvs
        if not kvs:
            raise ProviderError(
                f"the addresses of {'/'.join(binding_request.key)} were released after the network"
                " provider had bound them",
                remedy=f"see `orbctl workflow history {binding_request.workflow_id}`",
            )
        return ENDPOINT_CODEC.decode(kvs[0].value)


def _is_valid_for(binding_request: BindingRequest, pod: PodFacts) -> bool:
    """Whether a binding is also valid for this Pod.

    A Pod with fixed addresses keeps the binding on its node. In a live migration, both Pods use the
    binding.
    """
    same_node = pod.fixed is not None and binding_request.node == pod.node
    return binding_request.uid == pod.uid or same_node or pod.migrating


def _address_set(binding_request: BindingRequest) -> set[str]:
    return {assigned.address for assigned in binding_request.addresses}


def _is_bound(binding_request: BindingRequest, binding: Binding | None) -> bool:
    """Raises ProviderError if the addresses are being released."""
    if binding is None or binding.is_ending:
        key = "/".join(binding_request.key)
        released = f"a release of the addresses of {key} ended the ADD"
        raise ProviderError(
            released if binding is None or binding.state != "failed" else binding.why,
            subject=binding_request.workflow_id,
            remedy=f"see `orbctl workflow history {binding_request.workflow_id}`",
        )
    return binding.state == "bound"


def _still_releasing_error(binding: Binding) -> NotReady:
    key, workflow_id = "/".join(binding.request.key), binding.request.workflow_id
    reason = f" ({binding.why})" if binding.why else ""
    return NotReady(
        f"earlier addresses of {key} are still being released by the network provider{reason}",
        subject=workflow_id,
        remedy=f"wait: the runtime tries again; see `orbctl workflow describe {workflow_id}`",
    )
