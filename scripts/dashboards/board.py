"""Panels and dashboards as Grafana's JSON (schema version 39)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

COLUMNS: Final = 24
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
TAG: Final = "orbweaver-rdma"


class Query(NamedTuple):
    """A Prometheus expression and its legend template."""

    expression: str
    legend: str = ""


class Panel(NamedTuple):
    """A panel, sized in grid cells. ``unit`` and ``kind`` (panel type) are Grafana's names."""

    title: str
    unit: str
    queries: tuple[Query, ...]
    description: str = ""
    kind: str = "timeseries"
    width: int = 12
    height: int = 8


class Variable(NamedTuple):
    """A dashboard variable. ``query``: ``label_values(...)``."""

    name: str
    label: str
    query: str


def board(
    uid: str, title: str, variables: Sequence[Variable], panels: Iterable[Panel]
) -> dict[str, Any]:
    """The JSON of a dashboard."""
    return {
        "uid": uid,
        "title": title,
        "tags": ["orbweaver", TAG],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "utc",
        "links": [_LINK],
        "templating": {"list": [_SOURCE_VARIABLE, *map(_variable, variables)]},
        "annotations": {"list": []},
        "panels": list(_panels_in_rows(panels)),
    }


def as_text(dashboard: Mapping[str, Any]) -> str:
    """The text of a dashboard's file."""
    return json.dumps(dashboard, indent=1, ensure_ascii=False) + "\n"


_LINK: Final = {
    "title": "RDMA",
    "type": "dashboards",
    "tags": [TAG],
    "asDropdown": False,
    "includeVars": True,
    "keepTime": True,
}
_SOURCE_VARIABLE: Final = {
    "name": "datasource",
    "label": "Data source",
    "type": "datasource",
    "query": "prometheus",
    "refresh": 1,
    "current": {},
}
_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "stat": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value"},
    "bargauge": {"reduceOptions": {"calcs": ["lastNotNull"]}, "displayMode": "basic"},
}


def _variable(variable: Variable) -> dict[str, Any]:
    return {
        "name": variable.name,
        "label": variable.label,
        "type": "query",
        "datasource": SOURCE,
        "query": variable.query,
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _panels_in_rows(panels: Iterable[Panel]) -> Iterator[dict[str, Any]]:
    x = y = row_height = 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > COLUMNS:
            x, y, row_height = 0, y + row_height, 0
        position = {"x": x, "y": y, "w": panel.width, "h": panel.height}
        yield _panel(number, panel, position)
        x, row_height = x + panel.width, max(row_height, panel.height)


def _panel(number: int, panel: Panel, position: Mapping[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "title": panel.title,
        "description": panel.description,
        "type": panel.kind,
        "datasource": SOURCE,
        "gridPos": position,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "options": _OPTIONS.get(panel.kind, {}),
        "targets": [
            {"refId": chr(ord("A") + index), "expr": query.expression, "legendFormat": query.legend}
            for index, query in enumerate(panel.queries)
        ],
    }
