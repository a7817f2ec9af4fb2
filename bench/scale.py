"""The sizes of a full run, and smaller ones that fit into two minutes."""

from __future__ import annotations

from typing import NamedTuple

from bench.simulation.plan import Size


class Scale(NamedTuple):
    """Sizes of one run. ``seconds_max`` is for all measures together.

    ``rounds``: repetitions at most; a measure that has used up its share of the time makes fewer.
    ``adds``: ADDs of 32 callers in one round; ``lone_adds``: of one caller. ``few_claims`` and
    ``claims``: live claims, when they are few and when they are many; ``full_pool``: addresses of a
    pool in which one is free. ``events``: length of the log. ``agents_apart``: contending agents
    are processes of their own. ``calls``: of executables. ``executions``: of workflows in one
    round; ``sleepers``: of those that sleep, ``idle_s`` how long their worker is watched;
    ``leaks``: claims to reclaim; ``reported_s``: how long reports are watched; ``objects``: pools
    beside which commands are measured; ``imported``: pools of one import; ``closed``: closed
    executions beside which one is retired; ``cluster_pods``: Pods of a large cluster,
    ``bare_controller``: a controller is started without one, too; ``quiet_s``: how long a cluster
    is watched in which nothing happens; ``simulated``: the cluster of simulated nodes;
    ``replaced``: Pods replaced for the percentiles of one number of callers in one pool.
    """

    name: str
    seconds_max: float
    rounds: int
    adds: int
    lone_adds: int
    few_claims: int
    claims: int
    full_pool: int
    pools: int
    events: int
    contending_pods: int
    agents_apart: bool
    calls: int
    executions: int
    sleepers: int
    idle_s: float
    leaks: int
    reported_s: float
    objects: int
    imported: int
    closed: int
    cluster_pods: int
    bare_controller: bool
    quiet_s: float
    simulated: Size
    replaced: int


QUICK = Scale(
    name="quick",
    seconds_max=42.0,
    rounds=5,
    adds=2_000,
    lone_adds=300,
    few_claims=1_000,
    claims=20_000,
    full_pool=16_381,
    pools=1_000,
    events=50_000,
    contending_pods=512,
    agents_apart=False,
    calls=60,
    executions=500,
    sleepers=1_000,
    idle_s=1.0,
    leaks=1_500,
    reported_s=3.0,
    objects=5_000,
    imported=600,
    closed=20_000,
    cluster_pods=3_000,
    bare_controller=False,
    quiet_s=3.0,
    simulated=Size(nodes=120, pools=10, pods=10, rack_pods=15, changes=10, change_pause_s=0.1),
    replaced=500,
)
"""``seconds_max`` leaves 78 of the 120 s: for last rounds that began in time, for those that are
longer than their measure's share, as a cluster's first, and for ending."""

FULL = Scale(
    name="full",
    seconds_max=780.0,
    rounds=9,
    adds=10_000,
    lone_adds=2_000,
    few_claims=1_000,
    claims=100_000,
    full_pool=65_533,
    pools=1_000,
    events=1_000_000,
    contending_pods=2_048,
    agents_apart=True,
    calls=300,
    executions=5_000,
    sleepers=10_000,
    idle_s=10.0,
    leaks=10_000,
    reported_s=10.0,
    objects=100_000,
    imported=10_000,
    closed=100_000,
    cluster_pods=10_000,
    bare_controller=True,
    quiet_s=30.0,
    simulated=Size(1_000, pools=100, pods=10, rack_pods=100, changes=100, change_pause_s=0.4),
    replaced=5_000,
)
