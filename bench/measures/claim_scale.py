"""The time of an ADD with many existing claims, relative to the time with few claims.

Two agents, each with its own etcd, differ only in the number of claims.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from bench.figures import Figure, ratio_figure
from bench.measures.calls import UNLIMITED_ALLOCATIONS, AddCaller
from bench.rig.lab import Lab
from bench.rig.seeding import many_pools, pool_name, seed, spread_addresses
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore


def seed_claims(lab: Lab, claims: int) -> Path:
    """Seed a cluster with claims in ``scale.pools`` pools; return its data."""

    async def fill(store: KeyValueStore, keys: Keys) -> None:
        pools = many_pools(lab.scale.pools)
        await seed(store, keys, pools, spread_addresses(pools, claims))

    return lab.seed(f"{claims} claims", fill)


def measure(lab: Lab) -> list[Figure]:
    """Measure alloc_scale_ratio."""
    few, many = lab.scale.few_claims, lab.scale.claims
    p50s: dict[int, list[float]] = {few: [], many: []}
    with ExitStack() as stack:
        callers: dict[int, AddCaller] = {}
        for claims in p50s:
            etcd = stack.enter_context(lab.etcd(seed_claims(lab, claims)))
            agent = stack.enter_context(lab.agent(etcd, variables=UNLIMITED_ALLOCATIONS))
            callers[claims] = AddCaller(lab, agent)
            callers[claims].warm_up(pool_name(0))
        for number in lab.rounds():
            # A new pool, so that earlier rounds do not influence this round.
            pool = pool_name(1 + number)
            for claims in (few, many) if number % 2 else (many, few):
                p50s[claims].append(callers[claims].add(lab.scale.lone_adds, 1, pool).p50_ms)
    ratios = [p50_many / p50_few for p50_many, p50_few in zip(p50s[many], p50s[few], strict=True)]
    note = (
        f"p50 of one caller at {many:,} live claims ({min(p50s[many]):.2f} ms at best)"
        f" over that at {few:,} ({min(p50s[few]):.2f} ms at best)"
    )
    return [ratio_figure("alloc_scale_ratio", ratios, f"the p50 at {few:,} claims", note)]
