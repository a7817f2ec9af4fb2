"""Decide when to probe again, and when a quarantine is lifted.

A quarantine is lifted after ``SILENT_PROBES`` silent probes in a row, with a pause before each. An
answer resets the count and doubles the pause; a probe that could not be made does not change the
count. Pure.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from workflows.jobs.quarantine.prober import ProbeResult

SILENT_PROBES: Final = 3
"""Silent probes in a row that lift a quarantine. One is not enough: machines sleep."""

PAUSE_S: Final = 300.0
"""Seconds before the first probe, and between silent ones."""

PAUSE_S_MAX: Final = 6 * 3_600.0
"""Seconds between two probes of an address that keeps answering or cannot be probed."""

FACTOR: Final = 2.0
"""The factor by which the pause grows after a probe that was answered or could not be made."""


class ProbeProgress(NamedTuple):
    """The results of the probes so far.

    ``silent`` counts silent probes in a row, ``answers`` and ``unable`` all probes of that verdict.
    ``mac``: the host that answered last. ``last`` and ``text``: the last verdict and its text.
    ``pause_s``: seconds before the next probe. ``at_s``: the time of the last probe, Unix seconds.
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
