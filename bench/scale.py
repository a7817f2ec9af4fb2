"""The sizes of a full run, and smaller sizes for a run of two minutes."""

from __future__ import annotations

from typing import NamedTuple

from bench.simulation.plan import Size


class Scale(NamedTuple):
    """Sizes of one run.

    ``seconds_max``: time budget of all measures together. ``rounds``: the largest number of
    repetitions of a measure.

    ``adds``: ADDs of 32 callers in one round; ``lone_adds``: ADDs of one caller in one round.
    ``few_claims``, ``claims``: existing claims of the smaller and of the larger cluster.
    ``pools``: existing pools of each cluster. ``full_pool``: addresses of the pool with one free
    address. ``events``: events of the long log. ``contending_pods``: Pods that several agents add
    concurrently. ``agents_apart``: whether these agents are separate processes. ``calls``: calls of
    executables. ``executions``: workflow executions in one round. ``sleepers``: sleeping
    executions. ``idle_s``: seconds for which the worker of sleeping executions is observed.
    ``leaks``: claims to reclaim. ``reported_s``: seconds for which status writes are observed.
    ``objects``: existing pools when commands are measured. ``imported``: pools of one import.
    ``closed``: existing closed executions when executions are archived. ``cluster_pods``: Pods of a
    large cluster. ``bare_controller``: whether a controller without Kubernetes is measured for
    comparison. ``quiet_s``: seconds for which an idle cluster is observed. ``one_large_round``:
    whether the CPU time of ADDs is measured in one large round. ``simulated``: size of the
    simulated cluster. ``replaced``: Pods replaced in one pool by one number of callers.
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
    one_large_round: bool
    simulated: Size
    replaced: int


QUICK_SCALE = Scale(
    name="quick",
    seconds_max=30.0,
    rounds=5,
    adds=2_000,
    lone_adds=300,
    few_claims=1_000,
    claims=10_000,
    full_pool=16_381,
    pools=1_000,
    events=50_000,
    contending_pods=512,
    agents_apart=False,
    calls=60,
    executions=500,
    sleepers=1_000,
    idle_s=1.0,
    leaks=800,
    reported_s=3.0,
    objects=5_000,
    imported=600,
    closed=10_000,
    cluster_pods=1_000,
    bare_controller=False,
    quiet_s=3.0,
    one_large_round=True,
    simulated=Size(nodes=120, pools=10, pods=10, rack_pods=15, changes=10, change_pause_s=0.1),
    replaced=500,
)
"""A quick run takes at most 120 s: ``seconds_max``, and 90 s for rounds that exceed the time
budget."""

FULL_SCALE = Scale(
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
    one_large_round=False,
    simulated=Size(nodes=1_000, pools=100, pods=10, rack_pods=100, changes=100, change_pause_s=0.4),
    replaced=5_000,
)
