"""A cluster of simulated nodes: pools change, all Pods start concurrently, and a rack is lost.

A view is a node's copy of the configuration. A run fails if a view lacks a change, an address is
allocated twice, the log has a violation, or a claim leaks.
"""

from __future__ import annotations

from statistics import median

from bench.figures import Figure, median_figure
from bench.rig.lab import Lab
from bench.simulation.plan import Size
from bench.simulation.run import PODS_START, Run, Simulation

CALLERS = 32
ROUNDS = 3
FULL_RUN_NODES = 1_000
"""Nodes in a full run; the targets are for this number."""


def measure(lab: Lab) -> list[Figure]:
    """Measure sim_fanout_s, sim_mass_start_s, sim_mass_start_failures and sim_rack_loss_s."""
    size = lab.scale.simulated
    runs: list[Run] = []
    one_writer_s: list[float] = []
    for _ in lab.rounds(ROUNDS):
        with lab.etcd() as etcd:
            run = Simulation(lab, etcd, size).run()
            parameters = {"endpoint": etcd.endpoints[0], "way": "writer", "callers": CALLERS}
            count = size.nodes * size.pods
            report = lab.call("store", parameters | {"first": 0, "count": count})
            one_writer_s.append(report["seconds"])
        assert not run.consistency.faults, run.consistency
        assert not run.duplicates, f"{run.duplicates} addresses were allocated twice"
        runs.append(run)
    return [_fanout(lab, runs), *_starts(lab, runs, one_writer_s), _loss(lab, runs)]


def _fanout(lab: Lab, runs: list[Run]) -> Figure:
    size = lab.scale.simulated
    times = [seconds for run in runs for seconds in run.fanout.reached_s]
    note = (
        f"99 % of {size.nodes:,} agents, {size.changes} changes, one every"
        f" {size.change_pause_s:g} s; the slowest {max(times):.2f} s; {_memory(runs)}"
        f"{_full_run_note(size)}"
    )
    return median_figure("sim_fanout_s", times, "s", note=note)


def _starts(lab: Lab, runs: list[Run], one_writer_s: list[float]) -> tuple[Figure, Figure]:
    size = lab.scale.simulated
    phases = [phase for run in runs for phase in run.phases if phase.name == PODS_START]
    cpu_s = median(phase.nodes_cpu_s + phase.etcd.cpu_s for phase in phases)
    note = (
        f"{size.nodes:,} agents start {size.nodes * size.pods:,} Pods concurrently, {cpu_s:.1f} s"
        " of CPU of agents and etcd; reference: claiming as many addresses by one writer's group"
        f" commit{_full_run_note(size)}"
    )
    failed = [len(run.failures) for run in runs]
    pods = size.nodes * size.pods + len(size.lost_nodes) * (size.rack_pods - size.pods)
    note_failed = (
        f"of {len(runs) * pods:,}; addresses allocated twice, violations and leaks fail a run"
    )
    return (
        median_figure(
            "sim_mass_start_s",
            [run.start.seconds for run in runs],
            "s",
            references=one_writer_s,
            note=note,
        ),
        Figure("sim_mass_start_failures", sum(failed), "failed ADDs", note=note_failed),
    )


def _loss(lab: Lab, runs: list[Run]) -> Figure:
    size = lab.scale.simulated
    note = (
        f"{len(size.lost_nodes)} nodes with {runs[0].lost.claims:,} claims;"
        f" {size.nodes - len(size.lost_nodes):,} agents watch meanwhile"
    )
    return median_figure("sim_rack_loss_s", [run.lost.seconds for run in runs], "s", note=note)


def _full_run_note(size: Size) -> str:
    """The end of the note of a run that is smaller than a full run."""
    if size.nodes >= FULL_RUN_NODES:
        return ""
    return f"; a full run has {FULL_RUN_NODES:,} agents"


def _memory(runs: list[Run]) -> str:
    peak_mb = max(run.nodes_rss_mb for run in runs)
    return f"at most {peak_mb:.0f} MB in {runs[0].processes} processes"
