"""Decide when to probe again, and when a quarantine is lifted.

A quarantine is lifted after ``SILENT_PROBES`` silent probes in a row. An answered probe resets the
count. A probe that could not be made keeps the count. Pure.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from workflows.jobs.quarantine.prober import ProbeResult

SILENT_PROBES: Final = 3
"""More than 1, because a sleeping machine does not answer."""

PAUSE_S: Final = 300.0
"""Seconds before the first probe, and after a silent probe."""

PAUSE_S_MAX: Final = 6 * 3_600.0
"""The longest pause in seconds between two probes."""

FACTOR: Final = 2.0
"""The growth of the pause after a probe that was answered or could not be made."""


class ProbeProgress(NamedTuple):
    """The results of the probes so far.

    ``silent`` counts silent probes in a row. ``answers`` and ``unable`` count all probes with these
    verdicts. ``mac``: the host that answered last. ``last`` and ``text``: verdict and text of the
    last probe. ``at_s``: the time of the last probe, Unix seconds. ``pause_s``: seconds before the
    next probe.
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


def with_result(progress: ProbeProgress, answer: ProbeResult, at_s: float) -> ProbeProgress:
    """The progress after one more probe."""
    following = progress._replace(last=answer.verdict, text=answer.text, at_s=at_s)
    later_s = min(progress.pause_s * FACTOR, PAUSE_S_MAX)
    if answer.verdict == "silent":
        return following._replace(silent=progress.silent + 1, pause_s=PAUSE_S)
    if answer.verdict == "answered":
        return following._replace(
            silent=0, answers=progress.answers + 1, pause_s=later_s, mac=answer.mac
        )
    return following._replace(unable=progress.unable + 1, pause_s=later_s)
