"""Runs scripts about reclaim: the scripted cluster, real nodes on a memory store, the reclaimer.

Each method is a command of ``scripts/*.txt``. ``expect`` raises, so that expectations hold when
outputs are rewritten.
"""

from __future__ import annotations

import shlex

from core.allocation.allocator import AllocatorSettings
from core.allocation.releaser import Releaser
from core.domain.configuration.commands import DeletePool
from core.domain.events import Cause
from core.domain.fixed.owners import StatefulSetState, VmiState, VmState
from core.domain.model import Claim, Endpoint, Nic
from core.domain.reclaim.cluster import NodeState, PodState
from core.domain.reclaim.deadlines import ReclaimDeadline, ReclaimDeadlines, deadline_of
from core.domain.reclaim.decision_table import Rules
from core.domain.reclaim.evidence import Observation, ObservationSubject
from core.domain.reclaim.reclaim_plan import (
    KeptClaims,
    ReclaimPlan,
    ReclaimStep,
    plan_scan,
    resolve,
)
from core.domain.reclaim.settings import ReclaimSettings
from core.errors import OrbweaverError
from core.eventstore.codec import CLAIM, ENDPOINT
from core.eventstore.kv import Delete, Put
from core.eventstore.memory import MemoryStore
from tests.core.domain.reclaim.scripted_cluster import (
    ObservedPod,
    ScriptedCluster,
    facts_of,
    moment,
    owner_of,
    seconds,
    split,
)
from tests.support.node_harness import NodeHarness, check_everything, pool

CAUSE = Cause("reclaim-test")


class ReclaimHarness:
    """A scripted cluster and a store."""

    def __init__(self) -> None:
        self.cluster = ScriptedCluster()
        self.store = MemoryStore(lambda: self.cluster.now_s)
        self.agents: dict[str, NodeHarness] = {}
        self.settings = ReclaimSettings()
        self.book = ReclaimDeadlines(self.settings.traces_max)
        self.sightings: dict[ObservationSubject, Observation] = {}
        self.released: set[str] = set()
        self.kept: dict[str, str] = {}
        self.plans: list[ReclaimPlan] = []
        self.watching = True

    async def play(self, line: str) -> str:
        words = shlex.split(line)
        options = dict(word.split("=", 1) for word in words if "=" in word)
        rest = [word for word in words if "=" not in word]
        verb = rest.pop(0)
        if verb in ("delete", "remove", "lose", "ready"):
            verb = f"{verb}_{rest.pop(0)}"
        try:
            answer: str = await getattr(self, verb)(*rest, **options)
        except OrbweaverError as error:
            answer = f"{type(error).__name__}: {error}"
        return answer

    # The cluster

    async def pool(self, name: str, *ips: str) -> str:
        await (await self.agent("operator")).apply(pool(name, *ips))
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
        """Create or change a Pod. A new running Pod gets its addresses by an ADD, unless add=no."""
        key = split(path)
        old = self.cluster.pods.get(key)
        fresh = old is None or bool(uid and old.uid != uid)
        made = PodState(*key, uid or f"uid-{key[1]}") if old is None or fresh else old
        made = made._replace(
            phase=phase.capitalize(),  # type: ignore[arg-type]  # a script says nothing else
            node=node or made.node or "n1",
            owner=owner_of(owner) or made.owner,
            reason=reason or made.reason,
            restart_policy=restart or made.restart_policy,
        )
        if finished:
            made = made._replace(finished_s=(self.cluster.now_s - seconds(finished),))
        answer = ""
        if phase == "running" and fresh and add != "no":
            endpoint = await self._add(made)
            shown = tuple(address for address, _ in endpoint.addresses())
            made = made._replace(ips=shown)
            answer = f"has {' '.join(shown)}"
        if ips:
            made = made._replace(ips=() if ips == "none" else tuple(ips.split(",")))
        self._hear(self.cluster.set_pod(made))
        return answer

    async def add(self, path: str) -> str:
        """Run an ADD; the status of the Pod does not show the addresses yet."""
        endpoint = await self._add(self.cluster.pods[split(path)])
        return f"has {' '.join(address for address, _ in endpoint.addresses())}"

    async def delete_pod(self, path: str, *, grace: str = "30s", how: str = "begin") -> str:
        """Delete a Pod: begin, after its DEL (done), without DEL (lost) or event (unseen)."""
        key = split(path)
        pod = self.cluster.pods[key]
        if how == "begin":
            wait = seconds(grace)
            self._hear(
                self.cluster.set_pod(
                    pod._replace(deletion_s=self.cluster.now_s + wait, deletion_grace_s=wait)
                )
            )
            return ""
        if how == "done":
            done = await self.cni_del(path)
            self._hear(self.cluster.drop_pod(key))
            return done
        news = self.cluster.drop_pod(key)
        if how == "lost":
            self._hear(news)
        return ""

    async def cni_del(self, path: str, *, uid: str = "") -> str:
        pod = self.cluster.pods[split(path)]
        pod = pod._replace(uid=uid or pod.uid)
        fixed = pod.fixed(self.settings)
        agent = await self.agent(pod.node)
        released = await agent.delete(facts_of(pod, fixed))
        return f"DEL released {' '.join(released.addresses) or 'nothing'}"

    # Reclaiming

    async def setting(self, **fields: str) -> str:
        values = {name: text == "yes" for name, text in fields.items()}
        self.settings = self.settings._replace(**values)
        return ""

    async def listing(self, how: str) -> str:
        self.cluster.listing = how
        return ""

    async def watch(self, how: str) -> str:
        self.watching = how == "on"
        return ""

    async def restart(self) -> str:
        """Another controller takes over, without the memory of the old one."""
        self.book = ReclaimDeadlines(self.settings.traces_max)
        self.sightings = {}
        return ""

    async def tick(self, text: str) -> str:
        said: list[str] = []
        for _ in self.cluster.lasting(text):
            for one in self.book.due(self.cluster.now_s):
                said += await self._resolve(one)
        return "\n".join(said)

    async def scan(self) -> str:
        self.released, self.kept = set(), {}
        plan = await self._plan()
        said: list[str] = []
        for step in plan.steps:
            said += await self._carry_out(step)
        said += [self._keep(one) for one in plan.kept]
        for one in plan.traces:
            await self._follow(one)
        return "\n".join(sorted(said))

    async def judge(self) -> str:
        """Keep the plan, to carry it out later."""
        plan = await self._plan()
        self.plans.append(plan)
        return "\n".join(f"would release {' '.join(step.addresses)}" for step in plan.steps)

    async def carry_out(self) -> str:
        said: list[str] = []
        for step in self.plans.pop().steps:
            said += await self._carry_out(step)
        return "\n".join(said)

    async def expect(self, what: str, address: str) -> str:
        """Assert that the last command ``released`` or ``kept`` it, or that it is ``held``."""
        held = address in (await (await self.agent("operator")).truth()).claims
        assert held == (what != "released"), (what, address)
        done = {"released": self.released, "kept": self.kept, "held": {address}}[what]
        assert address in done, (what, address, done)
        return ""

    async def claims(self) -> str:
        truth = await (await self.agent("operator")).truth()
        lines = [f"{ip} {held.claim.holder}" for ip, held in sorted(truth.claims.items())]
        lines += [
            f"{'/'.join(key)} uid={endpoint.uid}" for key, endpoint in truth.endpoints.items()
        ]
        return "\n".join(lines) or "none"

    async def check(self) -> str:
        """Assert all invariants of the log, and that applying it gives the state."""
        await check_everything(await self.agent("operator"))
        return ""

    # Inconsistent state that no service writes

    async def dirty_claim(self, address: str, path: str, *, holder: str) -> str:
        keys = (await self.agent("operator")).keys
        claim = Claim("main", holder, *split(path), "dirty.0.0")
        await self.store.commit([], [Put(keys.ip_of(address), CLAIM.encode(claim))])
        return ""

    async def dirty_endpoint(self, path: str, *addresses: str, uid: str, pool: str = "") -> str:
        keys = (await self.agent("operator")).keys
        nics = tuple(Nic(f"eth{i}", f"{ip}/16", pool) for i, ip in enumerate(addresses))
        endpoint = Endpoint(*split(path), uid, "n1", f"pod/{uid}", "Pod", "x", nics)
        await self.store.commit([], [Put(keys.endpoint(*endpoint.key), ENDPOINT.encode(endpoint))])
        return ""

    async def dirty_uid(self, path: str, *, uid: str, holder: str = "") -> str:
        """An endpoint left from an older Pod, while the claims are those of the living one."""
        agent = await self.agent("operator")
        endpoint = (await agent.truth()).endpoints[split(path)]
        endpoint = endpoint._replace(uid=uid, holder=holder or f"pod/{uid}")
        key = agent.keys.endpoint(*endpoint.key)
        await self.store.commit([], [Put(key, ENDPOINT.encode(endpoint))])
        return ""

    async def lose_claim(self, address: str) -> str:
        keys = (await self.agent("operator")).keys
        await self.store.commit([], [Delete(keys.ip_of(address))])
        return ""

    async def remove_pool(self, name: str) -> str:
        await (await self.agent("operator")).apply(DeletePool(name))
        return ""

    async def agent(self, name: str) -> NodeHarness:
        if name not in self.agents:
            settings = AllocatorSettings(order="sequential")
            node = NodeHarness(self.store, name, settings=settings, cool_down_s=0)
            self.agents[name] = await node.__aenter__()
        await self.agents[name].view.freshen()
        return self.agents[name]

    async def close(self) -> None:
        for agent in self.agents.values():
            await agent.__aexit__(None, None, None)

    async def _add(self, pod: PodState) -> Endpoint:
        agent = await self.agent(pod.node)
        return (await agent.add(facts_of(pod, pod.fixed(self.settings)))).endpoint

    def _hear(self, news: ObservedPod) -> None:
        if not self.watching:
            return
        now = moment(self.cluster.now_s)
        facts = self.cluster.snapshot(now)
        found = deadline_of(news.pod, facts, self.settings, now, deleted=news.report)
        if isinstance(found, ReclaimDeadline):
            self.book.put(found)
        elif news.pod.is_living:
            self.book.forget(news.pod.uid)

    async def _rules(self) -> Rules:
        now_s = self.cluster.now_s
        return Rules(self.cluster.snapshot(moment(now_s)), self.settings, now_s)

    async def _plan(self) -> ReclaimPlan:
        ledger = await (await self.agent("operator")).truth()
        plan = plan_scan(ledger, await self._rules(), self.sightings)
        self.sightings = plan.observations
        return plan

    async def _follow(self, one: ReclaimDeadline) -> None:
        """A scan has found a deadline."""
        self.book.put(one)

    async def _resolve(self, one: ReclaimDeadline) -> list[str]:
        ledger = await (await self.agent("operator")).truth()
        found = resolve(one, ledger, await self._rules())
        if isinstance(found, ReclaimStep):
            self.book.forget(one.uid)
            return await self._carry_out(found)
        if isinstance(found, KeptClaims) and found.until_s > self.cluster.now_s:
            return []
        self.book.forget(one.uid)
        return [] if found is None else [self._keep(found)]

    async def _carry_out(self, step: ReclaimStep) -> list[str]:
        agent = await self.agent("controller")
        releaser = Releaser(self.store, agent.keys, agent.writer, agent.cooldown)
        done = await releaser.reclaim(step, CAUSE)
        self.released |= set(done.addresses)
        path = "/".join(step.key)
        if not done.revision:
            return [f"left {path} alone: {done.why}"]
        return [f"released {' '.join(done.addresses) or '-'} of {path}, {step.evidence}"]

    def _keep(self, one: KeptClaims) -> str:
        self.kept |= dict.fromkeys(one.addresses, one.why)
        return f"kept {' '.join(one.addresses) or '-'} of {'/'.join(one.key)}: {one.why}"
