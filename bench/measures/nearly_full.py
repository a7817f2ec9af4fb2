"""The time of ADDs in a nearly full pool.

In each round, one agent deletes Pods, and another agent adds as many. The reference is an ADD in a
nearly empty pool.
"""

from __future__ import annotations

import random
from statistics import median

from bench.figures import Figure, ratio_figure
from bench.measures.calls import UNLIMITED_ALLOCATIONS, WARM_UP_CALLS
from bench.measures.last_free import SingleCalls
from bench.rig.lab import Lab
from bench.rig.seed_writer import SeedWriter
from bench.rig.seeding import all_addresses, exact_pool, seed, wide_pool
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore

ADDRESSES = 4_096
FREE_ADDRESSES = ADDRESSES // 100

SEED = 99


async def fill(store: KeyValueStore, keys: Keys) -> None:
    """Seed a full pool and an empty pool."""
    pool = exact_pool("full", ADDRESSES)
    await seed(store, keys, [pool], all_addresses(pool))
    await SeedWriter(store, keys, "other").define([wide_pool()])


def measure(lab: Lab) -> list[Figure]:
    """Measure alloc_full99_ratio."""
    deleted_pods = iter(
        random.Random(SEED).sample(range(ADDRESSES), FREE_ADDRESSES * lab.scale.rounds)
    )
    ratios: list[float] = []
    variables = UNLIMITED_ALLOCATIONS | {"ORBWEAVER_COOL_DOWN_SECONDS": "0"}
    with (
        lab.etcd(lab.seed("nearly full pool", fill)) as etcd,
        lab.agent(etcd, "node-1", variables=variables) as adding_agent,
        lab.agent(etcd, "node-2", variables=variables) as deleting_agent,
    ):
        adder, deleter = SingleCalls(adding_agent), SingleCalls(deleting_agent)
        for _ in range(WARM_UP_CALLS):
            adder.add("wide")
        for _ in lab.rounds():
            for _ in range(FREE_ADDRESSES):
                deleter.delete(next(deleted_pods), "full")
            nearly_full_ms = median(adder.add("full")[0] for _ in range(FREE_ADDRESSES))
            nearly_empty_ms = median(adder.add("wide")[0] for _ in range(FREE_ADDRESSES))
            ratios.append(nearly_full_ms / nearly_empty_ms)
    note = f"the last {FREE_ADDRESSES} of {ADDRESSES:,} addresses, one caller"
    return [ratio_figure("alloc_full99_ratio", ratios, "an ADD in a nearly empty pool", note)]
