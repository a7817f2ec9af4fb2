"""Random histories of three nodes and an operator, with lost requests and killed nodes.

After each step, the log and the state keys must satisfy the invariants I1 to I5 of
docs/contributing/architecture.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Literal, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from core.allocation.allocator import AllocatorSettings
from core.domain.configuration.commands import (
    ApplyReservation,
    Command,
    DeleteReservation,
    LiftQuarantine,
    QuarantineAddress,
    RetirePool,
)
from core.domain.model import Pool, Reservation
from core.domain.request_facts import PodFacts
from core.errors import OrbweaverError
from core.eventstore.memory_store import MemoryStore
from tests.support.faulty_store import Fault, FaultyStore
from tests.support.node_harness import NodeHarness, check_everything, pod, pool

NODES = ("node-a", "node-b", "node-c")
NAMES = [f"web-{number}" for number in range(6)]
ADDRESSES = [f"10.6.0.{number}" for number in range(1, 9)]

pods = st.builds(
    lambda name, generation, fixed: pod(
        name,
        uid=f"{name}-{generation}",
        fixed="statefulset" if fixed else None,
    ),
    st.sampled_from(NAMES),
    st.integers(0, 2),
    st.booleans(),
)
nodes = st.sampled_from(NODES)
containers = st.sampled_from(["box-1", "box-2"])


class Call(NamedTuple):
    """An ADD or DEL of a Pod's container on a node."""

    verb: Literal["add", "delete"]
    node: str
    pod: PodFacts
    container: str


_verbs: st.SearchStrategy[Literal["add", "delete"]] = st.sampled_from(("add", "delete"))
calls = st.builds(Call, _verbs, nodes, pods, containers)
pool_shapes = st.sampled_from(
    [
        pool("main", "10.6.0.1-10.6.0.4"),
        pool("main", "10.6.0.1-10.6.0.8"),
        pool("main", "10.6.0.2-10.6.0.6"),
        pool("main", "10.6.0.1-10.6.0.8")._replace(disabled=True),
        pool("spare", "10.6.0.5-10.6.0.8"),
        pool("six", "fd00:6::1-fd00:6::3"),
    ]
)
commands: st.SearchStrategy[Command | Pool] = st.one_of(
    pool_shapes,
    st.builds(QuarantineAddress, st.sampled_from(ADDRESSES), st.just("another host answered")),
    st.builds(LiftQuarantine, st.sampled_from(ADDRESSES)),
    st.builds(
        lambda address: ApplyReservation(Reservation("dns", 4, (address,))),
        st.sampled_from(ADDRESSES),
    ),
    st.just(DeleteReservation("dns")),
    st.just(RetirePool("spare")),
)


class Histories(RuleBasedStateMachine):
    """Hypothesis runs one rule after another; the faults of a rule end with the rule."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()  # close() cancels the remaining tasks of killed nodes
        self.store = FaultyStore(MemoryStore())
        self.nodes: dict[str, NodeHarness] = {}

    @initialize(order=st.sampled_from(["spread", "sequential"]))
    def begin(self, order: Any) -> None:
        self.settings = AllocatorSettings(order=order)
        for name in (*NODES, "operator"):
            self.run(self.start(name))
        self.run(self.nodes["operator"].apply(pool("main", "10.6.0.1-10.6.0.4")))

    @rule(concurrent_calls=st.lists(calls, min_size=1, max_size=6))
    def calls_are_concurrent(self, concurrent_calls: list[Call]) -> None:
        self.run(self.gather([self.make(call) for call in concurrent_calls]))

    @rule(call=calls, command=commands)
    def the_operator_acts_during_a_call(self, call: Call, command: Command | Pool) -> None:
        self.run(self.gather([self.make(call), self.nodes["operator"].apply(command)]))

    @rule(
        faults=st.lists(st.sampled_from(list(Fault)), min_size=1, max_size=3),
        concurrent_calls=st.lists(calls, min_size=1, max_size=3),
    )
    def commits_fail(self, faults: list[Fault], concurrent_calls: list[Call]) -> None:
        self.store.fail_next_commits(*faults)
        self.run(self.gather([self.make(call) for call in concurrent_calls]))
        self.store.heal()

    @rule(call=calls, steps=st.integers(0, 12))
    def a_node_is_killed_during_a_call(self, call: Call, steps: int) -> None:
        self.run(self.kill(call, steps))

    @rule(name=nodes)
    def two_processes_run_under_one_name(self, name: str) -> None:
        older = self.nodes[name]
        self.run(self.start(name))
        self.run(self.gather([older.add(pod("web-0"))]))
        self.run(older.view.close())

    @invariant()
    def the_log_and_the_state_agree(self) -> None:
        if self.nodes:
            self.run(check_everything(self.nodes["operator"]))

    def teardown(self) -> None:
        for node in self.nodes.values():
            self.run(node.view.close())
        self.runner.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    async def start(self, name: str) -> None:
        node = NodeHarness(self.store, name, settings=self.settings)
        await node.__aenter__()
        self.nodes[name] = node

    async def make(self, call: Call) -> None:
        node = self.nodes[call.node]
        if call.verb == "add":
            await node.add(call.pod, container=call.container)
        else:
            await node.delete(call.pod, container=call.container)

    async def gather(self, work: list[Coroutine[Any, Any, Any]]) -> None:
        """Run concurrently; ignore each OrbweaverError."""
        for result in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, OrbweaverError):
                raise result

    async def kill(self, call: Call, steps: int) -> None:
        """Kill and restart the node of a call after ``steps`` of the event loop."""
        task = asyncio.ensure_future(self.make(call))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await self.nodes[call.node].view.close()
        await asyncio.gather(task, return_exceptions=True)
        await self.start(call.node)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
