"""Writes a picture of each Grafana dashboard, with the data of a laboratory run."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import Final

from scripts.pictures.__main__ import PICTURES_FOLDER
from scripts.pictures.dashboards.drawing import Series, draw
from scripts.pictures.dashboards.laboratory_run import Run, finished_run
from scripts.pictures.dashboards.panels import Panel, dashboards, series_name

SECONDS: Final = 200.0
"""The default duration of the laboratory run."""


def main(arguments: list[str]) -> None:
    """Write ``docs/images/dashboard-NAME.png`` for each dashboard."""
    seconds = float(arguments[0]) if arguments else SECONDS
    boards = dashboards()
    with finished_run(seconds) as run:
        for board in boards:
            path = PICTURES_FOLDER / f"dashboard-{board.name}.png"
            draw(board, lambda panel: list(_series(run, panel)), path)
            print(
                f"{path.relative_to(PICTURES_FOLDER.parents[1])}: {path.stat().st_size // 1000} kB"
            )


def _series(run: Run, panel: Panel) -> Iterator[Series]:
    for query in panel.queries:
        for line in run.series(query.expression):
            points = [(at - run.began, float(value)) for at, value in line["values"]]
            points = [(second, value) for second, value in points if math.isfinite(value)]
            if points:
                seconds, values = zip(*points, strict=True)
                yield Series(series_name(query.legend, line["metric"]), seconds, values)


if __name__ == "__main__":
    main(sys.argv[1:])
