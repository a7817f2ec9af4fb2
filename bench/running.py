"""Runs measures one after the other, each with a share of the time.

A failed measure does not end the run.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from typing import NamedTuple

from bench.figures import Figure, NotTaken
from bench.machine import load
from bench.rig.lab import Lab
from bench.scale import Scale
from bench.table import Measure


class MeasureResult(NamedTuple):
    """The result of one measure.

    ``load``: the load averages before the measure. ``failure``: the exception that ended the
    measure. ``missing``: the missing program that the skipped measure needs.
    """

    measure: Measure
    figures: list[Figure]
    seconds: float
    load: str
    failure: str = ""
    missing: str = ""


def run_measures(
    scale: Scale,
    measures: Sequence[Measure],
    show: Callable[[MeasureResult], None] = lambda _: None,
) -> list[MeasureResult]:
    """Run the measures; call ``show`` with each result when the measure ends."""
    results = []
    ends = time.monotonic() + scale.seconds_max
    with Lab(scale) as lab:
        for number, measure in enumerate(measures):
            shares = sum(remaining.share for remaining in measures[number:])
            # The remaining measures share the unused time of earlier measures.
            lab.set_time_budget((ends - time.monotonic()) * measure.share / shares)
            result = _run_measure(lab, measure)
            show(result)
            results.append(result)
            next_rig = measures[number + 1].rig if number + 1 < len(measures) else ""
            if result.failure or measure.rig != next_rig:
                lab.end_shared()
    return results


def _run_measure(lab: Lab, measure: Measure) -> MeasureResult:
    lab.report(f"{measure.name} ...")
    began, load_before = time.monotonic(), load()
    figures, failure, missing = [], "", ""
    try:
        figures = measure.measure(lab)
    except NotTaken as error:
        missing = str(error)
        lab.report(f"{measure.name}: not taken: {missing}")
    except Exception as error:  # noqa: BLE001  # a failed measure must not end the run
        failure = repr(error)
        lab.report(traceback.format_exc())
    expected = [] if failure or missing else list(measure.targets)
    assert [figure.name for figure in figures] == expected, (measure.name, figures)
    return MeasureResult(measure, figures, time.monotonic() - began, load_before, failure, missing)
