"""``bench/against.sh``: measures another IPAM plugin and Orbweaver alternately, with the same load.

Each call runs the plugin's executable, as a container runtime does. The program removes all Pods
and processes that it created.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, NoReturn

import typer
from rich.table import Table

from bench import machine, reporting
from bench.figures import PERCENTILES, percentile, rounded
from bench.rig.frames import FIRST_NEW_SERIAL
from bench.rig.kubernetes import terminate_pods
from bench.rig.lab import Lab
from bench.rig.sides import (
    Rival,
    Side,
    SideFailed,
    network_namespace,
    orbweaver_side,
    rival_side,
)
from bench.scale import FULL_SCALE
from tests.support.kubernetes import KUBERNETES_PROGRAMS, missing_programs

app = typer.Typer(add_completion=False)

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
CNI_PATH: Final = "/opt/cni/bin:/usr/lib/cni"
CALLS_MAX: Final = 10_000
CALLERS_MAX: Final = 256
TURNS_MAX: Final = 100
READY_S_MAX: Final = 120.0
"""Seconds in which a started plugin must answer an ADD with success; failed ADDs are repeated."""

RETRY_S: Final = 1.0
PROBES_MAX: Final = int(READY_S_MAX / RETRY_S)
"""ADDs that fit into ``READY_S_MAX`` with the pauses between them. Each has its own Pod."""

TERMINATED_S: Final = 1.0
"""Seconds from the Pods' deletion timestamps to the first DEL. In a cluster, containers end
meanwhile."""

SETTLED_S: Final = 4.0
"""Seconds from the last call to reading the CPU time. Agents and controllers may still work
meanwhile."""


class Plan(NamedTuple):
    """The calls to measure.

    ``calls``: the ADDs, and as many DELs, of one plugin in one turn with one number of callers.
    """

    calls: int
    callers: tuple[int, ...]
    turns: int

    @property
    def pods(self) -> int:
        """The number of Pods that all calls need."""
        return PROBES_MAX + max(self.callers) + self.calls * len(self.callers) * self.turns


class Cell(NamedTuple):
    """The results of one verb for one plugin, with one number of callers.

    ``side``: the plugin's name. ``rate``: calls per second. ``percentiles``: milliseconds.
    """

    side: str
    verb: str
    callers: int
    rate: float
    percentiles: dict[str, float]
    calls: int
    failures: list[str]


class Comparison(NamedTuple):
    """All results. ``cpu_ms``: plugin name -> CPU time of one ADD and its DEL, in all processes."""

    cells: list[Cell]
    cpu_ms: dict[str, float]


@app.command()
def against(
    conf: Annotated[
        Path,
        typer.Argument(
            help="The network configuration, JSON. Its ipam.type names the plugin. @ROOM@ is"
            " replaced by the path of the plugin's temporary directory."
        ),
    ],
    *,
    cni_path: Annotated[
        str, typer.Option(envvar="CNI_PATH", help="The directories with the plugin's executable.")
    ] = CNI_PATH,
    start: Annotated[
        str,
        typer.Option(
            help="A shell command that starts the daemons of the plugin. The command's environment"
            " has ROOM (the temporary directory), NODE_NAME, and KUBECONFIG of a new API server."
            " The command's process group is ended afterwards."
        ),
    ] = "",
    calls: Annotated[
        int,
        typer.Option(
            min=1, max=CALLS_MAX, help="ADDs, and as many DELs, in a turn for each of --callers."
        ),
    ] = 200,
    callers: Annotated[
        str, typer.Option(help="Numbers of concurrent callers, measured one after another.")
    ] = ("1,8,32"),
    turns: Annotated[int, typer.Option(min=1, max=TURNS_MAX, help="Turns of each plugin.")] = 3,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the figures to this file.")
    ] = None,
) -> None:
    """Measure another IPAM plugin side by side with Orbweaver: ADD and DEL by its executable."""
    plan = Plan(calls, _numbers(callers), turns)
    rival = _rival(conf, cni_path, start)
    _check_machine(json_file)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_FAILED))
    facts = machine.facts()
    try:
        comparison = _measure(plan, rival)
    except SideFailed as error:
        _fail(str(error), EXIT_FAILED)
    _show(comparison, facts)
    if json_file is not None:
        json_file.write_text(json.dumps(_document(comparison, facts), indent=2) + "\n")


# ---------------------------------------------------------------------------------- arguments


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() and 0 < int(part) <= CALLERS_MAX for part in parts):
        _fail(f"--callers {text!r}: expected numbers from 1 to {CALLERS_MAX}, such as 1,8,32")
    return tuple(dict.fromkeys(map(int, parts)))


def _rival(conf: Path, cni_path: str, start: str) -> Rival:
    try:
        text = conf.read_text()
        name = json.loads(text)["ipam"]["type"]
    except OSError as error:
        _fail(f"cannot read the network configuration {conf}: {error.strerror}")
    except ValueError as error:
        _fail(f"{conf} is not JSON: {error}")
    except (KeyError, TypeError):
        _fail(f"{conf} has no ipam.type, which names the plugin to measure")
    executable = shutil.which(str(name), path=cni_path)
    if executable is None or "/" in str(name):
        _fail(f"no executable {str(name)!r} in CNI_PATH ({cni_path}): set CNI_PATH or --cni-path")
    return Rival(plugin=Path(executable), conf=text, start=start, cni_path=cni_path)


def _check_machine(json_file: Path | None) -> None:
    if json_file is not None and not json_file.absolute().parent.is_dir():
        _fail(f"--json {json_file}: there is no directory {json_file.absolute().parent}")
    missing = [name for name in ("etcd", "unshare") if shutil.which(name) is None]
    if missing:
        _fail(f"no {' and no '.join(missing)} in PATH; run: make setup")
    if os.geteuid():
        _fail("creating a network namespace requires root: run against.sh as root")


def _print_error(text: str) -> None:
    typer.echo(f"against: {text}", err=True)


def _fail(text: str, status: int = EXIT_USAGE) -> NoReturn:
    _print_error(text)
    raise typer.Exit(status)


# --------------------------------------------------------------------------------- measuring


def _measure(plan: Plan, rival: Rival) -> Comparison:
    kubernetes = not (missing := missing_programs())
    if missing:
        _print_error(
            f"no {' and no '.join(missing)} in {KUBERNETES_PROGRAMS}: "
            "both plugins run without an API server"
        )
    elif not rival.start:
        _print_error(
            f"no --start: {rival.plugin.name} runs without an API server, Orbweaver with one"
        )
    pods = range(FIRST_NEW_SERIAL, FIRST_NEW_SERIAL + plan.pods)
    with Lab(FULL_SCALE) as lab, ExitStack() as stack:
        netns = stack.enter_context(network_namespace())
        variables = {"CNI_PATH": rival.cni_path, "CNI_NETNS": netns}
        # The other plugin starts first, because its set-up may fail.
        other_side = stack.enter_context(
            rival_side(lab, pods, rival, variables, kubernetes=kubernetes)
        )
        _wait_ready(lab, other_side)
        our_side = stack.enter_context(orbweaver_side(lab, pods, variables, kubernetes=kubernetes))
        _wait_ready(lab, our_side)
        return _compare(lab, [our_side, other_side], plan)


def _compare(lab: Lab, sides: Sequence[Side], plan: Plan) -> Comparison:
    for side in sides:
        first_pod = FIRST_NEW_SERIAL + PROBES_MAX
        _warm_up(lab, side, range(first_pod, first_pod + max(plan.callers)))
    reports: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    executables_cpu_s = dict.fromkeys((side.name for side in sides), 0.0)
    servers_before_s = {side.name: side.cpu_s() for side in sides}
    first_pod = FIRST_NEW_SERIAL + PROBES_MAX + max(plan.callers)
    for turn in range(plan.turns):
        for callers in plan.callers:
            lab.report(f"turn {turn + 1} of {plan.turns}, callers: {callers} ...")
            pods = range(first_pod, first_pod + plan.calls)
            first_pod += plan.calls
            for verb in ("ADD", "DEL"):
                if verb == "DEL":
                    _terminate(lab, sides, pods)
                for side in sides if turn % 2 == 0 else reversed(sides):
                    report = side.call(lab, verb, pods, callers)
                    executables_cpu_s[side.name] += report["cpu_ms"] * plan.calls / 1e3
                    reports.setdefault((side.name, verb, callers), []).append(report)
    time.sleep(SETTLED_S)
    total = plan.calls * len(plan.callers) * plan.turns
    used_s = {
        side.name: side.cpu_s() - servers_before_s[side.name] + executables_cpu_s[side.name]
        for side in sides
    }
    cells = [
        _cell(name, verb, callers, plan.calls, cell_reports)
        for (name, verb, callers), cell_reports in reports.items()
    ]
    return Comparison(cells, {name: used * 1e3 / total for name, used in used_s.items()})


def _wait_ready(lab: Lab, side: Side) -> None:
    failures: list[str] = []
    deadline = time.monotonic() + READY_S_MAX
    for number in range(PROBES_MAX):
        pod = [FIRST_NEW_SERIAL + number]
        failures = side.call(lab, "ADD", pod, 1)["failures"]
        if not failures:
            side.call(lab, "DEL", pod, 1)
            return
        if side.failure() or not side.may_be_starting or time.monotonic() >= deadline:
            break
        time.sleep(RETRY_S)
    why = side.failure() or f"its ADD fails: {failures[0]}"
    raise SideFailed(f"{side.name}: {why}")


def _warm_up(lab: Lab, side: Side, pods: Sequence[int]) -> None:
    for verb in ("ADD", "DEL"):
        side.call(lab, verb, pods, len(pods))


def _terminate(lab: Lab, sides: Sequence[Side], pods: Sequence[int]) -> None:
    for etcd in filter(None, (side.etcd for side in sides)):
        lab.fill(etcd, lambda store, _: terminate_pods(store, pods))
    time.sleep(TERMINATED_S)


def _cell(side: str, verb: str, callers: int, calls: int, reports: list[dict[str, Any]]) -> Cell:
    latencies_ms = [duration for report in reports for duration in report["latencies_ms"]]
    rate = len(latencies_ms) / sum(report["seconds"] for report in reports)
    percentiles = {name: percentile(latencies_ms, share) for name, share in PERCENTILES.items()}
    failures = [text for report in reports for text in report["failures"]]
    return Cell(side, verb, callers, rate, percentiles, calls * len(reports), failures)


# ------------------------------------------------------------------------------------- output


def _show(comparison: Comparison, facts: dict[str, str]) -> None:
    console = reporting.terminal(errors=False)
    reporting.print_machine(console, facts)
    table = Table(title="ADD and DEL by executable, ms", title_justify="left")
    for name in ("verb", "callers", "plugin", "calls/s", "ratio", *PERCENTILES, "calls", "failed"):
        table.add_column(name, justify="left" if name in ("verb", "plugin") else "right")
    others = {
        (cell.verb, cell.callers): cell for cell in comparison.cells if cell.side != "orbweaver"
    }
    for cell in sorted(comparison.cells, key=lambda cell: (cell.verb, cell.callers)):
        other_cell = others[cell.verb, cell.callers]
        ratio = f"{cell.rate / other_cell.rate:.2f}" if cell is not other_cell else ""
        percentiles = [f"{value:.2f}" for value in cell.percentiles.values()]
        numbers = (
            f"{cell.rate:.0f}",
            ratio,
            *percentiles,
            f"{cell.calls:,}",
            f"{len(cell.failures):,}",
        )
        table.add_row(cell.verb, str(cell.callers), cell.side, *numbers)
    console.print(table)
    for side, cpu_ms in comparison.cpu_ms.items():
        console.print(f"CPU of an ADD and its DEL, all processes of {side}: {cpu_ms:.1f} ms")
    for cell in comparison.cells:
        if cell.failures:
            console.print(f"{cell.side}, {cell.verb}, {cell.callers} callers: {cell.failures[0]}")


def _document(comparison: Comparison, facts: dict[str, str]) -> dict[str, Any]:
    cells = [
        cell._asdict()
        | {"rate": rounded(cell.rate)}
        | {"percentiles": {name: rounded(value) for name, value in cell.percentiles.items()}}
        | {"failures": len(cell.failures)}
        for cell in comparison.cells
    ]
    cpu_ms = {name: rounded(value) for name, value in comparison.cpu_ms.items()}
    return {"machine": facts, "cells": cells, "cpu_ms": cpu_ms}


if __name__ == "__main__":
    app(prog_name="bench/against.sh")
