"""Random histories of a small cluster on the memory store, verified by the checker (I1 to I5).

Three nodes and an operator act concurrently, while answers and requests are lost and nodes are
killed. Only the seed of the search fixes the order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

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
from core.errors import OrbweaverError
from core.eventstore.memory import MemoryStore
from tests.support.faulty_store import Fault, FaultyStore
from tests.support.node_harness import NodeHarness, check_everything, pod, pool

NODES = ("node-a", "node-b", "node-c")
NAMES = [f"web-{n}" for n in range(6)]
ADDRESSES = [f"10.6.0.{n}" for n in range(1, 9)]

pods = st.builds(
    lambda name, generation, fixed: pod(
        name,
        f"{name}-{generation}",
        fixed="statefulset" if fixed else None,
    ),
    st.sampled_from(NAMES),
    st.integers(0, 2),
    st.booleans(),
)
nodes = st.sampled_from(NODES)
boxes = st.sampled_from(["box-1", "box-2"])
moves = st.tuples(st.sampled_from(["add", "delete"]), nodes, pods, boxes)
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
    """The cluster; every rule completes before the next one starts, faults included."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()  # cancels the tasks that a killed agent leaves
        self.store = FaultyStore(MemoryStore())
        self.nodes: dict[str, NodeHarness] = {}

    @initialize(order=st.sampled_from(["spread", "sequential"]))
    def begin(self, order: Any) -> None:
        self.settings = AllocatorSettings(order=order)
        for name in (*NODES, "operator"):
            self.run(self.start(name))
        self.run(self.nodes["operator"].apply(pool("main", "10.6.0.1-10.6.0.4")))

    @rule(several=st.lists(moves, min_size=1, max_size=6))
    def pods_come_and_go_at_once(self, several: list[Any]) -> None:
        self.run(self.together([self.move(*one) for one in several]))

    @rule(one=moves, command=commands)
    def the_operator_acts_meanwhile(self, one: Any, command: Command | Pool) -> None:
        self.run(self.together([self.move(*one), self.nodes["operator"].apply(command)]))

    @rule(
        faults=st.lists(st.sampled_from(list(Fault)), min_size=1, max_size=3),
        several=st.lists(moves, min_size=1, max_size=3),
    )
    def answers_are_lost(self, faults: list[Fault], several: list[Any]) -> None:
        self.store.fail_next_commits(*faults)
        self.run(self.together([self.move(*one) for one in several]))
        self.store.heal()

    @rule(victim=nodes, one=moves, steps=st.integers(0, 12))
    def a_node_is_killed_in_the_middle(self, victim: str, one: Any, steps: int) -> None:
        self.run(self.kill(victim, one, steps))

    @rule(victim=nodes)
    def two_processes_run_under_one_name(self, victim: str) -> None:
        older = self.nodes[victim]
        self.run(self.start(victim))
        self.run(self.together([older.add(pod("web-0"))]))
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

    async def move(self, verb: str, node: str, who: Any, box: str) -> None:
        await getattr(self.nodes[node], verb)(who, container=box)

    async def together(self, work: list[Coroutine[Any, Any, Any]]) -> None:
        """Run concurrently; our own errors are results, others fail the test."""
        for result in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, OrbweaverError):
                raise result

    async def kill(self, victim: str, one: Any, steps: int) -> None:
        task = asyncio.ensure_future(self.move(one[0], victim, *one[2:]))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await self.nodes[victim].view.close()
        await asyncio.gather(task, return_exceptions=True)
        await self.start(victim)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
