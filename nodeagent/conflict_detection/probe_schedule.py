"""When the frames of a probe are sent: their number, interval, and the wait for the last answer.

A window is the time from the first frame to the end of that wait. The default schedules are short,
because every Pod waits for them; ``detectOptions`` of a network can change them. The number of
probes and the window are always limited. Pure.
"""

from __future__ import annotations

from math import ceil
from typing import Final, NamedTuple

from core.manifests.networks.detect_options import DetectionTiming

CONFLICT_WINDOW_S: Final = 0.1
"""Seconds for all conflict probes of an address and their answers.

Answers usually come within 0.1 ms; the seconds of RFC 5227 would delay every Pod. See
docs/reference/coordinator.md, "Conflict and gateway detection".
"""

CONFLICT_PROBES: Final = 3
"""Conflict probes of an address (PROBE_NUM of RFC 5227, 1.1)."""

GATEWAY_WINDOW_S: Final = 0.5
"""Seconds for all probes of a gateway and its answer. An ADD waits for the whole window only if the
gateway is silent; then the ADD fails."""

GATEWAY_PROBES: Final = 5

PROBES_MAX: Final = 20
WINDOW_S_MAX: Final = 10.0
"""The longest window in seconds. Two windows (conflicts and gateway), the wait for a carrier, and
delays on a busy node fit into the 30 s deadline of an ADD."""

_RATIO_DIGITS: Final = 9
"""Ratios are rounded to this many digits: 0.07 / 0.01 is 7, but slightly more in floating point."""


class ProbeSchedule(NamedTuple):
    """``probes`` frames ``interval_s`` apart, and ``wait_s`` after the last one; all positive."""

    probes: int
    interval_s: float
    wait_s: float

    @property
    def window_s(self) -> float:
        """Seconds from the first frame to the end."""
        return (self.probes - 1) * self.interval_s + self.wait_s


def spread(probes: int, window_s: float) -> ProbeSchedule:
    """A schedule of frames at equal intervals."""
    return ProbeSchedule(probes, window_s / probes, window_s / probes)


CONFLICT_SCHEDULE: Final = spread(CONFLICT_PROBES, CONFLICT_WINDOW_S)
GATEWAY_SCHEDULE: Final = spread(GATEWAY_PROBES, GATEWAY_WINDOW_S)


def schedule_of_network(default: ProbeSchedule, timing: DetectionTiming) -> ProbeSchedule:
    """The schedule of a network; frames that would be sent after its timeout are left out."""
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
