"""When the frames of a probe are sent. Pure.

A window is the time from the first frame to the end of the wait after the last frame.
"""

from __future__ import annotations

from math import ceil
from typing import Final, NamedTuple

from core.manifests.networks.detect_options import DetectionTiming

CONFLICT_WINDOW_S: Final = 0.1
"""Every Pod waits so long, and answers usually take 0.1 ms. RFC 5227 waits for seconds."""

CONFLICT_PROBES: Final = 3
"""PROBE_NUM of RFC 5227, 1.1."""

GATEWAY_WINDOW_S: Final = 0.5

GATEWAY_PROBES: Final = 5

PROBES_MAX: Final = 20
WINDOW_S_MAX: Final = 10.0
"""The deadline of an ADD (30 s) must leave time for two windows and the wait for a carrier."""

_RATIO_DIGITS: Final = 9
"""Ratios are rounded: in floating point, 0.07 / 0.01 is slightly more than 7."""


class ProbeSchedule(NamedTuple):
    """Send ``probes`` frames, one every ``interval_s``; wait ``wait_s`` after the last."""

    probes: int
    interval_s: float
    wait_s: float

    @property
    def window_s(self) -> float:
        """The length of the window in seconds."""
        return (self.probes - 1) * self.interval_s + self.wait_s


def spread(probes: int, window_s: float) -> ProbeSchedule:
    """A schedule that divides the window into equal intervals."""
    return ProbeSchedule(probes, window_s / probes, window_s / probes)


CONFLICT_SCHEDULE: Final = spread(CONFLICT_PROBES, CONFLICT_WINDOW_S)
GATEWAY_SCHEDULE: Final = spread(GATEWAY_PROBES, GATEWAY_WINDOW_S)


def schedule_of_network(default: ProbeSchedule, timing: DetectionTiming) -> ProbeSchedule:
    """The default, changed by a network's ``detectOptions``.

    Frames after the end of the window are left out.
    """
    probes = min(timing.probes or default.probes, PROBES_MAX)
    window_s = timing.timeout_s
    if window_s is None:
        window_s = probes * timing.interval_s if timing.interval_s else default.window_s
    window_s = min(window_s, WINDOW_S_MAX)
    if timing.interval_s is None:
        return spread(probes, window_s)
    intervals = round(window_s / timing.interval_s, _RATIO_DIGITS)
    probes = min(probes, max(ceil(intervals), 1))
    return ProbeSchedule(probes, timing.interval_s, window_s - (probes - 1) * timing.interval_s)
