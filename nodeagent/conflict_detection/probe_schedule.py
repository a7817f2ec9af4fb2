"""When the frames of a probe are sent.

The window is the time from the first frame to the end of the wait after the last frame. The default
schedules are short, because every Pod waits for them. ``detectOptions`` of a network can change the
schedules, up to ``PROBES_MAX`` and ``WINDOW_S_MAX``. Pure.
"""

from __future__ import annotations

from math import ceil
from typing import Final, NamedTuple

from core.manifests.networks.detect_options import DetectionTiming

CONFLICT_WINDOW_S: Final = 0.1
"""The window of the conflict probes of an address, in seconds.

Answers usually arrive within 0.1 ms. The waits of RFC 5227 take seconds and would delay every Pod.
See docs/reference/coordinator.md, "Conflict and gateway detection".
"""

CONFLICT_PROBES: Final = 3
"""Conflict probes of an address (PROBE_NUM of RFC 5227, 1.1)."""

GATEWAY_WINDOW_S: Final = 0.5
"""The window of the probes of a gateway, in seconds. The window ends early if the gateway answers.
If the gateway does not answer, the ADD fails."""

GATEWAY_PROBES: Final = 5

PROBES_MAX: Final = 20
WINDOW_S_MAX: Final = 10.0
"""The longest window in seconds. The 30 s deadline of an ADD leaves time for two windows
(conflicts and gateway), the wait for a carrier, and delays on a busy node."""

_RATIO_DIGITS: Final = 9
"""Decimal digits of a rounded ratio: in floating point, 0.07 / 0.01 is slightly more than 7."""


class ProbeSchedule(NamedTuple):
    """Send ``probes`` frames, one every ``interval_s``, and wait ``wait_s`` after the last frame.

    All values are positive.
    """

    probes: int
    interval_s: float
    wait_s: float

    @property
    def window_s(self) -> float:
        """Seconds from the first frame to the end of the wait after the last frame."""
        return (self.probes - 1) * self.interval_s + self.wait_s


def spread(probes: int, window_s: float) -> ProbeSchedule:
    """A schedule of ``probes`` frames that divides the window into equal intervals."""
    return ProbeSchedule(probes, window_s / probes, window_s / probes)


CONFLICT_SCHEDULE: Final = spread(CONFLICT_PROBES, CONFLICT_WINDOW_S)
GATEWAY_SCHEDULE: Final = spread(GATEWAY_PROBES, GATEWAY_WINDOW_S)


def schedule_of_network(default: ProbeSchedule, timing: DetectionTiming) -> ProbeSchedule:
    """The schedule of a network: the default, changed by the network's ``detectOptions``.

    Frames that would be sent after the end of the window are left out.
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
