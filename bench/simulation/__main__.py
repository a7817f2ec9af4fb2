"""``python -m bench.simulation``: runs one simulation, and prints its measurements.

See docs/contributing/benchmarks.md, section "What 5,000 nodes and 500,000 claims need of etcd".
"""

from __future__ import annotations

import math
import signal
import sys
from typing import Annotated, Final

import typer

from bench.figures import percentile
from bench.machine import load
from bench.rig.lab import Lab
from bench.scale import FULL_SCALE
from bench.simulation.fleet import PROCESSES_MIN
from bench.simulation.plan import POOLS_MAX, RACK_NODES, RACK_PODS_MAX, Size
from bench.simulation.run import Run, Simulation
from core.process.python_garbage_collector import raise_gc_threshold

EXIT_FAILED: Final = 1


def simulate(
    nodes: Annotated[int, typer.Option(min=PROCESSES_MIN, max=POOLS_MAX * RACK_NODES)] = 1_000,
    pools: Annotated[
        int, typer.Option(min=1, max=POOLS_MAX, help="pools; raised to one for each rack")
    ] = 100,
    pods: Annotated[
        int, typer.Option(min=1, help="Pods of each node; all start concurrently")
    ] = 10,
    rack_pods: Annotated[
        int,
        typer.Option(
            max=RACK_PODS_MAX,
            help="Pods on each node of a rack when the rack is lost; more than --pods",
        ),
    ] = 100,
    changes: Annotated[
        int | None,
        typer.Option(
            min=1, help="pools to change, one after the other; default: all", show_default=False
        ),
    ] = None,
    pause_s: Annotated[
        float, typer.Option(min=0, help="seconds between two changes of pools")
    ] = 0.4,
) -> None:
    """Simulate one cluster with its own etcd, and print the measurements.

    The exit code is 1 if the log has violations, state keys differ from it, a claim leaked, or an
    address was allocated twice.
    """
    pools = max(pools, math.ceil(nodes / RACK_NODES))  # each rack needs a pool
    if rack_pods <= pods:
        raise typer.BadParameter(f"--rack-pods {rack_pods} must be more than --pods {pods}")
    if changes is not None and changes > pools:
        raise typer.BadParameter(
            f"--changes {changes} is more than the {pools} pools, each of which changes once"
        )
    raise_gc_threshold()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_FAILED))
    size = Size(nodes, pools, pods, rack_pods, changes or pools, pause_s)
    load_before = load()
    with Lab(FULL_SCALE) as lab, lab.etcd() as etcd:
        report(size, Simulation(lab, etcd, size).run(), load_before)


def report(size: Size, run: Run, load_before: str) -> None:
    """Print the measurements. Raises typer.Exit with code 1 if the run has faults."""
    _print(size, run, load_before)
    if run.faults:
        typer.echo(f"simulation: faults found: {run.faults} (see the counts above)", err=True)
        raise typer.Exit(EXIT_FAILED)


def _print(size: Size, run: Run, load_before: str) -> None:
    reached, start = run.fanout.reached_s, run.start
    typer.echo(f"{size}; load before: {load_before}")
    typer.echo(
        f"fan-out: p50 {percentile(reached, 0.5):.3f} s, p90 {percentile(reached, 0.9):.3f} s,"
        f" slowest {max(reached):.3f} s; {run.fanout.updates:,} updates of the nodes' configuration"
    )
    for name, started in (("Pods start", start), ("the rack fills", run.rack)):
        typer.echo(
            f"{name}: {started.seconds:.2f} s for {len(started.addresses):,} Pods,"
            f" p50 {percentile(started.latencies_s, 0.5):.2f} s,"
            f" p99 {percentile(started.latencies_s, 0.99):.2f} s, {started.tries:,} tries,"
            f" {started.transactions:,} transactions, {started.cpu_s:.1f} s of CPU,"
            f" {len(started.failures):,} failures {started.failures[:1]}"
        )
    typer.echo(
        f"rack lost: {run.lost.seconds:.2f} s for {run.lost.claims:,} claims,"
        f" {run.lost.dropped_changes} changes of Pods left to the periodic reclaim scan"
    )
    typer.echo(f"{run.consistency}; allocated twice: {run.duplicates}")
    typer.echo(
        f"memory: {run.nodes_rss_mb:.0f} MB in {run.processes} processes with nodes,"
        f" {run.here_rss_mb:.0f} MB in this process"
    )
    for phase in run.phases:
        used = " ".join(f"{name}={value:,.1f}" for name, value in phase.etcd._asdict().items())
        typer.echo(
            f"{phase.name}: {phase.seconds:.1f} s, CPU: nodes {phase.nodes_cpu_s:.1f} s,"
            f" this process {phase.here_cpu_s:.1f} s; etcd {used}"
        )


if __name__ == "__main__":
    typer.run(simulate)
