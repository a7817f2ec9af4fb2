"""Runs reclaim scripts on a scripted cluster, with real allocators on a memory store.

A line ``> COMMAND ARGUMENTS`` of ``scripts/*.txt`` calls the method ``COMMAND``. ``expect`` raises
an error, so a wrong outcome fails even with ``ORBWEAVER_REWRITE=1``.
"""

from __future__ import annotations

import asyncio
import shlex

from core.allocation.allocator import AllocatorSettings
from core.allocation.releaser import Releaser
from core.domain.configuration.commands import DeletePool
from core.domain.events import Cause
from core.domain.fixed.fixed_address_owners import StatefulSetState, VmiState, VmState
from core.domain.model import Claim, Endpoint, Nic
from core.domain.reclaim.decision_table import (
    PodDeadlines,
    ReclaimDeadline,
    VerdictContext,
    deadline_of,
)
from core.domain.reclaim.evidence import NodeState, Observation, ObservationSubject, PodState
from core.domain.reclaim.reclaim_plan import (
    KeptClaims,
    ReclaimPlan,
    ReclaimStep,
    check_deadline,
    plan_scan,
)
from core.domain.reclaim.settings import ReclaimSettings
from core.errors import OrbweaverError
from core.eventstore.codec import CLAIM_CODEC, ENDPOINT_CODEC
from core.eventstore.kv import Delete, Put
from core.eventstore.memory_store import MemoryStore
from tests.core.domain.reclaim.scripted_cluster import (
    ObservedPod,
    ScriptedCluster,
    facts_of,
    moment,
    owner_of,
    seconds,
    split,
)
from tests.support.node_harness import NodeHarness, check_everything
from tests.support.node_harness import pool as pool_of

CAUSE = Cause("reclaim-test")


class ReclaimHarness:
    """A scripted cluster and a store.

    ``agents``: allocators; a key is a node's name, ``operator`` or ``controller``.
    ``released``, ``kept``: what reclaim released or kept since the last scan began.
    """

    cluster_name = "test"

    def __init__(self) -> None:
        self.cluster = ScriptedCluster()
        self.store = MemoryStore(lambda: self.cluster.now_s)
        self.agents: dict[str, NodeHarness] = {}
        self._starting = asyncio.Lock()
        self.settings = ReclaimSettings()
        self.deadlines = PodDeadlines(self.settings.deadlines_max)
        self.observations: dict[ObservationSubject, Observation] = {}
        self.released: set[str] = set()
        self.kept: dict[str, str] = {}
        self.plans: list[ReclaimPlan] = []
        self.watching = True

    async def play(self, line: str) -> str:
        words = shlex.split(line)
        options = dict(word.split("=", 1) for word in words if "=" in word)
        arguments = [word for word in words if "=" not in word]
        command = arguments.pop(0)
        if command in ("delete", "remove", "lose", "ready"):
            command = f"{command}_{arguments.pop(0)}"
        try:
            answer: str = await getattr(self, command)(*arguments, **options)
        except OrbweaverError as error:
            answer = f"{type(error).__name__}: {error}"
        return answer

    # Pools, Nodes and owners

    async def pool(self, name: str, *ips: str) -> str:
        await (await self.agent("operator")).apply(pool_of(name, *ips))
        return ""

    async def remove_pool(self, name: str) -> str:
        await (await self.agent("operator")).apply(DeletePool(name))
        return ""

    async def node(self, *names: str) -> str:
        for name in names:
            self.cluster.nodes[name] = NodeState(name, ready=True)
        return ""

    async def lose_node(self, name: str) -> str:
        self.cluster.nodes[name] = NodeState(name, ready=False)
        return ""

    async def ready_node(self, name: str) -> str:
        return await self.node(name)

    async def remove_node(self, name: str) -> str:
        del self.cluster.nodes[name]
        return ""

    async def statefulset(self, path: str, *, replicas: str, start: str = "0") -> str:
        key = split(path)
        state = StatefulSetState(*key, int(replicas), int(start))
        self.cluster.stateful_sets[key] = state
        return ""

    async def remove_statefulset(self, path: str) -> str:
        del self.cluster.stateful_sets[split(path)]
        return ""

    async def vm(self, path: str, *, deleting: str = "no") -> str:
        key = split(path)
        self.cluster.vms[key] = VmState(*key, deleting=deleting == "yes")
        return ""

    async def remove_vm(self, path: str) -> str:
        del self.cluster.vms[split(path)]
        return ""

    async def vmi(self, path: str, *, deleting: str = "no", of_vm: str = "yes") -> str:
        key = split(path)
        self.cluster.vmis[key] = VmiState(*key, deleting=deleting == "yes", of_vm=of_vm == "yes")
        return ""

    async def remove_vmi(self, path: str) -> str:
        del self.cluster.vmis[split(path)]
        return ""

    # Pods

    async def pod(
        self,
        path: str,
        phase: str = "running",
        *,
        uid: str = "",
        node: str = "",
        owner: str = "",
        ips: str = "",
        add: str = "",
        reason: str = "",
        restart: str = "",
        finished: str = "",
    ) -> str:
        """Create or change a Pod. A new running Pod gets its addresses by an ADD, unless add=no.

        ``finished``: the time since the containers ended, such as ``5s``.
        """
        key = split(path)
        existing = self.cluster.pods.get(key)
        is_new = existing is None or bool(uid and existing.uid != uid)
        pod = PodState(*key, uid or f"uid-{key[1]}") if existing is None or is_new else existing
        pod = pod._replace(
            phase=phase.capitalize(),  # type: ignore[arg-type]  # scripts have no other phases
            node=node or pod.node or "n1",
            owner=owner_of(owner) or pod.owner,
            reason=reason or pod.reason,
            restart_policy=restart or pod.restart_policy,
        )
        if finished:
            pod = pod._replace(finished_s=(self.cluster.now_s - seconds(finished),))
        answer = ""
        if phase == "running" and is_new and add != "no":
            endpoint = await self._add(pod)
            addresses = tuple(address for address, _ in endpoint.addresses())
            pod = pod._replace(ips=addresses)
            answer = f"has {' '.join(addresses)}"
        if ips:
            pod = pod._replace(ips=() if ips == "none" else tuple(ips.split(",")))
        self._observe(self.cluster.set_pod(pod))
        return answer

    async def add(self, path: str) -> str:
        """Run an ADD for an existing Pod; do not change the Pod's status."""
        endpoint = await self._add(self.cluster.pods[split(path)])
        return f"has {' '.join(address for address, _ in endpoint.addresses())}"

    async def delete_pod(self, path: str, *, grace: str = "30s", how: str = "begin") -> str:
        """Delete a Pod.

        ``how``: ``begin`` sets the deletion timestamp; ``done`` runs a DEL first; ``lost`` runs no
        DEL; ``unseen`` runs no DEL and sends no watch event.
        """
        key = split(path)
        pod = self.cluster.pods[key]
        if how == "begin":
            grace_s = seconds(grace)
            self._observe(
                self.cluster.set_pod(
                    pod._replace(deletion_s=self.cluster.now_s + grace_s, deletion_grace_s=grace_s)
                )
            )
            return ""
        if how == "done":
            output = await self.cni_del(path)
            self._observe(self.cluster.drop_pod(key))
            return output
        event = self.cluster.drop_pod(key)
        if how == "lost":
            self._observe(event)
        return ""

    async def cni_del(self, path: str, *, uid: str = "") -> str:
        pod = self.cluster.pods[split(path)]
        pod = pod._replace(uid=uid or pod.uid)
        fixed = pod.fixed(self.settings)
        agent = await self.agent(pod.node)
        released = await agent.delete(facts_of(pod, fixed))
        return f"DEL released {' '.join(released.addresses) or 'nothing'}"

    # Reclaim

    async def setting(self, **fields: str) -> str:
        values = {name: text == "yes" for name, text in fields.items()}
        self.settings = self.settings._replace(**values)
        return ""

    async def listing(self, how: str) -> str:
        self.cluster.listing = how
        return ""

    async def watch(self, how: str) -> str:
        """Observe watch events (``on``) or ignore watch events (``off``)."""
        self.watching = how == "on"
        return ""

    async def restart(self) -> str:
        """Restart the controller: forget deadlines and observations."""
        self.deadlines = PodDeadlines(self.settings.deadlines_max)
        self.observations = {}
        return ""

    async def tick(self, text: str) -> str:
        lines: list[str] = []
        for _ in self.cluster.advance(text):
            for deadline in self.deadlines.due(self.cluster.now_s):
                lines += await self._check_deadline(deadline)
        return "\n".join(lines)

    async def scan(self) -> str:
        self.released, self.kept = set(), {}
        plan = await self._plan()
        lines: list[str] = []
        for step in plan.steps:
            lines += await self._carry_out(step)
        lines += [self._note_kept(claims) for claims in plan.kept]
        for deadline in plan.deadlines:
            await self._start_deadline(deadline)
        return "\n".join(sorted(lines))

    async def plan(self) -> str:
        """Plan a scan, for a later ``carry_out``."""
        planned = await self._plan()
        self.plans.append(planned)
        return "\n".join(f"would release {' '.join(step.addresses)}" for step in planned.steps)

    async def carry_out(self) -> str:
        lines: list[str] = []
        for step in self.plans.pop().steps:
            lines += await self._carry_out(step)
        return "\n".join(lines)

    async def expect(self, outcome: str, address: str) -> str:
        """Assert the outcome for ``address`` since the last scan began.

        ``kept``: reclaim has checked and kept the claim.
        ``held``: the address is claimed; reclaim may have checked the claim or not.
        """
        is_claimed = address in (await (await self.agent("operator")).read_ledger()).claims
        assert is_claimed == (outcome != "released"), (outcome, address)
        addresses = {"released": self.released, "kept": self.kept, "held": {address}}[outcome]
        assert address in addresses, (outcome, address, addresses)
        return ""

    async def claims(self) -> str:
        ledger = await (await self.agent("operator")).read_ledger()
        lines = [f"{ip} {revised.claim.holder}" for ip, revised in sorted(ledger.claims.items())]
        lines += [
            f"{'/'.join(key)} uid={endpoint.uid}" for key, endpoint in ledger.endpoints.items()
        ]
        return "\n".join(lines) or "none"

    async def check(self) -> str:
        """Assert the invariants of the log, and that a replay gives the stored state."""
        await check_everything(await self.agent("operator"))
        return ""

    # Inconsistent state that no service writes

    async def dirty_claim(self, address: str, path: str, *, holder: str) -> str:
        keys = (await self.agent("operator")).keys
        namespace, name = split(path)
        claim = Claim(pool="main", holder=holder, namespace=namespace, pod=name, event="dirty.0.0")
        await self.store.commit([], [Put(keys.ip_of(address), CLAIM_CODEC.encode(claim))])
        return ""

    async def dirty_endpoint(self, path: str, *addresses: str, uid: str, pool: str = "") -> str:
        keys = (await self.agent("operator")).keys
        nics = tuple(
            Nic(f"eth{number}", ipv4=f"{ip}/16", ipv4_pool=pool)
            for number, ip in enumerate(addresses)
        )
        namespace, name = split(path)
        endpoint = Endpoint(
            namespace,
            name,
            uid,
            "n1",
            holder=f"pod/{uid}",
            owner_kind="Pod",
            owner_name="x",
            nics=nics,
        )
        await self.store.commit(
            [], [Put(keys.endpoint(*endpoint.key), ENDPOINT_CODEC.encode(endpoint))]
        )
        return ""

    async def dirty_uid(self, path: str, *, uid: str, holder: str = "") -> str:
        """Set the UID of an endpoint; leave the claims unchanged."""
        agent = await self.agent("operator")
        endpoint = (await agent.read_ledger()).endpoints[split(path)]
        endpoint = endpoint._replace(uid=uid, holder=holder or f"pod/{uid}")
        key = agent.keys.endpoint(*endpoint.key)
        await self.store.commit([], [Put(key, ENDPOINT_CODEC.encode(endpoint))])
        return ""

    async def lose_claim(self, address: str) -> str:
        keys = (await self.agent("operator")).keys
        await self.store.commit([], [Delete(keys.ip_of(address))])
        return ""

    # Helpers

    async def agent(self, name: str) -> NodeHarness:
        """The allocator with this name, started if missing, with a fresh view."""
        async with self._starting:  # concurrent commands must not start the same agent twice
            if name not in self.agents:
                self.agents[name] = await self._new_agent(name).__aenter__()
        await self.agents[name].view.freshen()
        return self.agents[name]

    def _new_agent(self, name: str) -> NodeHarness:
        settings = AllocatorSettings(order="sequential")
        return NodeHarness(
            self.store, name, cluster=self.cluster_name, settings=settings, cool_down_s=0
        )

    async def close(self) -> None:
        for agent in self.agents.values():
            await agent.__aexit__(None, None, None)

    async def _add(self, pod: PodState) -> Endpoint:
        agent = await self.agent(pod.node)
        return (await agent.add(facts_of(pod, pod.fixed(self.settings)))).endpoint

    def _observe(self, event: ObservedPod) -> None:
        if not self.watching:
            return
        now = moment(self.cluster.now_s)
        facts = self.cluster.snapshot(now)
        deadline = deadline_of(event.pod, facts, self.settings, now, deleted=event.report)
        if isinstance(deadline, ReclaimDeadline):
            self.deadlines.put(deadline)
        elif event.pod.is_living:
            self.deadlines.forget(event.pod.uid)

    async def _verdict_context(self) -> VerdictContext:
        now_s = self.cluster.now_s
        return VerdictContext(self.cluster.snapshot(moment(now_s)), self.settings, now_s)

    async def _plan(self) -> ReclaimPlan:
        ledger = await (await self.agent("operator")).read_ledger()
        plan = plan_scan(ledger, await self._verdict_context(), before=self.observations)
        self.observations = plan.observations
        return plan

    async def _start_deadline(self, deadline: ReclaimDeadline) -> None:
        self.deadlines.put(deadline)

    async def _check_deadline(self, deadline: ReclaimDeadline) -> list[str]:
        ledger = await (await self.agent("operator")).read_ledger()
        decision = check_deadline(deadline, ledger, await self._verdict_context())
        if isinstance(decision, ReclaimStep):
            self.deadlines.forget(deadline.uid)
            return await self._carry_out(decision)
        if isinstance(decision, KeptClaims) and decision.until_s > self.cluster.now_s:
            return []
        self.deadlines.forget(deadline.uid)
        return [] if decision is None else [self._note_kept(decision)]

    async def _carry_out(self, step: ReclaimStep) -> list[str]:
        agent = await self.agent("controller")
        releaser = Releaser(self.store, agent.keys, agent.writer, agent.cooldown)
        result = await releaser.reclaim(step, CAUSE)
        self.released |= set(result.addresses)
        path = "/".join(step.key)
        if not result.revision:
            return [f"skipped {path}: {result.why}"]
        return [f"released {' '.join(result.addresses) or '-'} of {path}, {step.evidence}"]

    def _note_kept(self, claims: KeptClaims) -> str:
        self.kept |= dict.fromkeys(claims.addresses, claims.why)
        return f"kept {' '.join(claims.addresses) or '-'} of {'/'.join(claims.key)}: {claims.why}"
