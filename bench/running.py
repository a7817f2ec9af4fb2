"""One run: the chosen measures one after the other, each in its share of the time.

A measure that fails is told and the others go on. It never prints a figure: the caller does.
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


class Taken(NamedTuple):
    """What one measure answered, how long it took, and how busy the machine was; or why not.

    ``failure``: it went wrong. ``missing``: what it needs is not there, which is no failure.
    """

    measure: Measure
    figures: list[Figure]
    seconds: float
    load: str
    failure: str = ""
    missing: str = ""


def run(
    scale: Scale, measures: Sequence[Measure], show: Callable[[Taken], None] = lambda _: None
) -> list[Taken]:
    """Take the measures; ``show`` gets each result as soon as it is there."""
    results = []
    ends = time.monotonic() + scale.seconds_max
    with Lab(scale) as lab:
        for number, measure in enumerate(measures):
            shares = sum(one.share for one in measures[number:])
            # Time that earlier ones left over is shared by those that come.
            lab.begin_share((ends - time.monotonic()) * measure.share / shares)
            taken = _take(lab, measure)
            show(taken)
            results.append(taken)
            following = measures[number + 1].rig if number + 1 < len(measures) else ""
            if taken.failure or measure.rig != following:
                lab.end_shared()
    return results


def _take(lab: Lab, measure: Measure) -> Taken:
    lab.say(f"{measure.name} ...")
    began, busy = time.monotonic(), load()
    figures, failure, missing = [], "", ""
    try:
        figures = measure.measure(lab)
    except NotTaken as error:
        missing = str(error)
        lab.say(f"{measure.name}: not taken: {missing}")
    except Exception as error:  # noqa: BLE001  # whatever it is, the other measures are wanted
        failure = repr(error)
        lab.say(traceback.format_exc())
    expected = [] if failure or missing else list(measure.targets)
    assert [figure.name for figure in figures] == expected, (measure.name, figures)
    return Taken(measure, figures, time.monotonic() - began, busy, failure, missing)
