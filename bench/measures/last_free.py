"""The time of an ADD in a pool with exactly one free address.

Before each ADD, a random Pod is deleted. Released addresses have no cool-down.
"""

from __future__ import annotations

import random
from statistics import median

from bench.callers import framed
from bench.figures import Figure, median_figure, ratio_figure
from bench.measures.calls import UNLIMITED_ALLOCATIONS, WARM_UP_CALLS, CallFailed
from bench.rig.agent import AgentProcess
from bench.rig.frames import FIRST_NEW_SERIAL, netconf
from bench.rig.lab import Lab
from bench.rig.seed_writer import SeedWriter
from bench.rig.seeding import all_addresses, exact_pool, seed, wide_pool
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore

SEED = 16
ADDS = 20


async def _fill(store: KeyValueStore, keys: Keys, addresses: int) -> None:
    pool = exact_pool("full", addresses)
    await seed(store, keys, [pool], all_addresses(pool))
    await SeedWriter(store, keys, "other").define([wide_pool()])


class SingleCalls:
    """Makes and times calls in this process, one at a time."""

    def __init__(self, agent: AgentProcess) -> None:
        self._parameters = {"sockets": [str(agent.framed_path)], "callers": 1, "count": 1}
        self._next = FIRST_NEW_SERIAL

    def add(self, pool: str) -> tuple[float, list[str]]:
        """Run an ADD; return milliseconds and addresses. Raises CallFailed."""
        self._next += 1
        return self._call("ADD", self._next, pool)

    def delete(self, serial: int, pool: str) -> None:
        """Run a DEL. Raises CallFailed."""
        self._call("DEL", serial, pool)

    def _call(self, verb: str, serial: int, pool: str) -> tuple[float, list[str]]:
        conf = netconf((pool,)).decode()
        report = framed.call(self._parameters | {"verb": verb, "first": serial, "netconf": conf})
        if report["failures"]:
            raise CallFailed(f"{verb} in {pool}: {report['failures'][0]}")
        return report["latencies_ms"][0], report["addresses"]


def measure(lab: Lab) -> list[Figure]:
    """Measure alloc_last_free_ms and alloc_last_free_ratio."""
    addresses = lab.scale.full_pool
    deleted_pods = iter(random.Random(SEED).sample(range(addresses), ADDS * lab.scale.rounds))
    last_free_ms: list[float] = []
    nearly_empty_ms: list[float] = []
    variables = UNLIMITED_ALLOCATIONS | {"ORBWEAVER_COOL_DOWN_SECONDS": "0"}
    data = lab.seed("full pool", lambda store, keys: _fill(store, keys, addresses))
    with lab.etcd(data) as etcd, lab.agent(etcd, variables=variables) as agent:
        calls = SingleCalls(agent)
        for _ in range(WARM_UP_CALLS):
            calls.add("wide")
        for _ in lab.rounds():
            durations_ms = []
            for _ in range(ADDS):
                calls.delete(next(deleted_pods), "full")
                durations_ms.append(calls.add("full")[0])
            last_free_ms.append(median(durations_ms))
            nearly_empty_ms.append(median(calls.add("wide")[0] for _ in range(ADDS)))
    note = f"{addresses:,} addresses, one free; reference: an ADD in a nearly empty pool"
    ratios = [
        duration / reference
        for duration, reference in zip(last_free_ms, nearly_empty_ms, strict=True)
    ]
    return [
        median_figure(
            "alloc_last_free_ms", last_free_ms, "ms", references=nearly_empty_ms, note=note
        ),
        ratio_figure("alloc_last_free_ratio", ratios, "an ADD in a nearly empty pool", note),
    ]
