"""When to probe again, and when to lift a quarantine. Pure.

A quarantine is lifted after ``SILENT_PROBES`` silent probes in a row. Only an answer resets the
count.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from workflows.jobs.quarantine.prober import ProbeResult

SILENT_PROBES: Final = 3
"""More than 1, because a sleeping machine does not answer."""

PAUSE_S: Final = 300.0
"""The pause before the first probe, and after a silent probe."""

PAUSE_S_MAX: Final = 6 * 3_600.0
FACTOR: Final = 2.0
"""The growth of the pause after a probe that is not silent."""


class ProbeProgress(NamedTuple):
    """The results of the probes so far.

    ``silent`` counts silent probes in a row. ``last``, ``text`` and ``at_s``: verdict, text and
    time (Unix seconds) of the last probe. ``pause_s``: the pause before the next probe.
    """

    silent: int = 0
    answers: int = 0
    unable: int = 0
    pause_s: float = PAUSE_S
    mac: str = ""
    last: str = ""
    text: str = ""
    at_s: float = 0.0

    @property
    def may_lift(self) -> bool:
        """Whether the quarantine may be lifted."""
        return self.silent >= SILENT_PROBES


def with_result(progress: ProbeProgress, result: ProbeResult, at_s: float) -> ProbeProgress:
    """The progress after a probe."""
    following = progress._replace(last=result.verdict, text=result.text, at_s=at_s)
    later_s = min(progress.pause_s * FACTOR, PAUSE_S_MAX)
    if result.verdict == "silent":
        return following._replace(silent=progress.silent + 1, pause_s=PAUSE_S)
    if result.verdict == "answered":
        return following._replace(
            silent=0, answers=progress.answers + 1, pause_s=later_s, mac=result.mac
        )
    return following._replace(unable=progress.unable + 1, pause_s=later_s)
