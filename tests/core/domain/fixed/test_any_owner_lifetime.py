"""Any history of a StatefulSet and a VM: scaled, created again, moved, interrupted (I1 to I7).

Hypothesis generates the history, and the log checker verifies it after every step. It has three
more properties: a running Pod keeps its addresses; a Pod whose owner wanted it without interruption
gets the same addresses again unless its template has changed; other addresses are free after two
scans.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from core.allocation.allocator import Added
from core.domain.reclaim.cluster import PodState
from core.errors import OrbweaverError
from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.kv import KeyValueStore
from core.eventstore.memory import MemoryStore
from tests.core.domain.fixed.fixed_address_harness import FixedAddressHarness
from tests.core.domain.reclaim.scripted_cluster import owner_of
from tests.support.etcd import EtcdCluster
from tests.support.faulty_store import Fault, FaultyStore
from tests.support.node_harness import addresses, check_everything

NODES = ("n1", "n2", "n3")
TEMPLATES = (
    {"pool": '{"ipv4":["a"]}'},
    {"pool": '{"ipv4":["b"],"ipv6":["six"]}'},
    {"pool": '{"ipv4":["b","a"]}'},
    {"pools": '[{"ipv4":["a"]},{"ipv4":["b"]}]'},
)
VM = "vm-a"
REPLICAS = tuple(f"db-{n}" for n in range(5))

names = st.sampled_from((*REPLICAS, VM))
nodes = st.sampled_from(NODES)
ends = st.sampled_from(["del", "lost", "late"])
sights = st.sampled_from(["cluster", "past", "nobody"])
_numbers = itertools.count()


class Lives(RuleBasedStateMachine):
    """A StatefulSet ``db``, a VM, and other Pods that claim free addresses."""

    endpoints: ClassVar[tuple[str, ...]] = ()
    """etcd's endpoints; () for the memory store."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.faults = FaultyStore(self.run(self.make_store()))
        self.harness = FixedAddressHarness(self.faults, f"life-{next(_numbers)}")
        self.template = 0
        self.uids = itertools.count(1)
        self.running: dict[str, tuple[str, set[str]]] = {}
        self.promised: dict[str, set[str]] = {}
        for line in (
            "pool a 10.6.0.1-10.6.0.5 default=no",
            "pool b 10.6.1.1-10.6.1.6 default=no",
            "pool six fd00:6::1-fd00:6::6 default=no",
            "node n1 n2 n3",
            "statefulset shop/db replicas=3",
            "vm shop/vm-a",
            "vmi shop/vm-a",
            "watch off",
            "pod shop/witness uid=w add=no",
        ):
            self.play(line)
        self.play_template()

    # Steps

    @rule(several=st.lists(st.tuples(names, nodes), min_size=1, max_size=4), end=ends)
    def pods_are_made_again(self, several: list[tuple[str, str]], end: str) -> None:
        """Replace a Pod; the old Pod's DEL arrives before, after, or never."""
        self.together([self.made_again(name, node, end) for name, node in dict(several).items()])

    @rule(name=names)
    def a_runtime_asks_again(self, name: str) -> None:
        if name in self.running:
            uid, held = self.running[name]
            answer = self.run(self.add(self.pod(name, uid)))
            assert isinstance(answer, Exception) or addresses(answer) == held

    @rule(replicas=st.integers(0, 5), start=st.integers(0, 2))
    def it_is_scaled(self, replicas: int, start: int) -> None:
        self.play(f"statefulset shop/db replicas={replicas} start={start}")
        self.forget()

    @rule(node=nodes, fails=st.booleans())
    def the_vm_migrates(self, node: str, *, fails: bool) -> None:
        """The target requests addresses while the source runs; then one of the two ends."""
        if VM in self.running:
            self.run(self.migrated(node, fails=fails))

    @rule(present=st.booleans())
    def the_vm_stops_or_starts(self, *, present: bool) -> None:
        self.play("vmi shop/vm-a" if present else "vmi shop/vm-a deleting=yes")
        self.forget()

    @rule(present=st.booleans())
    def the_vm_is_made_or_deleted(self, *, present: bool) -> None:
        state = "no" if present else "yes"
        self.play(f"vm shop/vm-a deleting={state}")
        self.play(f"vmi shop/vm-a deleting={state}")
        self.forget()

    @rule(template=st.integers(0, len(TEMPLATES) - 1))
    def its_template_changes(self, template: int) -> None:
        self.template = template
        self.play_template()
        self.promised = {name: held for name, held in self.promised.items() if name == VM}

    @rule(name=names, sight=sights)
    def a_pod_ends(self, name: str, sight: str) -> None:
        if name in self.running:
            self.play(f"agents_see {sight}")
            self.run(self.ended(name))
            self.play("agents_see cluster")

    @rule(name=names, node=nodes)
    def a_judgement_is_carried_out_late(self, name: str, node: str) -> None:
        """Two scans select the Pod, the Pod is created again, and the release is too late."""
        self.play("judge")
        self.play("tick 10s")
        self.play("judge")
        self.together([self.made_again(name, node, "lost")])
        self.play("carry_out")
        self.harness.plans.clear()

    @rule()
    def what_nobody_wants_is_free_after_two_looks(self) -> None:
        for _ in range(2):
            self.play("scan")
            self.play("tick 10s")
        self.play("scan")
        truth = self.run(self.truth())
        pods = self.harness.cluster.pods.values()
        there = {pod.owner.name if _is_launcher(pod) else pod.name for pod in pods if pod.owner}
        kept = {name for _, name in truth.endpoints}
        assert kept <= {one for one in (*REPLICAS, VM) if self.is_wanted(one)} | there

    @rule(
        faults=st.lists(st.sampled_from(list(Fault)), min_size=1, max_size=3),
        name=names,
        node=nodes,
    )
    def answers_are_lost(self, faults: list[Fault], name: str, node: str) -> None:
        self.run(self.harness.agent(node))
        self.faults.fail_next_commits(*faults)
        self.together([self.made_again(name, node, "lost")])
        self.faults.heal()

    @rule(name=names, node=nodes, steps=st.integers(0, 30))
    def an_agent_dies_in_the_middle(self, name: str, node: str, steps: int) -> None:
        self.run(self.killed(name, node, steps))

    # Properties

    @invariant()
    def the_log_keeps_every_invariant(self) -> None:
        self.run(self.truth())

    @invariant()
    def whoever_runs_keeps_what_he_was_given(self) -> None:
        truth = self.run(self.truth())
        for name, (uid, held) in self.running.items():
            endpoint = truth.endpoints["shop", name]
            assert addresses(endpoint) == held
            assert name == VM or endpoint.uid == uid, "only a migration leaves another's UID"
            assert held <= truth.claims.keys()

    # Helpers

    async def made_again(self, name: str, node: str, end: str) -> None:
        old = self.running.pop(name, None)
        if old is not None and end == "del":
            await self.delete(self.pod(name, old[0]))
        pod = self.pod(name, str(next(self.uids)), node)
        for key, other in list(self.harness.cluster.pods.items()):
            if _is_launcher(other) if name == VM else key[1] == name:
                self.harness.cluster.drop_pod(key)
        self.harness.cluster.set_pod(pod)
        answer = await self.add(pod)
        if isinstance(answer, Added):
            self.given(name, pod, addresses(answer))
        if old is not None and end == "late":
            await self.delete(self.pod(name, old[0]))

    async def migrated(self, node: str, *, fails: bool) -> None:
        uid, held = self.running[VM]
        source, target = self.pod(VM, uid), self.pod(VM, str(next(self.uids)), node)
        self.harness.targets.add(target.uid)
        self.harness.cluster.set_pod(target)
        answer = await self.add(target)
        if isinstance(answer, Added):
            assert addresses(answer) == held
        ends = target if fails or not isinstance(answer, Added) else source
        await self.delete(ends)
        self.harness.cluster.drop_pod((ends.namespace, ends.name))
        if ends is source:
            self.given(VM, target, held)

    def given(self, name: str, pod: PodState, held: set[str]) -> None:
        assert held == self.promised.get(name, held), f"{name} has lost its addresses"
        self.running[name] = (pod.uid, held)
        self.harness.cluster.set_pod(pod._replace(ips=tuple(held)))
        if self.is_wanted(name):
            self.promised[name] = held

    def forget(self) -> None:
        """Remove the expectations about Pods that their owner does not expect any more."""
        self.promised = {name: held for name, held in self.promised.items() if self.is_wanted(name)}

    async def ended(self, name: str) -> None:
        uid, _ = self.running.pop(name)
        pod = self.pod(name, uid)
        await self.delete(pod)
        self.harness.cluster.drop_pod((pod.namespace, pod.name))

    async def add(self, pod: PodState) -> Added | OrbweaverError:
        try:
            agent = await self.harness.agent(pod.node)
            return await agent.add(self.harness.facts(pod))
        except OrbweaverError as error:
            return error

    async def delete(self, pod: PodState) -> None:
        agent = await self.harness.agent(pod.node)
        await agent.delete(self.harness.facts(pod), wanted=self.harness.wanted)

    async def killed(self, name: str, node: str, steps: int) -> None:
        """An ADD whose process dies before it answers."""
        agent = await self.harness.agent(node)
        self.running.pop(name, None)
        pod = self.pod(name, str(next(self.uids)), node)
        self.harness.cluster.set_pod(pod)
        task = asyncio.ensure_future(agent.add(self.harness.facts(pod)))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await agent.view.close()
        await asyncio.gather(task, return_exceptions=True)
        del self.harness.agents[node]

    def pod(self, name: str, uid: str, node: str = "n1") -> PodState:
        """Each launcher of a VM has a different name."""
        known = self.harness.cluster.pods.values()
        node = next((one.node for one in known if one.uid == uid), node)
        owner = owner_of("vm/vm-a" if name == VM else "StatefulSet/db")
        name = f"launcher-{uid}" if name == VM else name
        return PodState("shop", name, uid, node=node, owner=owner)

    def is_wanted(self, name: str) -> bool:
        cluster = self.harness.cluster
        if name == VM:
            return not (cluster.vms["shop", VM].deleting and cluster.vmis["shop", VM].deleting)
        owner = cluster.stateful_sets["shop", "db"]
        return owner.start <= int(name.removeprefix("db-")) < owner.start + owner.replicas

    async def truth(self) -> Any:
        return await check_everything(await self.harness.agent("operator"))

    def play(self, line: str) -> None:
        self.run(self.harness.play(line))

    def play_template(self) -> None:
        words = " ".join(f"{key}='{text}'" for key, text in TEMPLATES[self.template].items())
        self.play(f"template db {words}")
        self.play(f"template vm-a {words}")

    async def make_store(self) -> KeyValueStore:
        if not self.endpoints:
            return MemoryStore()
        return EtcdStore(EtcdSettings(self.endpoints))

    def together(self, work: list[Coroutine[Any, Any, None]]) -> None:
        async def all_of_it() -> None:
            for result in await asyncio.gather(*work, return_exceptions=True):
                if isinstance(result, BaseException) and not isinstance(result, OrbweaverError):
                    raise result

        self.run(all_of_it())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.run(self.harness.close())
        self.run(self.faults.close())
        self.loop.close()


def _is_launcher(pod: PodState) -> bool:
    return pod.owner is not None and pod.owner.name == VM


def check_lives(max_examples: int, steps: int) -> None:
    few = settings(max_examples=max_examples, stateful_step_count=steps, deadline=None)
    run_state_machine_as_test(Lives, settings=few)


def test_any_life_keeps_every_promise_in_memory() -> None:
    check_lives(30, 20)


@pytest.fixture
def on_etcd(etcd: EtcdCluster) -> Iterator[None]:
    Lives.endpoints = tuple(etcd.endpoints)
    yield
    Lives.endpoints = ()


@pytest.mark.etcd
@pytest.mark.usefixtures("on_etcd")
def test_any_life_keeps_every_promise_on_etcd() -> None:
    check_lives(4, 15)
