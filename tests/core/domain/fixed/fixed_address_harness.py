"""Runs scripts about fixed addresses: templates, several NICs, DELs with facts about owners.

The scripted cluster, its nodes and the reclaimer are those of ``tests/core/domain/reclaim``; the
decisions are the real code. A DEL depends on the owners in the agent's cache: ``agents_see nobody``
empties the cache, and ``agents_see past`` freezes it.
"""

from __future__ import annotations

from core.allocation.allocator import AllocatorSettings
from core.domain.facts import PodFacts
from core.domain.fixed.owners import OwnerFacts, kind_of_holder
from core.domain.fixed.validity import Validity, validity_of
from core.domain.model import Endpoint
from core.domain.reclaim.cluster import PodState
from core.errors import OrbweaverError
from core.eventstore.kv import KeyValueStore
from tests.core.domain.reclaim.reclaim_harness import ReclaimHarness
from tests.core.domain.reclaim.scripted_cluster import facts_of, moment, split
from tests.support.cluster_snapshot import ClusterSnapshot, ListedObjects
from tests.support.node_harness import NodeHarness, pool

IPPOOL = "ipam.spidernet.io/ippool"
IPPOOLS = "ipam.spidernet.io/ippools"
NOBODY = ClusterSnapshot(ListedObjects(), {}, moment(0))


class FixedAddressHarness(ReclaimHarness):
    """A cluster whose Pods have templates."""

    def __init__(self, store: KeyValueStore | None = None, cluster: str = "test") -> None:
        super().__init__()
        self.keys_of = cluster
        if store is not None:
            self.store = store  # type: ignore[assignment]  # scripts about memory itself are elsewhere
        self.templates: dict[str, dict[str, str]] = {}
        self.targets: set[str] = set()
        """UIDs of the target launchers of live migrations."""
        self.seen: OwnerFacts | None = None

    async def pool(self, name: str, *ips: str, **more: str) -> str:
        wish = pool(name, *ips, default=more.get("default", "yes") == "yes")
        disabled = more.get("disabled", "no") == "yes"
        await (await self.agent("operator")).apply(wish._replace(disabled=disabled))
        return ""

    async def template(self, owner: str, *, pool: str = "", pools: str = "") -> str:
        """The annotations of its Pods: ``ippool``, or ``ippools`` for several NICs."""
        said = {IPPOOL: pool, IPPOOLS: pools}
        self.templates[owner] = {name: text for name, text in said.items() if text}
        return ""

    async def migration(self, uid: str) -> str:
        """Mark the launcher with this UID as the target of a migration."""
        self.targets.add(uid)
        return ""

    async def agents_see(self, what: str) -> str:
        """Set the agent's cache: empty (``nobody``), frozen now (``past``), or the ``cluster``."""
        now = self.cluster.snapshot(moment(self.cluster.now_s))
        self.seen = {"nobody": NOBODY, "past": now, "cluster": None}[what]
        return ""

    async def cni_add(self, path: str, interface: str = "eth0", *, box: str = "") -> str:
        pod = self.cluster.pods[split(path)]
        agent = await self.agent(pod.node)
        added = await agent.add(self.facts(pod), interface, container=box)
        verb = "claimed" if added.fresh else "has"
        return f"{verb} {_nics(added.endpoint)}"

    async def cni_del(
        self, path: str, interface: str = "eth0", *, uid: str = "", box: str = ""
    ) -> str:
        pod = self.cluster.pods[split(path)]
        facts = self.facts(pod._replace(uid=uid or pod.uid))
        agent = await self.agent(pod.node)
        done = await agent.delete(facts, interface, container=box, wanted=self.wanted)
        return f"DEL released {' '.join(done.addresses) or 'nothing'}: {done.why}"

    async def endpoint(self, path: str) -> str:
        endpoint = (await (await self.agent("operator")).truth()).endpoints.get(split(path))
        if endpoint is None:
            return "none"
        return f"{endpoint.holder} uid={endpoint.uid} node={endpoint.node} {_nics(endpoint)}"

    async def last_release(self) -> str:
        """Reason and evidence of the newest release in the log."""
        events = [one.event for one in await (await self.agent("operator")).log()]
        last = next(one for one in reversed(events) if type(one).__name__ == "AddressesReleased")
        return f"{last.reason}: {last.evidence}"  # type: ignore[union-attr]  # of that name

    async def try_add(self, path: str, interface: str = "eth0") -> str:
        """Run an ADD; return the first line of its error if it fails."""
        try:
            return await self.cni_add(path, interface)
        except OrbweaverError as error:
            return f"{type(error).__name__}: {error.message}"

    async def agent(self, name: str) -> NodeHarness:
        if name not in self.agents:
            order = AllocatorSettings(order="sequential")
            node = NodeHarness(
                self.store, name, cluster=self.keys_of, settings=order, cool_down_s=0
            )
            self.agents[name] = await node.__aenter__()
        await self.agents[name].view.freshen()
        return self.agents[name]

    async def _add(self, pod: PodState) -> Endpoint:
        agent = await self.agent(pod.node)
        return (await agent.add(self.facts(pod))).endpoint

    def facts(self, pod: PodState) -> PodFacts:
        """The Pod in the agent's cache."""
        notes = self.templates.get(pod.owner.name, {}) if pod.owner else {}
        facts = facts_of(pod, pod.fixed(self.settings))
        return facts._replace(annotations=notes, migrating=pod.uid in self.targets)

    def wanted(self, endpoint: Endpoint) -> Validity | None:
        """The agent's decision about the holder."""
        kind = kind_of_holder(endpoint.holder, self.settings)
        if kind is None:
            return None
        owners = self.seen or self.cluster.snapshot(moment(self.cluster.now_s))
        return validity_of(kind, *endpoint.key, owners)


def _nics(endpoint: Endpoint) -> str:
    return ", ".join(
        f"{nic.interface or '(open)'} {' '.join(filter(None, (nic.ipv4, nic.ipv6)))}"
        for nic in endpoint.nics
    )
