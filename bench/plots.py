"""Draws the plots of one run: targets, repetitions, percentiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.figures import MANY_SAMPLES, PERCENTILES, Figure, rounded
from bench.measures import percentiles
from bench.table import TARGETS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MET = "#2a9d8f"
MISSED = "#e76f51"
REFERENCE = "#bbbbbb"

LINES = ("#264653", "#2a9d8f", "#e76f51")
"""Colours of the lines, in the order of ``percentiles.CALLERS``."""

NOT_MEASURED = Figure("", 0.0, "")
"""Stands for a figure that this run has not measured."""

COLUMNS = 4
INCHES_A_PLOT = 3.0
_HEADROOM_VALUE_MIN = 1e-3
"""Stands for zero and negative values on a logarithmic scale."""


def write(directory: Path, figures: Sequence[Figure]) -> list[Path]:
    """Write the PNG files and return their paths. Requires matplotlib."""
    import matplotlib as mpl  # noqa: PLC0415  # slow to import

    mpl.use("Agg")
    directory.mkdir(parents=True, exist_ok=True)
    calls = [figure for figure in figures if figure.name in percentiles.NAMES]
    others = [figure for figure in figures if figure.name not in percentiles.NAMES]
    written = [_targets(directory, others), _samples(directory, others)] if others else []
    return written + ([_percentiles(directory, calls)] if calls else [])


def _targets(directory: Path, figures: Sequence[Figure]) -> Path:
    """Plot each figure's headroom: how many times better than its bound it is."""
    from matplotlib import pyplot as plt  # noqa: PLC0415

    shown = [figure for figure in figures if _bound(figure)]
    fig, axes = plt.subplots(figsize=(9, 0.45 * len(shown) + 1.2), layout="constrained")
    headrooms = [_headroom(figure) for figure in shown]
    colours = [MET if headroom >= 1 else MISSED for headroom in headrooms]
    bars = axes.barh([figure.name for figure in shown], headrooms, color=colours)
    axes.bar_label(bars, list(map(_value_and_target, shown)), padding=4, fontsize=8)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.margins(x=0.25, y=0.005)
    axes.invert_yaxis()
    axes.set_xlabel("times better than the target; red: not met")
    path = directory / "targets.png"
    fig.savefig(path, dpi=120)
    plt.close(fig)
    return path


def _samples(directory: Path, figures: Sequence[Figure]) -> Path:
    from matplotlib import pyplot as plt  # noqa: PLC0415

    rows = math.ceil(len(figures) / COLUMNS)
    size = (INCHES_A_PLOT * COLUMNS, INCHES_A_PLOT * rows)
    fig, grid = plt.subplots(rows, COLUMNS, figsize=size, layout="constrained", squeeze=False)
    for axes in grid.flat[len(figures) :]:
        axes.axis("off")
    for axes, figure in zip(grid.flat, figures, strict=False):
        _plot_samples(axes, figure)
    fig.suptitle(
        "by repetition; green line: the median; grey: the reference; dashed: the target",
        fontsize=10,
    )
    path = directory / "samples.png"
    fig.savefig(path, dpi=120)
    plt.close(fig)
    return path


def _plot_samples(axes: Axes, figure: Figure) -> None:
    samples = figure.samples or (figure.value,)
    size = 5 if len(samples) < MANY_SAMPLES else 2
    for values, colour in ((figure.references, REFERENCE), (samples, MET)):
        axes.plot(range(1, len(values) + 1), values, "o", color=colour, markersize=size)
    axes.set_xlim(0.5, max(len(samples), len(figure.references)) + 0.5)
    axes.axhline(figure.value, color=MET, linewidth=1)
    bound = _bound(figure)
    if bound is not None:
        axes.axhline(bound, color=MISSED, linewidth=1, linestyle="--")
    axes.set_title(figure.name, fontsize=9)
    axes.set_ylabel(figure.unit[:32], fontsize=7)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=7)
    axes.locator_params(axis="x", integer=True, min_n_ticks=1)


def _percentiles(directory: Path, figures: Sequence[Figure]) -> Path:
    from matplotlib import pyplot as plt  # noqa: PLC0415

    by_name = {figure.name: figure for figure in figures}
    rows, columns = len(percentiles.VERBS), len(percentiles.SITUATIONS)
    fig, grid = plt.subplots(
        rows, columns, figsize=(4 * columns, 3.4 * rows), layout="constrained", sharey=True
    )
    for verb, row in zip(percentiles.VERBS, grid, strict=True):
        for (situation, text), axes in zip(percentiles.SITUATIONS.items(), row, strict=True):
            for callers, colour in zip(percentiles.CALLERS, LINES, strict=True):
                samples = by_name.get(f"{verb}_{situation}_{callers}_ms", NOT_MEASURED).samples
                label = f"{callers} caller{'s' if callers > 1 else ''}"
                _plot_percentiles(axes, samples, label, colour)
            axes.set_title(f"{verb.upper()}, {text}", fontsize=9)
        row[0].set_ylabel("ms")
    grid[0][0].legend(fontsize=8)
    fig.supxlabel("percentile of the calls", fontsize=9)
    path = directory / "percentiles.png"
    fig.savefig(path, dpi=120)
    plt.close(fig)
    return path


def _plot_percentiles(axes: Axes, samples: Sequence[float], label: str, colour: str) -> None:
    """Plot the samples over 1 / (1 - percentile), so that high percentiles are visible."""
    count = len(samples)
    one_in = [count / (count - rank) for rank in range(count)]
    axes.plot(one_in, sorted(samples), label=label, color=colour, linewidth=1.4)
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = [1 / (1 - share) for share in PERCENTILES.values()]
    axes.set_xticks(ticks, list(PERCENTILES), fontsize=8)
    axes.set_xticks([], minor=True)
    axes.set_xlim(1, 1.5 * max(ticks))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(alpha=0.3)


def _bound(figure: Figure) -> float | None:
    target = TARGETS[figure.name]
    return target.bound if target else None


def _value_and_target(figure: Figure) -> str:
    return f"{rounded(figure.value):g}, {TARGETS[figure.name]}"


def _headroom(figure: Figure) -> float:
    target = TARGETS[figure.name]
    assert target is not None, figure.name
    value = max(figure.value, _HEADROOM_VALUE_MIN)
    return value / target.bound if target.kind == "at least" else target.bound / value
