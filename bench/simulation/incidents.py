"""Incidents of the simulated cluster: pools change, all Pods start, a rack is lost.

Each incident is timed from its cause. The commands of the operator and the jobs of the controller
run in this process, the nodes in others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from bench.figures import percentile
from bench.rig.worker import running_jobs
from bench.simulation.fleet import Fleet
from bench.simulation.plan import Size, addresses_for, node_name, pools_of, rack_pool
from core.configuration.configurator import Configurator
from core.domain.configuration.commands import ApplyPool, ApplyRecord, Command, DeleteRecord
from core.domain.events import Cause, RecordDefined
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from core.eventstore.writer import Writer
from workflows.jobs.job_host import JobHost

REACHED_SHARE: Final = 0.99
"""The share of nodes that must show a change for it to count as delivered."""

GROWTH_ADDRESSES: Final = 16
"""Addresses that each change adds to a pool."""

AHEAD_S: Final = 0.5
"""Seconds until the common moment at which all processes start Pods."""

FREE_S_MAX: Final = 240.0
"""Seconds in which all claims of a lost rack must be released."""

POLL_S: Final = 0.05
OPERATOR: Final = Cause("operator")


class Fanout(NamedTuple):
    """``reached_s``: for each change, seconds from its command until 99 % of the nodes showed it.

    ``updates``: how often the configuration of a node changed, summed over all nodes.
    """

    reached_s: list[float]
    updates: int


class PodsStarted(NamedTuple):
    """The start of Pods, from the first ADD to the last answer, in all processes."""

    seconds: float
    latencies_s: list[float]
    addresses: list[str]
    failures: list[str]
    tries: int
    transactions: int
    cpu_s: float


class RackLost(NamedTuple):
    """The loss of a rack, from the first command until the rack has no claim.

    ``left_to_scan``: claims that only the periodic reclaim scan released.
    """

    seconds: float
    claims: int
    left_to_scan: int


async def define(store: KeyValueStore, keys: Keys, size: Size) -> None:
    """Define the pools, and record that each node exists."""
    await _apply(store, keys, [ApplyPool(pool) for pool in pools_of(size)])
    records = (RecordDefined("Node", "", node_name(number)) for number in range(size.nodes))
    await _apply(store, keys, [ApplyRecord(record) for record in records])


async def change_pools(store: KeyValueStore, keys: Keys, fleet: Fleet, size: Size) -> Fanout:
    """Grow pools, one command after the other."""
    times: list[float] = []
    revisions: list[int] = []
    async with _operator(store, keys) as operator:
        began = time.monotonic()
        grown = pools_of(size, more=GROWTH_ADDRESSES)[: size.changes]
        for number, pool in enumerate(grown):
            await asyncio.sleep(began + number * size.change_pause_s - time.monotonic())
            times.append(time.monotonic())
            revisions.append((await operator.apply(ApplyPool(pool), OPERATOR)).revision)
    answers = await asyncio.to_thread(fleet.ask, {"do": "arrivals", "revisions": revisions})
    assert all(answer["whole"] for answer in answers), "the configuration of a node lacks a change"
    arrivals = [node_times for answer in answers for node_times in answer["times"]]
    return Fanout(
        _reached(times, arrivals),
        sum(answer["updates"] for answer in answers),
    )


def start_pods(fleet: Fleet, nodes: Iterable[int], first: int, count: int) -> PodsStarted:
    """Start ``count`` Pods on each node, all at the same time."""
    at = time.monotonic() + AHEAD_S
    order: dict[str, Any] = {"do": "start", "nodes": list(nodes), "at": at}
    answers = fleet.ask(order | {"first": first, "count": count})
    return PodsStarted(
        max(answer["ended"] for answer in answers) - at,
        [seconds for answer in answers for seconds in answer["seconds"]],
        [address for answer in answers for address in answer["addresses"]],
        [failure for answer in answers for failure in answer["failures"]],
        sum(answer["tries"] for answer in answers),
        sum(answer["transactions"] for answer in answers),
        sum(answer["cpu_s"] for answer in answers),
    )


async def grow_rack(store: KeyValueStore, keys: Keys, size: Size) -> None:
    """Add addresses to the pool of the rack that will be lost, for all its Pods."""
    await _apply(store, keys, [ApplyPool(rack_pool(size, 0, addresses_for(size.rack_pods)))])


async def lose_rack(store: KeyValueStore, keys: Keys, fleet: Fleet, size: Size) -> RackLost:
    """Stop the nodes of a rack, and delete their records as an operator does."""
    await asyncio.to_thread(fleet.ask, {"do": "lose", "nodes": list(size.lost)})
    pool = rack_pool(size, 0, addresses_for(size.rack_pods))
    first, _, last = pool.ips[0].partition("-")
    claims = Get(keys.ip_of(first), keys.ip_of(last) + b"\0", count_only=True)
    host = JobHost(store, keys, "simulation")
    async with running_jobs(host), _operator(store, keys) as operator:
        while not host.listener.listening:
            await asyncio.sleep(POLL_S)
        count = await _count(store, claims)
        began = time.monotonic()
        commands = (DeleteRecord("Node", "", node_name(number)) for number in size.lost)
        await asyncio.gather(*(operator.apply(command, OPERATOR) for command in commands))
        async with asyncio.timeout(FREE_S_MAX):
            while await _count(store, claims):
                await asyncio.sleep(POLL_S)
        return RackLost(time.monotonic() - began, count, host.listener.dropped)


async def _count(store: KeyValueStore, get: Get) -> int:
    return (await store.read([get])).ranges[0].count


async def _apply(store: KeyValueStore, keys: Keys, commands: Sequence[Command]) -> None:
    async with _operator(store, keys) as operator:
        for command in commands:
            await operator.apply(command, OPERATOR)


@asynccontextmanager
async def _operator(store: KeyValueStore, keys: Keys) -> AsyncIterator[Configurator]:
    """A configurator that writes as ``orbctl apply`` does."""
    writer = Writer(store, keys, "operator")
    await writer.open()
    yield Configurator(store, keys, writer)
    await writer.close()


def _reached(times: Sequence[float], arrivals: Sequence[Sequence[float]]) -> list[float]:
    """Return, per change, seconds until 99 % of nodes had it; ``arrivals``: a row per node."""
    columns = zip(*arrivals, strict=True)
    return [
        percentile(column, REACHED_SHARE) - began
        for began, column in zip(times, columns, strict=True)
    ]
