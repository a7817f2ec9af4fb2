"""The idempotent activities of a provider binding: requests to the provider, writes to etcd."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, NamedTuple

from core.allocation.bindings import BindingRequest, BindingStore
from core.allocation.cooldown import COOL_DOWN_S, CoolDown
from core.allocation.provider_choices import ProviderChoice, record_choices
from core.allocation.releaser import EndpointWriter, Releaser
from core.domain.events import ReleaseReason
from core.domain.provider.provider_nics import ProviderAddress
from core.errors import StoreError
from core.eventstore.codec import EventDraft
from core.eventstore.group_commit import Committed, Proposal
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from core.process import tracing
from core.process.tracing import TraceContext
from workflows.api import activity
from workflows.jobs.provider.client import (
    ProviderAllocateRequest,
    ProviderClient,
    ProviderReleaseRequest,
    RequestedAddress,
)
from workflows.jobs.shard_writers import ShardWriters


class ProviderRelease(NamedTuple):
    """The reason to release the addresses of ``request``, with evidence."""

    request: BindingRequest
    reason: ReleaseReason
    evidence: str


class ProviderBinding(NamedTuple):
    """One bound address. ``mac`` "" or ``vlan`` 0: the provider chose none."""

    address: str
    mac: str = ""
    vlan: int = 0


class ProviderResult(NamedTuple):
    """The result of an execution: bound addresses, or ``why`` there are none."""

    bound: tuple[ProviderBinding, ...]
    why: str = ""


class ProviderActivities:
    """The activities of a provider binding."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        writers: ShardWriters,
        provider: ProviderClient,
        *,
        cool_down_s: int = COOL_DOWN_S,
    ) -> None:
        self._store = store
        self._keys = keys
        self._provider = provider
        self._cooldown = CoolDown(store, cool_down_s)
        self._writers = writers
        self._bindings = BindingStore(store, keys)

    @property
    def all(self) -> tuple[Callable[..., Any], ...]:
        """All activities."""
        return self.allocate, self.release, self.record, self.report_failure, self.release_claims

    async def close(self) -> None:
        """Close the connections to the provider."""
        await self._provider.close()

    @activity.defn(name="allocate-ips")
    async def allocate(self, request: BindingRequest) -> list[ProviderBinding]:
        """Bind all addresses of a request, or none. Raises as ``ProviderClient.allocate``."""
        await self._note_begin(request, "asked")
        addresses = tuple(
            RequestedAddress(address.address, address.subnet, address.parent_mac)
            for address in request.addresses
        )
        allocate_request = ProviderAllocateRequest(
            request.pod, request.namespace, request.node, addresses, request.uid
        )
        with tracing.within(await self._baggage_of(request)):
            bound = await self._provider.allocate(
                allocate_request, deadline_s=request.deadline_ms / 1000
            )
        return [
            ProviderBinding(address.ip_address, address.mac_address, address.vlan_id)
            for address in bound
        ]

    async def _baggage_of(self, request: BindingRequest) -> TraceContext:
        if tracing.current_tracer() is None:
            return TraceContext()
        binding = (await self._bindings.find(request.key)).binding
        return TraceContext(baggage=binding.trace.baggage) if binding else TraceContext()

    @activity.defn(name="release-ip")
    async def release(self, request: BindingRequest, bound: ProviderAddress) -> None:
        """Release one address at the provider, unless a later claim has the address.

        Raises ProviderError, StoreUnavailable.
        """
        get = Get(self._keys.ip_of(bound.address))
        claim = (await self._store.read([get])).ranges[0].kvs
        if claim and (bound.address, claim[0].mod_revision) not in request.claims:
            return
        if bound == request.addresses[0]:  # one event for all addresses
            binding = (await self._bindings.find(request.key)).binding
            await self._note_begin(request, "returning", binding.why if binding else "")
        release_request = ProviderReleaseRequest(
            request.pod,
            request.namespace,
            request.node,
            bound.subnet,
            bound.address,
            request.uid,
            bound.parent_mac,
        )
        await self._provider.release(release_request)

    @activity.defn(name="record-bound")
    async def record(self, request: BindingRequest, bound: list[ProviderBinding]) -> bool:
        """Record MAC addresses and VLANs in the endpoint. False if the claims have ended."""
        choices = {address.address: ProviderChoice(address.mac, address.vlan) for address in bound}
        async with self._writers.current_writer() as (writer, cause):
            endpoints = EndpointWriter(self._store, self._keys, writer, self._cooldown)
            recorded = await record_choices(endpoints, request.key, request.claims, choices, cause)
        if recorded:
            await self._write_state(request, "bound", why="")
        return recorded

    @activity.defn(name="tell-failure")
    async def report_failure(self, request: BindingRequest, why: str) -> None:
        """Report to the agent that binding failed."""
        await self._write_state(request, "failed", why)

    @activity.defn(name="release-claims")
    async def release_claims(self, release: ProviderRelease) -> tuple[str, ...]:
        """Release the remaining claims, delete the binding, return the released addresses."""
        request = release.request
        async with self._writers.current_writer() as (writer, cause):
            releaser = Releaser(self._store, self._keys, writer, self._cooldown)
            done = await releaser.end_claims(
                request.key, request.claims, release.reason, release.evidence, cause
            )
            while (stored := await self._bindings.find(request.key)).binding is not None:
                if stored.binding.request.uid != request.uid:  # the binding of a later Pod
                    break
                event = request.event("released", release.evidence)
                draft = EventDraft(writer.event_id(), cause, event)
                ended = await writer.append(
                    self._bindings.proposal(stored, binding=None, draft=draft)
                )
                if isinstance(ended, Committed):
                    break
        return done.addresses

    async def _note_begin(self, request: BindingRequest, state: str, why: str = "") -> None:
        """Append an event in the first attempt of an activity. Ignores failures of the store."""
        if activity.info().attempt > 1:
            return
        with suppress(StoreError):
            async with self._writers.current_writer() as (writer, cause):
                draft = EventDraft(writer.event_id(), cause, request.event(state, why))
                await writer.append(Proposal((draft,), guards=(), writes=()))

    async def _write_state(
        self, request: BindingRequest, state: Literal["bound", "failed"], why: str
    ) -> None:
        """Write the state of the binding, unless the agent has changed the request."""
        async with self._writers.current_writer() as (writer, cause):
            while (stored := await self._bindings.find(request.key)).binding is not None:
                binding = stored.binding
                if binding.state != "asked" or not request.covers(binding.request):
                    return
                draft = EventDraft(writer.event_id(), cause, request.event(state, why))
                changed = binding._replace(state=state, why=why)
                outcome = await writer.append(self._bindings.proposal(stored, changed, draft))
                if isinstance(outcome, Committed):
                    return
