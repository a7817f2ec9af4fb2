"""Draws a Grafana dashboard with data as a PNG picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from scripts.pictures.dashboards.panels import GRID_COLUMNS, Dashboard, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN_INCHES: Final = 0.5
ROW_INCHES: Final = 0.24
TITLE_INCHES: Final = 0.4
GAP_INCHES: Final = 0.025
HEADING_INCHES: Final = 0.33
"""Height of a panel's title."""

VALUE_LABEL_INCHES: Final = 0.55
"""Width of the value labels left of a plot."""

TIME_LABEL_INCHES: Final = 0.2
"""Height of the time labels below a plot."""

LINE_INCHES: Final = 0.125
"""Height of a line in a legend."""

DOTS_PER_INCH: Final = 100
PICTURE_COLOURS: Final = 32
"""Few colours make a small file."""

FRAME: Final = "#d8dce3"
INK: Final = "#24292f"
FAINT: Final = "#6e7781"
COLOURS: Final = (
    *("#2a9d8f", "#e76f51", "#264653", "#e9c46a", "#7b5ea7", "#3b82c4"),
    *("#8ab17d", "#b5838d", "#577590", "#f4a261"),
)
LEGEND_MAX: Final = 4
"""Names in a legend; one more line counts the other series."""

LEGEND_CHARACTERS_MAX: Final = 46
BARS_MAX: Final = 8
PREFIXES: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
SUFFIXES: Final = {
    "bps": "b/s",
    "Bps": "B/s",
    "bytes": "B",
    "reqps": "/s",
    "ops": "/s",
    "pps": "/s",
}


class Series(NamedTuple):
    """A line of a plot. ``seconds`` count from the start of the run."""

    name: str
    seconds: tuple[float, ...]
    values: tuple[float, ...]


SeriesOfPanel = Callable[[Panel], Sequence[Series]]


class Box(NamedTuple):
    """A rectangle of the picture, in inches from the bottom left."""

    left: float
    bottom: float
    width: float
    height: float

    def axes(self, figure: Figure) -> Axes:
        width, height = figure.get_size_inches()
        left, bottom = self.left / width, self.bottom / height
        return figure.add_axes((left, bottom, self.width / width, self.height / height))


def draw(dashboard: Dashboard, series_of: SeriesOfPanel, path: Path) -> None:
    """Write the picture of a dashboard."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # slow to import
    from PIL import Image  # noqa: PLC0415

    height = dashboard.rows * ROW_INCHES + TITLE_INCHES
    figure = Figure(figsize=(GRID_COLUMNS * COLUMN_INCHES, height), dpi=DOTS_PER_INCH)
    top = 1 - TITLE_INCHES / 2 / height
    figure.text(0.008, top, dashboard.title, fontsize=13, va="center", color=INK)
    for panel in dashboard.panels:
        _draw_panel(figure, panel, series_of(panel), dashboard.rows)
    png = BytesIO()
    figure.savefig(png, format="png")
    picture = Image.open(png).convert("RGB")
    picture.quantize(PICTURE_COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def formatted(value: float, unit: str) -> str:
    """A value with three digits and a unit, such as "1.25 Gb/s"."""
    if math.isnan(value):
        return "no data"
    if unit == "percentunit":
        return f"{_digits(_rounded(value * 100))} %"
    # Round before the prefix is chosen: 999.6 becomes 1 k, not 1000.
    value = _rounded(value)
    if unit == "s":
        return f"{_digits(value)} s" if abs(value) >= 1 else f"{_digits(value * 1000)} ms"
    suffix = SUFFIXES.get(unit, "")
    for factor, prefix in PREFIXES:
        if abs(value) >= factor:
            return f"{_digits(value / factor)} {prefix}{suffix}"
    return f"{_digits(value)} {suffix}".strip()


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def _digits(value: float) -> str:
    """The digits of a rounded value; without an exponent if it has at most 12 digits."""
    return f"{value:.12g}"


def _draw_panel(figure: Figure, panel: Panel, series: Sequence[Series], rows: int) -> None:
    box = Box(
        panel.left * COLUMN_INCHES + GAP_INCHES,
        (rows - panel.top - panel.height) * ROW_INCHES + GAP_INCHES,
        panel.width * COLUMN_INCHES - 2 * GAP_INCHES,
        panel.height * ROW_INCHES - 2 * GAP_INCHES,
    )
    frame = box.axes(figure)
    frame.set(xlim=(0, box.width), ylim=(0, box.height), xticks=[], yticks=[])
    for spine in frame.spines.values():
        spine.set_color(FRAME)
    at = (0.07, box.height - 0.16)
    frame.text(*at, panel.title, fontsize=8.5, fontweight="bold", va="center", color=INK)
    if panel.kind == "row":
        return
    if not series:
        frame.text(box.width / 2, box.height * 0.4, "no data", ha="center", fontsize=9, color=FAINT)
    elif panel.kind in {"stat", "gauge"}:
        _draw_stat(frame, box, panel.unit, series)
    elif panel.kind == "bargauge":
        _draw_bars(_add_plot_axes(figure, box, GAP_INCHES), panel.unit, series)
    else:
        names = min(len(series), LEGEND_MAX + 1)
        plot = _add_plot_axes(figure, box, TIME_LABEL_INCHES + LINE_INCHES * (names + 1))
        _draw_lines(plot, panel.unit, series)


def _add_plot_axes(figure: Figure, box: Box, inches_below: float) -> Axes:
    width = box.width - VALUE_LABEL_INCHES - 0.15
    height = box.height - HEADING_INCHES - inches_below
    axes = Box(box.left + VALUE_LABEL_INCHES, box.bottom + inches_below, width, height).axes(figure)
    axes.tick_params(labelsize=6.5, colors=FAINT, length=0, pad=2)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FRAME)
    return axes


def _draw_stat(frame: Axes, box: Box, unit: str, series: Sequence[Series]) -> None:
    for number, line in enumerate(series):
        across = box.width * (number + 0.5) / len(series)
        text = formatted(line.values[-1], unit)
        frame.text(across, box.height * 0.34, text, ha="center", fontsize=17, color=COLOURS[0])
        if len(series) > 1:
            frame.text(across, 0.1, line.name, ha="center", fontsize=7, color=FAINT)


def _draw_bars(axes: Axes, unit: str, series: Sequence[Series]) -> None:
    shown_series = series[:BARS_MAX]
    values = [line.values[-1] for line in shown_series]
    longest = 1.0 if unit == "percentunit" else max([*values, 1e-9])
    bars = axes.barh(range(len(shown_series)), values, color=COLOURS[0], height=0.5)
    axes.bar_label(bars, [formatted(value, unit) for value in values], fontsize=7, padding=3)
    for row, line in enumerate(shown_series):
        axes.text(0, row - 0.3, line.name, fontsize=7, color=INK, va="bottom")
    axes.set(xlim=(0, longest * 1.15), ylim=(len(shown_series) - 0.5, -0.8), yticks=[], xticks=[])


def _draw_lines(axes: Axes, unit: str, series: Sequence[Series]) -> None:
    for number, line in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(
            line.seconds, line.values, color=colour, linewidth=1.1, label=_shortened(line.name)
        )
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.yaxis.set_major_formatter(lambda value, _: formatted(value, unit))
    axes.locator_params(axis="y", nbins=4)
    minutes = range(1, int(max(line.seconds[-1] for line in series) / 60) + 1)
    axes.set_xticks([minute * 60 for minute in minutes], [f"{minute} min" for minute in minutes])
    axes.grid(axis="y", color=FRAME, linewidth=0.6)
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > LEGEND_MAX:
        handles = [*handles[:LEGEND_MAX], axes.plot([], [], alpha=0)[0]]
        labels = [*labels[:LEGEND_MAX], f"and {len(series) - LEGEND_MAX} more"]
    height = axes.get_window_extent().height / DOTS_PER_INCH
    axes.legend(
        handles,
        labels,
        loc="upper left",
        bbox_to_anchor=(0, -TIME_LABEL_INCHES / height),
        fontsize=6.5,
        labelspacing=0.15,
        handlelength=1.2,
        borderpad=0,
        borderaxespad=0,
        frameon=False,
    )


def _shortened(name: str) -> str:
    return name if len(name) <= LEGEND_CHARACTERS_MAX else f"{name[:LEGEND_CHARACTERS_MAX]}…"
