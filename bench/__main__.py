"""``python -m bench``: runs measures; prints the figures and writes them to files."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from bench import machine, plots, reporting
from bench.running import MeasureResult, run_measures
from bench.scale import FULL_SCALE, QUICK_SCALE
from bench.table import MEASURES, measures_named, measures_of
from core.process.python_garbage_collector import raise_gc_threshold

RESULTS = Path(__file__).resolve().parent / "results"
EXIT_FAILED = 1
EXIT_USAGE = 2


def bench(
    names: Annotated[
        list[str] | None, typer.Argument(help="names of measures or figures; default: all")
    ] = None,
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="at most 120 s; JSON lines on standard output")
    ] = False,
    show_list: Annotated[
        bool, typer.Option("--list", help="list measures and their targets")
    ] = False,
) -> None:
    """Measure Orbweaver on this machine."""
    if show_list:
        _show_list()
        return
    scale = QUICK_SCALE if quick else FULL_SCALE
    try:
        measures = measures_named(names) if names else measures_of(scale)
    except KeyError as error:
        typer.echo(f"no measure {error}: see --list", err=True)
        raise typer.Exit(EXIT_USAGE) from None
    raise_gc_threshold()  # as in orbctl: both programs read long logs
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_FAILED))
    console = reporting.terminal(errors=quick)
    facts = machine.facts()
    reporting.print_machine(console, facts)
    results = run_measures(scale, measures, _print_lines if quick else _print_nothing)
    reporting.print_tables(console, results)
    run_name = reporting.run_name(scale.name, [measure.name for measure in measures if names])
    written_files = [
        reporting.write(RESULTS, reporting.document(scale.name, facts, results), run_name)
    ]
    if not quick:
        figures = [figure for result in results for figure in result.figures]
        written_files += plots.write(RESULTS / run_name if names else RESULTS, figures)
    console.print(f"written: {', '.join(map(str, written_files))}")
    if any(result.failure for result in results):
        raise typer.Exit(EXIT_FAILED)


def _show_list() -> None:
    for measure in MEASURES:
        for figure, target in measure.targets.items():
            typer.echo(f"{figure:24} {measure.name:12} {target or 'no target'}")


def _print_lines(result: MeasureResult) -> None:
    sys.stdout.write(reporting.lines(result))
    sys.stdout.flush()


def _print_nothing(_: MeasureResult) -> None:
    pass


if __name__ == "__main__":
    typer.run(bench)
