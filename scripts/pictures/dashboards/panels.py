"""Reads Grafana dashboards, and replaces the variables in queries by their values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

DASHBOARDS: Final = Path(__file__).resolve().parents[3] / "ops" / "monitoring" / "dashboards"
GRID_COLUMNS: Final = 24
PANEL_TYPES: Final = frozenset({"bargauge", "gauge", "row", "stat", "timeseries"})
"""Panel types that ``drawing`` can draw."""

RATE_INTERVAL: Final = "12s"
"""The value of $__rate_interval: six scrape intervals. Grafana's value has at least four."""

_VARIABLE: Final = re.compile(r"\$\{?([a-z_]+)\}?")
_LABEL: Final = re.compile(r"\{\{\s*(\w+)\s*\}\}")


class Query(NamedTuple):
    """A query. ``legend`` is the template of series names; if empty, label values are the name."""

    expression: str
    legend: str


class Panel(NamedTuple):
    """A panel with its position in the grid, in cells from the top left."""

    title: str
    kind: str
    left: int
    top: int
    width: int
    height: int
    unit: str
    queries: tuple[Query, ...]


class Dashboard(NamedTuple):
    """A dashboard. ``name``: the file name without the suffix."""

    name: str
    title: str
    panels: tuple[Panel, ...]

    @property
    def rows(self) -> int:
        return max(panel.top + panel.height for panel in self.panels)


def dashboards() -> list[Dashboard]:
    """All dashboards, sorted by file name."""
    return [
        read_dashboard(path.stem, json.loads(path.read_text(encoding="utf-8")))
        for path in sorted(DASHBOARDS.glob("*.json"))
    ]


def read_dashboard(name: str, board: Mapping[str, Any]) -> Dashboard:
    """Read a dashboard from its JSON. Raises ValueError for a panel that cannot be drawn."""
    values = dict(_variables(board))
    panels = tuple(_panel(panel, values) for panel in board["panels"])
    return Dashboard(name, board["title"], panels)


def series_name(legend: str, labels: Mapping[str, str]) -> str:
    """The name of a series in a legend."""
    if not legend:
        return ", ".join(value for label, value in labels.items() if label != "__name__")
    return " ".join(_LABEL.sub(lambda match: labels.get(match[1], ""), legend).split())


def _variables(board: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "__rate_interval", RATE_INTERVAL
    for variable in board["templating"]["list"]:
        if variable.get("includeAll"):
            yield variable["name"], variable.get("allValue") or ".*"
        elif variable["type"] != "datasource":
            yield variable["name"], str(variable.get("current", {}).get("value", ""))


def _panel(panel: Mapping[str, Any], values: Mapping[str, str]) -> Panel:
    title, kind, grid = panel["title"], panel["type"], panel["gridPos"]
    if kind not in PANEL_TYPES:
        raise ValueError(f"panel {title!r} has the type {kind!r}, not one of {sorted(PANEL_TYPES)}")

    def value_of(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise ValueError(f"panel {title!r} names the unknown variable {match[0]!r}")
        return values[match[1]]

    queries = tuple(
        Query(_VARIABLE.sub(value_of, target["expr"]), target.get("legendFormat", ""))
        for target in panel.get("targets", ())
    )
    unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "short")
    return Panel(title, kind, grid["x"], grid["y"], grid["w"], grid["h"], unit, queries)
