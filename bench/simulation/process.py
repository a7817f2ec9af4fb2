"""Runs hundreds of simulated nodes in one process: ``python -m bench.simulation.process``.

Each line of standard input is a request, and each line of standard output a response, both JSON
objects. The first request is ``open``. The process ends with its input.

Values of ``method``, with the other fields: ``open`` (endpoint, cluster, nodes),
``times_of_revisions`` (revisions of pools, ascending), ``start`` (nodes, first, count, at),
``lose`` (nodes), ``usage``. ``nodes`` lists node numbers.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import uvloop

from bench.simulation.node import SimulatedNode
from bench.simulation.usage import peak_rss_mb
from core.eventstore.retry_policies import retry_unavailable
from core.process.python_garbage_collector import raise_gc_threshold

OPENING_MAX: Final = 8

OPEN_S_MAX: Final = 180.0
"""Long, because many nodes use etcd concurrently."""

ARRIVAL_S_MAX: Final = 120.0

POLL_S: Final = 0.05


class Nodes:
    """The nodes of this process."""

    def __init__(self) -> None:
        self._nodes: dict[int, SimulatedNode] = {}

    async def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Handle one request; return the response."""
        match request["method"]:
            case "open":
                return await self._open(request["endpoint"], request["cluster"], request["nodes"])
            case "times_of_revisions":
                return await self._wait_for_revisions(request["revisions"])
            case "start":
                return await self._start(request)
            case "lose":
                return await self._lose(request["nodes"])
            case "usage":
                return {"cpu_s": time.process_time(), "peak_rss_mb": peak_rss_mb()}
        raise ValueError(f"unknown request {request}")

    async def _open(self, endpoint: str, cluster: str, numbers: Sequence[int]) -> dict[str, Any]:
        openings = asyncio.Semaphore(OPENING_MAX)

        async def open_node(number: int) -> None:
            async with openings:
                node = self._nodes[number] = SimulatedNode(endpoint, cluster, number)
                await retry_unavailable(OPEN_S_MAX)(node.open)  # as the agent does

        await asyncio.gather(*(open_node(number) for number in numbers))
        gc.collect()
        gc.freeze()  # as the agent does when it is ready
        return {"nodes": len(self._nodes)}

    async def _wait_for_revisions(self, revisions: Sequence[int]) -> dict[str, Any]:
        nodes = list(self._nodes.values())
        ends = time.monotonic() + ARRIVAL_S_MAX
        while min(node.revision for node in nodes) < revisions[-1] and time.monotonic() < ends:
            await asyncio.sleep(POLL_S)
        times = [_times_of_revisions(node, revisions) for node in nodes]
        updates = sum(len(node.updates) for node in nodes)
        for node in nodes:
            node.updates.clear()
        complete = all(set(revisions) <= node.pool_revisions() for node in nodes)
        return {"times": times, "updates": updates, "complete": complete}

    async def _start(self, request: dict[str, Any]) -> dict[str, Any]:
        nodes = [self._nodes[number] for number in request["nodes"] if number in self._nodes]
        transactions_before = sum(node.transactions for node in nodes)
        await asyncio.sleep(request["at"] - time.monotonic())
        cpu_before_s = time.process_time()
        starts = (node.start_pods(request["first"], request["count"]) for node in nodes)
        adds = [add for node_adds in await asyncio.gather(*starts) for add in node_adds]
        return {
            "cpu_s": time.process_time() - cpu_before_s,
            "transactions": sum(node.transactions for node in nodes) - transactions_before,
            "ended": max((add.ended for add in adds), default=request["at"]),
            "latencies_s": [add.latency_s for add in adds],
            "tries": sum(add.tries for add in adds),
            "addresses": [address for add in adds for address in add.addresses],
            "failures": [add.failure for add in adds if add.failure],
        }

    async def _lose(self, numbers: Sequence[int]) -> dict[str, Any]:
        lost = [self._nodes.pop(number) for number in numbers if number in self._nodes]
        await asyncio.gather(*(node.close() for node in lost))
        return {"nodes": len(lost)}


def _times_of_revisions(node: SimulatedNode, revisions: Sequence[int]) -> list[float]:
    """For each of the ascending revisions, the time at which the view first showed it."""
    times: list[float] = []
    updates = iter(node.updates)
    time_of_update, shown_revision = 0.0, 0
    for revision in revisions:
        while shown_revision < revision:
            time_of_update, shown_revision = next(updates, (float("inf"), revision))
        times.append(time_of_update)
    return times


async def serve() -> None:
    """Handle requests until the input ends."""
    nodes = Nodes()
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await nodes.handle(json.loads(line))), flush=True)


if __name__ == "__main__":
    raise_gc_threshold()
    uvloop.run(serve())
