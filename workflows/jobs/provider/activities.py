"""The activities of external binding: calls of the provider, and entries in our books.

Each may be made twice and changes nothing the second time: the provider's calls name addresses, the
entries name claims by their revision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from core.allocation.bindings import BindingRequest, Bindings
from core.allocation.claim_releases import end_claims
from core.allocation.cooldown import COOL_DOWN_S, CoolDown
from core.allocation.endpoint_writer import EndpointWriter
from core.allocation.provider_choices import ProviderChoice, record_choices
from core.allocation.releaser import Releaser
from core.domain.provider.provider_nics import ProviderAddress
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from workflows.api import activity
from workflows.jobs.provider.client import ProviderClient
from workflows.jobs.provider.values import ProviderBinding, ProviderRelease
from workflows.jobs.provider.wire import (
    ProviderAllocateRequest,
    ProviderReleaseRequest,
    RequestedAddress,
)
from workflows.jobs.writers import ShardWriters


class ExternalActivities:
    """One controller's."""

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
        self._bindings = Bindings(store, keys)

    @property
    def all(self) -> tuple[Callable[..., Any], ...]:
        """What a registry needs."""
        return self.allocate, self.release, self.record, self.tell, self.end

    async def close(self) -> None:
        """Close the connections to the provider."""
        await self._provider.close()

    @activity.defn(name="allocate-ips")
    async def allocate(self, order: BindingRequest) -> list[ProviderBinding]:
        """Bind all addresses of an order, or fail."""
        asked = tuple(
            RequestedAddress(one.address, one.subnet, one.parent_mac) for one in order.addresses
        )
        request = ProviderAllocateRequest(order.pod, order.namespace, order.node, asked, order.uid)
        found = await self._provider.allocate(request, deadline_s=order.deadline_ms / 1000)
        return [ProviderBinding(one.ip_address, one.mac_address, one.vlan_id) for one in found]

    @activity.defn(name="release-ip")
    async def release(self, order: BindingRequest, one: ProviderAddress) -> None:
        """Return when the address is not bound any more.

        The provider knows nothing of claims: an address that another claim has by now is that
        claim's to bind, and is left alone. Raises ProviderError, StoreUnavailable.
        """
        found = (await self._store.read([Get(self._keys.ip_of(one.address))])).ranges[0].kvs
        if found and (one.address, found[0].mod_revision) not in order.claims:
            return
        request = ProviderReleaseRequest(
            order.pod,
            order.namespace,
            order.node,
            one.subnet,
            one.address,
            order.uid,
            one.parent_mac,
        )
        await self._provider.release(request)

    @activity.defn(name="record-bound")
    async def record(self, order: BindingRequest, bound: list[ProviderBinding]) -> bool:
        """Put what the provider chose into the endpoint; False: its claims have ended."""
        choices = {one.address: ProviderChoice(one.mac, one.vlan) for one in bound}
        async with self._writers.borrowed() as (writer, cause):
            endpoints = EndpointWriter(self._store, self._keys, writer, self._cooldown)
            recorded = await record_choices(endpoints, order.key, order.claims, choices, cause)
        if recorded:
            await self._settle(order, "bound", "")
        return recorded

    @activity.defn(name="tell-failure")
    async def tell(self, order: BindingRequest, why: str) -> None:
        """Let whoever waits hear that it will not be bound; it is not taken back yet."""
        await self._settle(order, "failed", why)

    @activity.defn(name="release-claims")
    async def end(self, back: ProviderRelease) -> tuple[str, ...]:
        """End our claims; those that have ended are left alone."""
        order = back.order
        async with self._writers.borrowed() as (writer, cause):
            releaser = Releaser(self._store, self._keys, writer, self._cooldown)
            done = await end_claims(
                releaser, order.key, order.claims, back.reason, back.evidence, cause
            )
        while (found := await self._bindings.find(order.key)).binding is not None:
            if found.binding.order.uid != order.uid:
                break
            if await self._bindings.remove(order.key, found):
                break
        return done.addresses

    async def _settle(
        self, order: BindingRequest, state: Literal["bound", "failed"], why: str
    ) -> None:
        """Answer the agent, unless it asks for more by now, or wants it back."""
        while (found := await self._bindings.find(order.key)).binding is not None:
            binding = found.binding
            if binding.state != "asked" or not order.covers(binding.order):
                return
            if await self._bindings.write(found, binding._replace(state=state, why=why)):
                return
