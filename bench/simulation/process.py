"""Runs hundreds of simulated nodes in one process: ``python -m bench.simulation.process``.

Orders are JSON objects, one on each line of standard input; the process writes an answer to each on
standard output. The process ends
with its input. The first order is ``open``.

Orders: ``open`` (endpoint, cluster, nodes), ``arrivals`` (revisions of pools, in rising order),
``start`` (nodes, first, count, at), ``lose`` (nodes), ``usage``. Nodes are named by their numbers.
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
from core.eventstore.garbage_collection import raise_gc_threshold
from core.eventstore.retry_policies import retry_unavailable

OPENING_MAX: Final = 8
"""The largest number of nodes of this process that start concurrently."""

OPEN_S_MAX: Final = 180.0
"""Seconds that a node waits for etcd, which serves other nodes too."""

ARRIVAL_S_MAX: Final = 120.0
POLL_S: Final = 0.05


class Nodes:
    """The nodes of this process."""

    def __init__(self) -> None:
        self._nodes: dict[int, SimulatedNode] = {}

    async def execute(self, order: dict[str, Any]) -> dict[str, Any]:
        """Execute one order; return the answer."""
        match order["do"]:
            case "open":
                return await self._open(order["endpoint"], order["cluster"], order["nodes"])
            case "arrivals":
                return await self._arrivals(order["revisions"])
            case "start":
                return await self._start(order)
            case "lose":
                return await self._lose(order["nodes"])
            case "usage":
                return {"cpu_s": time.process_time(), "peak_rss_mb": peak_rss_mb()}
        raise ValueError(f"unknown order {order}")

    async def _open(self, endpoint: str, cluster: str, numbers: Sequence[int]) -> dict[str, Any]:
        opening = asyncio.Semaphore(OPENING_MAX)

        async def open_node(number: int) -> None:
            async with opening:
                node = self._nodes[number] = SimulatedNode(endpoint, cluster, number)
                await retry_unavailable(OPEN_S_MAX)(node.open)  # as the agent does

        await asyncio.gather(*(open_node(number) for number in numbers))
        gc.collect()
        gc.freeze()  # as the agent does when it is ready
        return {"nodes": len(self._nodes)}

    async def _arrivals(self, revisions: Sequence[int]) -> dict[str, Any]:
        """The times at which each node reached each revision, and the number of updates."""
        nodes = list(self._nodes.values())
        ends = time.monotonic() + ARRIVAL_S_MAX
        while min(node.revision for node in nodes) < revisions[-1] and time.monotonic() < ends:
            await asyncio.sleep(POLL_S)
        times = [_arrivals_at(node, revisions) for node in nodes]
        updates = sum(len(node.updates) for node in nodes)
        for node in nodes:
            node.updates.clear()
        is_whole = all(set(revisions) <= node.pool_revisions() for node in nodes)
        return {"times": times, "updates": updates, "whole": is_whole}

    async def _start(self, order: dict[str, Any]) -> dict[str, Any]:
        nodes = [self._nodes[number] for number in order["nodes"] if number in self._nodes]
        before = sum(node.transactions for node in nodes)
        await asyncio.sleep(order["at"] - time.monotonic())
        cpu = time.process_time()
        starts = (node.start_pods(order["first"], order["count"]) for node in nodes)
        started = [pod for pods in await asyncio.gather(*starts) for pod in pods]
        return {
            "cpu_s": time.process_time() - cpu,
            "transactions": sum(node.transactions for node in nodes) - before,
            "ended": max((pod.ended for pod in started), default=order["at"]),
            "seconds": [pod.seconds for pod in started],
            "tries": sum(pod.tries for pod in started),
            "addresses": [address for pod in started for address in pod.addresses],
            "failures": [pod.failure for pod in started if pod.failure],
        }

    async def _lose(self, numbers: Sequence[int]) -> dict[str, Any]:
        lost = [self._nodes.pop(number) for number in numbers if number in self._nodes]
        await asyncio.gather(*(node.close() for node in lost))
        return {"nodes": len(lost)}


def _arrivals_at(node: SimulatedNode, revisions: Sequence[int]) -> list[float]:
    """For each revision, in rising order, the time at which the node's view first showed it."""
    times: list[float] = []
    updates = iter(node.updates)
    now, shown = 0.0, 0
    for revision in revisions:
        while shown < revision:
            now, shown = next(updates, (float("inf"), revision))
        times.append(now)
    return times


async def serve() -> None:
    """Execute orders until the input ends."""
    nodes = Nodes()
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await nodes.execute(json.loads(line))), flush=True)


if __name__ == "__main__":
    raise_gc_threshold()
    uvloop.run(serve())
