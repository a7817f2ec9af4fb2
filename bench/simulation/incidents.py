"""Incidents of the simulated cluster: pools change, all Pods start, a rack is lost.

The operator's commands and the controller's jobs run in this process; the nodes run in others. A
view is a node's copy of the configuration.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

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

GROWTH_ADDRESSES: Final = 16

AHEAD_S: Final = 0.5
"""Seconds from the request until all processes start Pods together."""

LISTEN_S_MAX: Final = 60.0
"""Seconds from the start of the controller's jobs until their watch must be open."""

FREE_S_MAX: Final = 240.0

POLL_S: Final = 0.05
OPERATOR: Final = Cause("operator")


class Fanout(NamedTuple):
    """The delivery of changes to the nodes.

    ``reached_s``: for each change, the seconds until ``REACHED_SHARE`` of the views showed it.
    ``updates``: the number of updates of views.
    """

    reached_s: list[float]
    updates: int


class PodsStarted(NamedTuple):
    """The start of Pods in all processes.

    ``seconds``: from the first ADD to the last result. ``tries``, ``transactions``, ``cpu_s``: sums
    over all ADDs.
    """

    seconds: float
    latencies_s: list[float]
    addresses: list[str]
    failures: list[str]
    tries: int
    transactions: int
    cpu_s: float


class RackLost(NamedTuple):
    """The loss of a rack.

    ``seconds``: from the first command until the rack has no claim. ``claims``: its claims before.
    ``dropped_changes``: changes of Pods for which the controller started no workflow.
    """

    seconds: float
    claims: int
    dropped_changes: int


async def define_pools_and_nodes(store: KeyValueStore, keys: Keys, size: Size) -> None:
    """Define the pools and the records of the nodes."""
    await _apply(store, keys, [ApplyPool(pool) for pool in pools_of(size)])
    records = (RecordDefined("Node", "", node_name(number)) for number in range(size.nodes))
    await _apply(store, keys, [ApplyRecord(record) for record in records])


async def change_pools(store: KeyValueStore, keys: Keys, fleet: Fleet, size: Size) -> Fanout:
    """Add addresses to pools, one command after the other."""
    command_times: list[float] = []
    revisions: list[int] = []
    async with _operator(store, keys) as operator:
        began = time.monotonic()
        larger_pools = pools_of(size, more=GROWTH_ADDRESSES)[: size.changes]
        for number, pool in enumerate(larger_pools):
            await asyncio.sleep(began + number * size.change_pause_s - time.monotonic())
            command_times.append(time.monotonic())
            revisions.append((await operator.apply(ApplyPool(pool), OPERATOR)).revision)
    responses = await asyncio.to_thread(fleet.request, "times_of_revisions", revisions=revisions)
    assert all(response["complete"] for response in responses), "the view of a node lacks a change"
    times_by_node = [node_times for response in responses for node_times in response["times"]]
    return Fanout(
        _reached_s(command_times, times_by_node),
        sum(response["updates"] for response in responses),
    )


def start_pods(fleet: Fleet, nodes: Iterable[int], first: int, count: int) -> PodsStarted:
    """Start ``count`` Pods, numbered from ``first``, on each node."""
    at = time.monotonic() + AHEAD_S
    responses = fleet.request("start", nodes=list(nodes), at=at, first=first, count=count)
    return PodsStarted(
        seconds=max(response["ended"] for response in responses) - at,
        latencies_s=[latency for response in responses for latency in response["latencies_s"]],
        addresses=[address for response in responses for address in response["addresses"]],
        failures=[failure for response in responses for failure in response["failures"]],
        tries=sum(response["tries"] for response in responses),
        transactions=sum(response["transactions"] for response in responses),
        cpu_s=sum(response["cpu_s"] for response in responses),
    )


async def grow_rack(store: KeyValueStore, keys: Keys, size: Size) -> None:
    """Add addresses to the pool of the rack that will be lost."""
    await _apply(store, keys, [ApplyPool(rack_pool(size, 0, addresses_for(size.rack_pods)))])


async def lose_rack(store: KeyValueStore, keys: Keys, fleet: Fleet, size: Size) -> RackLost:
    """Stop the nodes of a rack, delete their records, and wait until no claim is left."""
    await asyncio.to_thread(fleet.request, "lose", nodes=list(size.lost_nodes))
    pool = rack_pool(size, 0, addresses_for(size.rack_pods))
    first, _, last = pool.ips[0].partition("-")
    claims = Get(keys.ip_of(first), keys.ip_of(last) + b"\0", count_only=True)
    host = JobHost(store, keys, "simulation")
    async with running_jobs(host), _operator(store, keys) as operator:
        async with asyncio.timeout(LISTEN_S_MAX):
            while not host.listener.listening:
                await asyncio.sleep(POLL_S)
        count = await _count(store, claims)
        began = time.monotonic()
        commands = (DeleteRecord("Node", "", node_name(number)) for number in size.lost_nodes)
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
    writer = Writer(store, keys, "operator")
    await writer.open()
    yield Configurator(store, keys, writer)
    await writer.close()


def _reached_s(
    command_times: Sequence[float], times_by_node: Sequence[Sequence[float]]
) -> list[float]:
    """The value of ``Fanout.reached_s``, from the times at which each node showed each change."""
    times_by_change = zip(*times_by_node, strict=True)
    return [
        percentile(node_times, REACHED_SHARE) - command_time
        for command_time, node_times in zip(command_times, times_by_change, strict=True)
    ]
