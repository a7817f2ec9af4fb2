"""A ``ReclaimHarness`` with script commands for fixed addresses."""

from __future__ import annotations

from core.domain.events import AddressesReleased
from core.domain.fixed.fixed_address_owners import OwnerLookup, kind_of_holder
from core.domain.fixed.owner_validity import Validity, validity_of
from core.domain.model import Endpoint
from core.domain.reclaim.evidence import PodState
from core.domain.request_facts import PodFacts
from core.errors import OrbweaverError
from core.eventstore.kv import KeyValueStore
from tests.core.domain.reclaim.reclaim_harness import ReclaimHarness
from tests.core.domain.reclaim.scripted_cluster import facts_of, moment, split
from tests.support.cluster_snapshot import ClusterSnapshot, ListedObjects
from tests.support.node_harness import pool as pool_of

IPPOOL = "ipam.spidernet.io/ippool"
IPPOOLS = "ipam.spidernet.io/ippools"
NO_OWNERS = ClusterSnapshot(ListedObjects(), {}, moment(0))


class FixedAddressHarness(ReclaimHarness):
    """A cluster in which owners have Pod templates.

    In commands, ``path`` is the ``namespace/name`` of a Pod, and ``box`` is the id of its
    sandbox.
    """

    def __init__(self, store: KeyValueStore | None = None, cluster: str = "test") -> None:
        super().__init__()
        self.cluster_name = cluster
        if store is not None:
            self.store = store  # type: ignore[assignment]  # only the memory store has a clock
        self.annotations_by_owner: dict[str, dict[str, str]] = {}
        self.migration_target_uids: set[str] = set()
        self.cached_owners: OwnerLookup | None = None
        """The owners in the agent's cache; None if the cache is current."""

    # Commands of scripts

    async def pool(self, name: str, *ips: str, **options: str) -> str:
        desired = pool_of(name, *ips, default=options.get("default", "yes") == "yes")
        disabled = options.get("disabled", "no") == "yes"
        await (await self.agent("operator")).apply(desired._replace(disabled=disabled))
        return ""

    async def template(self, owner: str, *, pool: str = "", pools: str = "") -> str:
        """Set the annotations of the owner's Pods."""
        annotations = {IPPOOL: pool, IPPOOLS: pools}
        self.annotations_by_owner[owner] = {
            name: text for name, text in annotations.items() if text
        }
        return ""

    async def migration(self, uid: str) -> str:
        self.migration_target_uids.add(uid)
        return ""

    async def agent_cache(self, state: str) -> str:
        """Set the agent's cache of owners: ``empty``, ``frozen`` at this time, or ``current``."""
        now = self.cluster.snapshot(moment(self.cluster.now_s))
        self.cached_owners = {"empty": NO_OWNERS, "frozen": now, "current": None}[state]
        return ""

    async def cni_add(self, path: str, interface: str = "eth0", *, box: str = "") -> str:
        pod = self.cluster.pods[split(path)]
        agent = await self.agent(pod.node)
        added = await agent.add(self.facts(pod), interface, container=box)
        result = "claimed" if added.fresh else "has"
        return f"{result} {_nics(added.endpoint)}"

    async def cni_del(
        self, path: str, interface: str = "eth0", *, uid: str = "", box: str = ""
    ) -> str:
        pod = self.cluster.pods[split(path)]
        facts = self.facts(pod._replace(uid=uid or pod.uid))
        agent = await self.agent(pod.node)
        released = await agent.delete(facts, interface, container=box, validity_of=self.validity)
        return f"DEL released {' '.join(released.addresses) or 'nothing'}: {released.why}"

    async def endpoint(self, path: str) -> str:
        endpoint = (await (await self.agent("operator")).read_ledger()).endpoints.get(split(path))
        if endpoint is None:
            return "none"
        return f"{endpoint.holder} uid={endpoint.uid} node={endpoint.node} {_nics(endpoint)}"

    async def last_release(self) -> str:
        events = [recorded.event for recorded in await (await self.agent("operator")).log()]
        releases = [event for event in events if isinstance(event, AddressesReleased)]
        return f"{releases[-1].reason}: {releases[-1].evidence}"

    async def try_add(self, path: str, interface: str = "eth0") -> str:
        try:
            return await self.cni_add(path, interface)
        except OrbweaverError as error:
            return f"{type(error).__name__}: {error.message}"

    # Helpers

    async def _add(self, pod: PodState) -> Endpoint:
        agent = await self.agent(pod.node)
        return (await agent.add(self.facts(pod))).endpoint

    def facts(self, pod: PodState) -> PodFacts:
        annotations = self.annotations_by_owner.get(pod.owner.name, {}) if pod.owner else {}
        facts = facts_of(pod, pod.fixed(self.settings))
        return facts._replace(
            annotations=annotations, migrating=pod.uid in self.migration_target_uids
        )

    def validity(self, endpoint: Endpoint) -> Validity | None:
        """Return None for a holder without a fixed address."""
        kind = kind_of_holder(endpoint.holder, self.settings)
        if kind is None:
            return None
        owners = self.cached_owners or self.cluster.snapshot(moment(self.cluster.now_s))
        return validity_of(kind, *endpoint.key, owners)


def _nics(endpoint: Endpoint) -> str:
    return ", ".join(
        f"{nic.interface or '(unnamed)'} {' '.join(filter(None, (nic.ipv4, nic.ipv6)))}"
        for nic in endpoint.nics
    )
