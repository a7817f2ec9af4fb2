"""Prints results as tables and JSON lines, and writes the results file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.figures import PERCENTILES, Figure, rounded
from bench.measures import percentiles
from bench.running import MeasureResult
from bench.table import TARGETS

WIDTH = 160
SAMPLES_KEPT_MAX = 1_000
"""With more samples, the results file has only percentiles."""

RUN_NAME_CHARACTERS_MAX = 100
"""A longer name is replaced by one with a digest, because file names are limited to 255 bytes."""

DIGEST_CHARACTERS = 8


def lines(result: MeasureResult) -> str:
    """One line of JSON for each figure."""
    return "".join(f"{json.dumps(figure.line())}\n" for figure in result.figures)


def table(results: Sequence[MeasureResult]) -> Table:
    """A table of the figures that are not percentiles."""
    shown = Table(title="Orbweaver benchmarks", title_justify="left")
    for name in ("figure", "value", "spread", "unit", "reference", "ratio", "target", "met"):
        right = name in ("value", "reference", "ratio")
        shown.add_column(name, justify="right" if right else "left", overflow="fold")
    for result in results:
        for figure in result.figures:
            if figure.name not in percentiles.NAMES:
                shown.add_row(*_row(figure))
        if result.failure:
            shown.add_row(result.measure.name, "failed", "", result.failure)
        if result.missing:
            shown.add_row(result.measure.name, "not taken", "", result.missing)
    return shown


def percentile_table(figures: Sequence[Figure]) -> Table:
    """A table of percentiles, in milliseconds."""
    shown = Table(title="Percentiles, ms", title_justify="left")
    for name in ("figure", *PERCENTILES, "calls", "note"):
        right = name in PERCENTILES or name == "calls"
        shown.add_column(name, justify="right" if right else "left")
    for figure in figures:
        values = (_number(value) for value in figure.percentiles.values())
        shown.add_row(figure.name, *values, f"{len(figure.samples):,}", figure.note)
    return shown


def notes(results: Sequence[MeasureResult]) -> Table:
    """A table of notes, rounds and durations, with the load before each measure."""
    shown = Table(title="Notes", title_justify="left")
    for name in ("figure", "note", "rounds", "seconds", "load before"):
        shown.add_column(name, overflow="fold")
    for result in results:
        for number, figure in enumerate(result.figures):
            of_measure = (f"{result.seconds:.0f}", result.load) if number == 0 else ("", "")
            shown.add_row(figure.name, figure.note, str(len(figure.samples)), *of_measure)
    return shown


def terminal(*, errors: bool) -> Console:
    """A console on standard output or standard error, ``WIDTH`` wide unless it is a terminal."""
    console = Console(stderr=errors, highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    return console


def print_machine(console: Console, machine: Mapping[str, str]) -> None:
    """Print the machine's properties that ``bench.machine`` reads."""
    for name, text in machine.items():
        console.print(f"{name:10} {text}")


def print_tables(console: Console, results: Sequence[MeasureResult]) -> None:
    """Print figures, percentiles and notes."""
    console.print(table(results))
    percentile_figures = [
        figure
        for result in results
        for figure in result.figures
        if figure.name in percentiles.NAMES
    ]
    if percentile_figures:
        console.print(percentile_table(percentile_figures))
    console.print(notes(results))


def document(
    scale: str, machine: Mapping[str, str], results: Sequence[MeasureResult]
) -> dict[str, Any]:
    """The content of the results file."""
    return {
        "scale": scale,
        "machine": dict(machine),
        "figures": [
            figure.line()
            | _target_result(figure)
            | {
                "load_before": result.load,
                "references": [rounded(value) for value in figure.references],
            }
            | _samples_or_percentiles(figure)
            for result in results
            for figure in result.figures
        ],
        "failures": {result.measure.name: result.failure for result in results if result.failure},
        "not_taken": {result.measure.name: result.missing for result in results if result.missing},
    }


def run_name(scale: str, names: Sequence[str]) -> str:
    """The name of the files of a run. ``names``: its measures; empty if the run is complete.

    Runs of different measures have different names, so no run overwrites the files of another.
    """
    name = "-".join([scale, *names])
    if len(name) <= RUN_NAME_CHARACTERS_MAX:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:DIGEST_CHARACTERS]
    return f"{scale}-{len(names)}-measures-{digest}"


def write(directory: Path, document: Mapping[str, Any], name: str) -> Path:
    """Write the document as ``name``.json; return its path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.json"
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return path


def _samples_or_percentiles(figure: Figure) -> dict[str, Any]:
    if len(figure.samples) <= SAMPLES_KEPT_MAX:
        return {"samples": [rounded(value) for value in figure.samples]}
    values = {name: rounded(value) for name, value in figure.percentiles.items()}
    return {"calls": len(figure.samples), "percentiles": values}


def _target_result(figure: Figure) -> dict[str, Any]:
    target = TARGETS[figure.name]
    if target is None:
        return {"target": None, "met": None}
    return {"target": str(target), "met": target.is_met_by(figure.value)}


def _row(figure: Figure) -> tuple[str, ...]:
    result = _target_result(figure)
    low, high = figure.spread
    return (
        figure.name,
        _number(figure.value),
        f"{_number(low)} .. {_number(high)}",
        figure.unit,
        "" if figure.reference is None else _number(figure.reference),
        "" if figure.ratio is None else f"{figure.ratio:.2f}",
        result["target"] or "",
        {True: "[green]yes", False: "[red]no", None: ""}[result["met"]],
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{rounded(value):g}"
