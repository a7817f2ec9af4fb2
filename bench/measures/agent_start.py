"""The start time and memory of an agent in a cluster with many pools and claims.

The start ends with the first successful health check. Memory is read after warm-up ADDs.
"""

from __future__ import annotations

from contextlib import ExitStack

from bench.figures import Figure, median_figure
from bench.measures.allocation import define_wide_pool
from bench.measures.calls import UNLIMITED_ALLOCATIONS, AddCaller
from bench.measures.claim_scale import seed_claims
from bench.rig.lab import Lab
from bench.rig.seeding import pool_name, wide_pool
from tests.support.etcd import EtcdCluster


def measure(lab: Lab) -> list[Figure]:
    """Measure agent_ready_s and agent_rss_1k_pools_mb."""
    scale = lab.scale
    ready_times_s: dict[str, list[float]] = {"full": [], "empty": []}
    memory_mb: dict[str, list[float]] = {"full": [], "empty": []}
    with ExitStack() as stack:
        etcds_and_pools = {
            "full": (stack.enter_context(lab.etcd(seed_claims(lab, scale.claims))), pool_name(0)),
            "empty": (stack.enter_context(lab.etcd()), wide_pool().name),
        }
        lab.fill(etcds_and_pools["empty"][0], define_wide_pool)
        for _ in lab.rounds():
            for name, (etcd, pool) in etcds_and_pools.items():
                ready_s, rss_mb = _start_agent(lab, etcd, pool)
                ready_times_s[name].append(ready_s)
                memory_mb[name].append(rss_mb)
    sizes = f"{scale.pools:,} pools and {scale.claims:,} claims; reference: one pool, no claims"
    return [
        median_figure(
            "agent_ready_s",
            ready_times_s["full"],
            "s",
            references=ready_times_s["empty"],
            note=sizes,
        ),
        median_figure(
            "agent_rss_1k_pools_mb",
            memory_mb["full"],
            "MB",
            references=memory_mb["empty"],
            note=sizes,
        ),
    ]


def _start_agent(lab: Lab, etcd: EtcdCluster, pool: str) -> tuple[float, float]:
    """Start an agent; return its start time in seconds and its memory in MB."""
    with lab.agent(etcd, variables=UNLIMITED_ALLOCATIONS) as agent:
        AddCaller(lab, agent).warm_up(pool)
        return agent.ready_s, agent.rss_mb()
