"""The table of measures, with the figures and targets of each measure.

docs/contributing/benchmarks.md publishes the names of figures and the bounds of targets; a
refactoring must not change them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from bench.figures import Figure, Target
from bench.measures import (
    agent_start,
    allocation,
    as_of,
    claim_scale,
    clusterip,
    commands,
    conflict_detection,
    console,
    contention,
    coordinator,
    device_plugin,
    engine,
    engine_idle,
    executable,
    group_commit,
    history,
    kube_add,
    kube_add_cpu,
    kube_controller,
    kube_delete,
    kube_idle,
    last_free,
    nearly_full,
    percentiles,
    reclaim,
    replay,
    retention,
    simulation,
    sriov_plan,
    takeover,
    vf_cycles,
)
from bench.rig import cluster
from bench.rig.lab import Lab
from bench.scale import QUICK_SCALE, Scale


class Measure(NamedTuple):
    """A measure of the benchmark.

    ``targets``: figure -> target; None: no bound. ``share``: the weight of the measure in the time
    of a run. ``rig``: adjacent measures with the same name share processes (``Lab.shared``).
    """

    name: str
    targets: dict[str, Target | None]
    measure: Callable[[Lab], list[Figure]]
    share: int
    quick: bool = True
    rig: str = ""


MEASURES: tuple[Measure, ...] = (
    Measure(
        "allocation",
        {
            "alloc_rate_32": Target("at least", 3_000, aim=5_000),
            "alloc_p50_1_ms": Target("at most", 2.0),
            "alloc_cpu_ms": Target("at most", 1.0, aim=0.3),
            "alloc_rate_of_bare_32": Target("at least", 0.8),
            "alloc_p50_of_bare_1": Target("at most", 1.7),
            "alloc_cpu_of_bare": Target("at most", 1.6),
            "alloc_rate_of_client_32": None,
            "alloc_cpu_of_client": None,
            "client_cpu_of_grpc": None,
        },
        measure=allocation.measure,
        share=24,
    ),
    Measure(
        "group_commit",
        {"store_batch_ratio": Target("at least", 2.0)},
        measure=group_commit.measure,
        share=12,
    ),
    Measure(
        "contention",
        {
            "contention_failures": Target("at most", 0),
            "contention_duplicates": Target("at most", 0),
            "contention_time_ratio": Target("at most", 2.0),
        },
        measure=contention.measure,
        share=8,
    ),
    Measure(
        "executable",
        {
            "exec_version_ratio": Target("at most", 0.15),
            "exec_add_over_socket_ratio": Target("at most", 1.8),
        },
        measure=executable.measure,
        share=8,
    ),
    Measure(
        "device_plugin",
        {"devices_ready_s": Target("at most", 1.0), "device_allocate_ms": Target("at most", 5.0)},
        measure=device_plugin.measure,
        share=4,
    ),
    Measure(
        "sriov_plan",
        {"sriov_plan_ms": Target("at most", 50.0)},
        measure=sriov_plan.measure,
        share=1,
    ),
    Measure(
        "vf_cycles",
        {"vf_leaks": Target("at most", 0)},
        measure=vf_cycles.measure,
        share=60,
        quick=False,
    ),
    Measure(
        "claim_scale",
        {"alloc_scale_ratio": Target("at most", 1.2)},
        measure=claim_scale.measure,
        share=14,
    ),
    Measure(
        "agent_start",
        {
            "agent_ready_s": Target("at most", 1.0),
            "agent_rss_1k_pools_mb": Target("at most", 120.0),
        },
        measure=agent_start.measure,
        share=10,
    ),
    Measure(
        "last_free",
        {
            "alloc_last_free_ms": Target("at most", 20.0),
            "alloc_last_free_ratio": Target("at most", 3.0),
        },
        measure=last_free.measure,
        share=10,
    ),
    Measure(
        "nearly_full",
        {"alloc_full99_ratio": Target("at most", 1.5)},
        measure=nearly_full.measure,
        share=8,
    ),
    Measure(
        "percentiles",
        dict.fromkeys(percentiles.NAMES),
        measure=percentiles.measure,
        share=60,
        quick=False,  # a p99.9 needs more calls than a quick run has time for
    ),
    Measure(
        "replay",
        {
            "replay_rate": Target("at least", 250_000),
            "replay_live_rate": None,
            "replay_state_rate": None,
        },
        measure=replay.measure,
        share=8,
    ),
    Measure(
        "commands",
        {"command_scale_ratio": Target("at most", 3)},
        measure=commands.measure_scale,
        share=6,
    ),
    Measure(
        "import", {"import_10k_s": Target("at most", 60)}, measure=commands.measure_import, share=6
    ),
    Measure(
        "retention",
        {"retention_scale_ratio": Target("at most", 2)},
        measure=retention.measure,
        share=5,
    ),
    Measure(
        "history", {"history_1m_ms": Target("at most", 1_000)}, measure=history.measure, share=6
    ),
    Measure(
        "as_of",
        {"as_of_1m_ms": Target("at most", 250), "as_of_cold_s": None},
        measure=as_of.measure,
        share=6,
    ),
    Measure(
        "console",
        {
            "console_seek_ms": Target("at most", 300),
            "console_first_paint_ms": Target("at most", 1_000),
        },
        measure=console.measure,
        share=20,
        quick=False,
    ),
    Measure(
        "engine",
        {
            "wf_rate": Target("at least", 300, aim=1_000),
            "wf_rate_of_bare": Target("at least", 0.35),
            "wf_replay_4000_ms": Target("at most", 100),
        },
        measure=engine.measure,
        share=12,
    ),
    Measure(
        "takeover", {"wf_takeover_s": Target("at most", 5)}, measure=takeover.measure, share=12
    ),
    Measure(
        "engine_idle",
        {"wf_idle_cpu_pct": Target("at most", 5)},
        measure=engine_idle.measure,
        share=10,
    ),
    Measure(
        "reclaim",
        {
            "reclaim_one_ms": Target("at most", 1_000),
            "reclaim_10k_s": Target("at most", 30),
            "scan_100k_s": Target("at most", 2),
        },
        measure=reclaim.measure,
        share=18,
    ),
    Measure(
        "kube_idle",
        {
            "controller_idle_pct": Target("at most", 0.2),
            "agent_idle_pct": Target("at most", 0.05),
            "controller_rss_mb": Target("at most", 79),
            "agent_rss_mb": Target("at most", 75),
        },
        measure=kube_idle.measure,
        share=8,
        rig=cluster.NAME,
    ),
    Measure(
        "kube_add_cpu",
        {
            "kube_add_cpu_ratio": Target("at most", 0.4),
            "kube_cpu_split_executable": Target("at most", 0.06),
            "kube_cpu_split_agent": Target("at most", 0.15),
            "kube_cpu_split_controller": Target("at most", 0.1),
            "kube_cpu_split_api_server": Target("at most", 0.25),
            "kube_cpu_split_etcd": Target("at most", 0.15),
            "kube_requests_per_add": None,
        },
        measure=kube_add_cpu.measure,
        share=8,
        rig=cluster.NAME,
    ),
    Measure(
        "kube_delete",
        {
            "kube_del_of_add_1": Target("at most", 1.2),
            "kube_del_of_add_1_p99": Target("at most", 1.2),
        },
        measure=kube_delete.measure,
        share=10,
        rig=cluster.NAME,
    ),
    Measure(
        "kube_add",
        {
            "kube_add_rate_8": Target("at least", 120),
            "kube_add_p50_8_ms": Target("at most", 60),
            "kube_add_of_bare_8": Target("at least", 5),
        },
        measure=kube_add.measure,
        share=14,
        rig=cluster.NAME,
    ),
    Measure(
        "kube_controller",
        {
            "controller_start_10k_s": Target("at most", 10),
            "controller_rss_10k_mb": Target("at most", 200),
            "status_lag_ms": Target("at most", 1_000),
            "status_writes_s": Target("at most", 2),
        },
        measure=kube_controller.measure,
        share=30,
    ),
    Measure(
        "simulation",
        {
            "sim_fanout_s": Target("at most", 2),
            "sim_mass_start_s": Target("at most", 20),
            "sim_mass_start_failures": Target("at most", 0),
            "sim_rack_loss_s": None,
        },
        measure=simulation.measure,
        share=14,
    ),
    Measure(
        "conflict_detection",
        {
            # In these published names, a "look" is a probe and a "stranger" a conflicting host.
            "look_over_window_ms": Target("at most", 15.0),
            "look_stranger_ms": Target("at most", 15.0),
            "look_32_over_window_ms": None,
        },
        measure=conflict_detection.measure,
        share=4,
    ),
    Measure(
        "coordinator",
        {
            "coordinator_add_ms": Target("at most", 3.0),
            "coordinator_kernel_wait_ms": None,
            "coordinator_del_ms": Target("at most", 3.0),
        },
        measure=coordinator.measure,
        share=6,
    ),
    Measure(
        "clusterip",
        {"clusterip_connect_ratio": Target("at least", 0.8), "clusterip_change_ms": None},
        measure=clusterip.measure,
        share=5,
    ),
    Measure(
        "coordinator_executable",
        {"coordinator_exec_ms": Target("at most", 30.0)},
        measure=coordinator.measure_executable,
        share=6,
    ),
    Measure(
        "coordinator_crowd",
        {"coordinator_add_32_ms": None, "leaks_after_10k": Target("at most", 0)},
        measure=coordinator.measure_concurrent,
        share=30,
    ),
)

TARGETS: dict[str, Target | None] = {
    name: target for measure in MEASURES for name, target in measure.targets.items()
}


def measures_of(scale: Scale) -> list[Measure]:
    return [measure for measure in MEASURES if measure.quick or scale is not QUICK_SCALE]


def measures_named(names: Iterable[str]) -> list[Measure]:
    """Select measures by names of measures or figures. Raises KeyError for an unknown name."""
    requested = set(names)
    unknown = requested - {measure.name for measure in MEASURES} - TARGETS.keys()
    if unknown:
        raise KeyError(min(unknown))
    return [
        measure
        for measure in MEASURES
        if measure.name in requested or requested & measure.targets.keys()
    ]
