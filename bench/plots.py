"""Plots of one run: every figure against its target, and how the repetitions scattered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.figures import MANY, Figure
from bench.table import TARGETS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MET = "#2a9d8f"
MISSED = "#e76f51"
COMPARED = "#bbbbbb"
COLUMNS = 4
INCHES = 3.0
_LEAST = 1e-3
"""What a value at or below nothing is drawn as, on a scale that has no zero."""


def write(directory: Path, figures: Sequence[Figure]) -> list[Path]:
    """Write the PNGs; returns their paths. Needs matplotlib, which only a full run does."""
    import matplotlib as mpl  # noqa: PLC0415  # a quick run must not pay for it

    mpl.use("Agg")
    directory.mkdir(parents=True, exist_ok=True)
    return [_targets(directory, figures), _samples(directory, figures)]


def _targets(directory: Path, figures: Sequence[Figure]) -> Path:
    """How far each figure is on the good side of its bound: 1 is the bound itself."""
    from matplotlib import pyplot as plt  # noqa: PLC0415

    shown = [figure for figure in figures if _bound(figure)]
    fig, axes = plt.subplots(figsize=(9, 0.45 * len(shown) + 1.2), layout="constrained")
    headrooms = [_headroom(figure) for figure in shown]
    colours = [MET if headroom >= 1 else MISSED for headroom in headrooms]
    axes.barh([figure.name for figure in shown], headrooms, color=colours)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.set_xlabel("times better than the target asks")
    path = directory / "targets.png"
    fig.savefig(path, dpi=120)
    plt.close(fig)
    return path


def _samples(directory: Path, figures: Sequence[Figure]) -> Path:
    """Each repetition as a point, its reference in grey, the median a line, the target dashed."""
    from matplotlib import pyplot as plt  # noqa: PLC0415

    rows = math.ceil(len(figures) / COLUMNS)
    size = (INCHES * COLUMNS, INCHES * rows)
    fig, grid = plt.subplots(rows, COLUMNS, figsize=size, layout="constrained", squeeze=False)
    for axes in grid.flat[len(figures) :]:
        axes.axis("off")
    for axes, figure in zip(grid.flat, figures, strict=False):
        _plot_samples(axes, figure)
    path = directory / "samples.png"
    fig.savefig(path, dpi=120)
    plt.close(fig)
    return path


def _plot_samples(axes: Axes, figure: Figure) -> None:
    size = 5 if len(figure.samples) < MANY else 2
    for values, colour in ((figure.references, COMPARED), (figure.samples, MET)):
        axes.plot(range(1, len(values) + 1), values, "o", color=colour, markersize=size)
    axes.axhline(figure.value, color=MET, linewidth=1)
    bound = _bound(figure)
    if bound is not None:
        axes.axhline(bound, color=MISSED, linewidth=1, linestyle="--")
    axes.set_title(figure.name, fontsize=9)
    axes.set_ylabel(figure.unit[:32], fontsize=7)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=7)
    axes.locator_params(axis="x", integer=True)


def _bound(figure: Figure) -> float | None:
    target = TARGETS[figure.name]
    return target.bound if target else None


def _headroom(figure: Figure) -> float:
    target = TARGETS[figure.name]
    assert target is not None, figure.name
    value = max(figure.value, _LEAST)
    return value / target.bound if target.kind == "at least" else target.bound / value
