"""The sizes of a full run and of a quick run."""

from __future__ import annotations

from typing import NamedTuple

from bench.simulation.plan import Size


class Scale(NamedTuple):
    """Sizes of one run.

    ``seconds_max``: the time budget of all measures. ``rounds``: the largest number of rounds.

    ``adds``, ``lone_adds``: ADDs of 32 callers, and of one caller, in a round. ``few_claims``,
    ``claims``: claims of the smaller and of the larger cluster. ``full_pool``: addresses of the
    pool with one free address. ``contending_pods``: Pods that several agents add concurrently;
    ``agents_apart``: whether these agents are processes. ``idle_s``: seconds for which the worker
    of ``sleepers`` is observed. ``leaks``: claims to reclaim. ``reported_s``: seconds of the ADDs
    whose status writes are counted. ``objects``: pools of the larger cluster in which more pools
    are created. ``closed``: closed executions. ``cluster_pods``: Pods of a real API server.
    ``bare_controller``: whether a controller without Kubernetes is measured. ``quiet_s``: seconds
    for which an idle cluster is observed. ``one_large_round``: whether ``kube_add_cpu`` measures
    one large round. ``replaced``: Pods replaced per pool and number of callers, in all rounds.
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
"""At most 120 s: ``seconds_max``, and 90 s for rounds that exceed the budget."""

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
