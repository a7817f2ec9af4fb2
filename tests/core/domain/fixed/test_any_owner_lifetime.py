"""Properties of fixed addresses in any lifetime of a StatefulSet and of a VM.

- The log is valid after every step.
- A running Pod keeps its addresses.
- A recreated Pod gets the same addresses, unless its owner stopped expecting it or the template
  changed.
- Addresses without Pod and owner are released after two scans.
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
from core.domain.reclaim.evidence import PodState
from core.errors import OrbweaverError
from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.kv import KeyValueStore
from core.eventstore.memory_store import MemoryStore
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
"""The name of the VM and of its endpoint; the Pods of the VM are named ``launcher-<uid>``."""
REPLICAS = tuple(f"db-{number}" for number in range(5))

names = st.sampled_from((*REPLICAS, VM))
nodes = st.sampled_from(NODES)
del_times = st.sampled_from(["before ADD", "never", "after ADD"])
"""The arrival of a replaced Pod's DEL, relative to the ADD of the next Pod."""

cache_states = st.sampled_from(["current", "frozen", "empty"])
_cluster_numbers = itertools.count()


class OwnerLifetime(RuleBasedStateMachine):
    """The StatefulSet ``db`` and the VM ``vm-a`` on three nodes."""

    etcd_endpoints: ClassVar[tuple[str, ...]] = ()
    """An empty tuple selects the memory store."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()  # cancels the tasks that a killed agent leaves
        self.faults = FaultyStore(self.run(self.make_store()))
        self.harness = FixedAddressHarness(self.faults, f"life-{next(_cluster_numbers)}")
        self.template = 0
        self.uids = itertools.count(1)
        self.running_pods: dict[str, tuple[str, set[str]]] = {}
        """UID and addresses of each running Pod, by the name of its endpoint."""
        self.expected_addresses: dict[str, set[str]] = {}
        """The addresses that the next Pod must get, by the name of its endpoint."""
        # The Pod ``unrelated`` exists because reclaim does not trust an empty listing of Pods.
        for line in (
            "pool a 10.6.0.1-10.6.0.5 default=no",
            "pool b 10.6.1.1-10.6.1.6 default=no",
            "pool six fd00:6::1-fd00:6::6 default=no",
            "node n1 n2 n3",
            "statefulset shop/db replicas=3",
            "vm shop/vm-a",
            "vmi shop/vm-a",
            "watch off",
            "pod shop/unrelated uid=w add=no",
        ):
            self.play(line)
        self.play_template()

    # Steps

    @rule(
        nodes_by_pod=st.lists(st.tuples(names, nodes), min_size=1, max_size=4),
        del_arrival=del_times,
    )
    def pods_are_recreated(self, nodes_by_pod: list[tuple[str, str]], del_arrival: str) -> None:
        self.run_all(
            [self.recreate(name, node, del_arrival) for name, node in dict(nodes_by_pod).items()]
        )

    @rule(name=names)
    def a_runtime_repeats_an_add(self, name: str) -> None:
        if name in self.running_pods:
            uid, pod_addresses = self.running_pods[name]
            answer = self.run(self.add(self.pod(name, uid)))
            assert isinstance(answer, Exception) or addresses(answer) == pod_addresses

    @rule(replicas=st.integers(0, 5), start=st.integers(0, 2))
    def the_stateful_set_is_scaled(self, replicas: int, start: int) -> None:
        self.play(f"statefulset shop/db replicas={replicas} start={start}")
        self.drop_expectations()

    @rule(node=nodes, fails=st.booleans())
    def the_vm_migrates(self, node: str, *, fails: bool) -> None:
        if VM in self.running_pods:
            self.run(self.migrate(node, fails=fails))

    @rule(present=st.booleans())
    def the_vm_stops_or_starts(self, *, present: bool) -> None:
        self.play("vmi shop/vm-a" if present else "vmi shop/vm-a deleting=yes")
        self.drop_expectations()

    @rule(present=st.booleans())
    def the_vm_is_created_or_deleted(self, *, present: bool) -> None:
        deleting = "no" if present else "yes"
        self.play(f"vm shop/vm-a deleting={deleting}")
        self.play(f"vmi shop/vm-a deleting={deleting}")
        self.drop_expectations()

    @rule(template=st.integers(0, len(TEMPLATES) - 1))
    def the_template_changes(self, template: int) -> None:
        self.template = template
        self.play_template()
        self.expected_addresses = {
            name: pod_addresses
            for name, pod_addresses in self.expected_addresses.items()
            if name == VM
        }

    @rule(name=names, cache_state=cache_states)
    def a_pod_ends(self, name: str, cache_state: str) -> None:
        if name in self.running_pods:
            self.play(f"agent_cache {cache_state}")
            self.run(self.end_pod(name))
            self.play("agent_cache current")

    @rule(name=names, node=nodes)
    def a_planned_release_is_carried_out_late(self, name: str, node: str) -> None:
        """The Pod is recreated between the plan and the release."""
        self.play("plan")
        self.play("tick 10s")
        self.play("plan")
        self.run_all([self.recreate(name, node, "never")])
        self.play("carry_out")
        self.harness.plans.clear()

    @rule()
    def addresses_without_pod_and_owner_are_released_after_two_scans(self) -> None:
        for _ in range(2):
            self.play("scan")
            self.play("tick 10s")
        self.play("scan")
        checked_ledger = self.run(self.checked_ledger())
        pods = self.harness.cluster.pods.values()
        existing = {pod.owner.name if _is_launcher(pod) else pod.name for pod in pods if pod.owner}
        expected = {name for name in (*REPLICAS, VM) if self.is_expected_by_owner(name)}
        assert {name for _, name in checked_ledger.endpoints} <= expected | existing

    @rule(
        faults=st.lists(st.sampled_from(list(Fault)), min_size=1, max_size=3),
        name=names,
        node=nodes,
    )
    def answers_of_the_store_are_lost(self, faults: list[Fault], name: str, node: str) -> None:
        self.run(self.harness.agent(node))
        self.faults.fail_next_commits(*faults)
        self.run_all([self.recreate(name, node, "never")])
        self.faults.heal()

    @rule(name=names, node=nodes, loop_turns=st.integers(0, 30))
    def an_agent_dies_during_an_add(self, name: str, node: str, loop_turns: int) -> None:
        self.run(self.kill_agent_during_add(name, node, loop_turns))

    # Properties

    @invariant()
    def the_log_is_valid(self) -> None:
        self.run(self.checked_ledger())

    @invariant()
    def running_pods_keep_their_addresses(self) -> None:
        checked_ledger = self.run(self.checked_ledger())
        for name, (uid, pod_addresses) in self.running_pods.items():
            endpoint = checked_ledger.endpoints["shop", name]
            assert addresses(endpoint) == pod_addresses
            assert name == VM or endpoint.uid == uid, (
                "only after a migration may an endpoint have the UID of another Pod"
            )
            assert pod_addresses <= checked_ledger.claims.keys()

    # Helpers

    async def recreate(self, name: str, node: str, del_arrival: str) -> None:
        predecessor = self.running_pods.pop(name, None)
        if predecessor is not None and del_arrival == "before ADD":
            await self.delete(self.pod(name, predecessor[0]))
        pod = self.pod(name, str(next(self.uids)), node)
        for key, pod_of_key in list(self.harness.cluster.pods.items()):
            is_predecessor = _is_launcher(pod_of_key) if name == VM else key[1] == name
            if is_predecessor:
                self.harness.cluster.drop_pod(key)
        self.harness.cluster.set_pod(pod)
        answer = await self.add(pod)
        if isinstance(answer, Added):
            self.check_and_note_addresses(name, pod, addresses(answer))
        if predecessor is not None and del_arrival == "after ADD":
            await self.delete(self.pod(name, predecessor[0]))

    async def migrate(self, node: str, *, fails: bool) -> None:
        uid, pod_addresses = self.running_pods[VM]
        source, target = self.pod(VM, uid), self.pod(VM, str(next(self.uids)), node)
        self.harness.migration_target_uids.add(target.uid)
        self.harness.cluster.set_pod(target)
        answer = await self.add(target)
        if isinstance(answer, Added):
            assert addresses(answer) == pod_addresses
        ending_pod = target if fails or not isinstance(answer, Added) else source
        await self.delete(ending_pod)
        self.harness.cluster.drop_pod((ending_pod.namespace, ending_pod.name))
        if ending_pod is source:
            self.check_and_note_addresses(VM, target, pod_addresses)

    def check_and_note_addresses(self, name: str, pod: PodState, pod_addresses: set[str]) -> None:
        assert pod_addresses == self.expected_addresses.get(name, pod_addresses), (
            f"{name} has lost its addresses"
        )
        self.running_pods[name] = (pod.uid, pod_addresses)
        self.harness.cluster.set_pod(pod._replace(ips=tuple(pod_addresses)))
        if self.is_expected_by_owner(name):
            self.expected_addresses[name] = pod_addresses

    def drop_expectations(self) -> None:
        self.expected_addresses = {
            name: pod_addresses
            for name, pod_addresses in self.expected_addresses.items()
            if self.is_expected_by_owner(name)
        }

    async def end_pod(self, name: str) -> None:
        uid, _ = self.running_pods.pop(name)
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
        await agent.delete(self.harness.facts(pod), validity_of=self.harness.validity)

    async def kill_agent_during_add(self, name: str, node: str, loop_turns: int) -> None:
        agent = await self.harness.agent(node)
        self.running_pods.pop(name, None)
        pod = self.pod(name, str(next(self.uids)), node)
        self.harness.cluster.set_pod(pod)
        task = asyncio.ensure_future(agent.add(self.harness.facts(pod)))
        for _ in range(loop_turns):
            await asyncio.sleep(0)
        task.cancel()
        await agent.view.close()
        await asyncio.gather(task, return_exceptions=True)
        del self.harness.agents[node]

    def pod(self, name: str, uid: str, node: str = "n1") -> PodState:
        pods = self.harness.cluster.pods.values()
        node = next((pod.node for pod in pods if pod.uid == uid), node)
        owner = owner_of("vm/vm-a" if name == VM else "StatefulSet/db")
        name = f"launcher-{uid}" if name == VM else name
        return PodState("shop", name, uid, node=node, owner=owner)

    def is_expected_by_owner(self, name: str) -> bool:
        cluster = self.harness.cluster
        if name == VM:
            return not (cluster.vms["shop", VM].deleting and cluster.vmis["shop", VM].deleting)
        owner = cluster.stateful_sets["shop", "db"]
        return owner.start <= int(name.removeprefix("db-")) < owner.start + owner.replicas

    async def checked_ledger(self) -> Any:
        return await check_everything(await self.harness.agent("operator"))

    def play(self, line: str) -> None:
        self.run(self.harness.play(line))

    def play_template(self) -> None:
        options = " ".join(f"{key}='{text}'" for key, text in TEMPLATES[self.template].items())
        self.play(f"template db {options}")
        self.play(f"template vm-a {options}")

    async def make_store(self) -> KeyValueStore:
        if not self.etcd_endpoints:
            return MemoryStore()
        return EtcdStore(EtcdSettings(self.etcd_endpoints))

    def run_all(self, work: list[Coroutine[Any, Any, None]]) -> None:
        async def gather_all() -> None:
            for result in await asyncio.gather(*work, return_exceptions=True):
                if isinstance(result, BaseException) and not isinstance(result, OrbweaverError):
                    raise result

        self.run(gather_all())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.run(self.harness.close())
        self.run(self.faults.close())
        self.runner.close()


def _is_launcher(pod: PodState) -> bool:
    return pod.owner is not None and pod.owner.name == VM


def check_lifetimes(*, max_examples: int, steps: int) -> None:
    limits = settings(max_examples=max_examples, stateful_step_count=steps, deadline=None)
    run_state_machine_as_test(OwnerLifetime, settings=limits)


def test_any_lifetime_keeps_all_properties_in_memory() -> None:
    check_lifetimes(max_examples=30, steps=20)


@pytest.fixture
def on_etcd(etcd: EtcdCluster) -> Iterator[None]:
    OwnerLifetime.etcd_endpoints = tuple(etcd.endpoints)
    yield
    OwnerLifetime.etcd_endpoints = ()


@pytest.mark.etcd
@pytest.mark.usefixtures("on_etcd")
def test_any_lifetime_keeps_all_properties_on_etcd() -> None:
    check_lifetimes(max_examples=4, steps=15)
