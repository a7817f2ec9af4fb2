"""``detectOptions`` of a coordinator as numbers: the probes, their interval and their timeout.

See docs/concepts/conflict-detection.md, "Probes of a network". What is 0, empty or missing is None,
for the agent's own numbers. Larger numbers than an agent uses are valid, because networks that were
written for Spiderpool may have them. Pure.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from core.errors import BadInput
from core.manifests.kinds.coordinators import DURATION_CHARS_MAX, DetectOptions

_UNIT_S: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "\u00b5s": 1e-6,
    "\u03bcs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_PART: Final = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)", re.ASCII)


class DetectionTiming(NamedTuple):
    """The probes that a network requests. None: the agent's own number. Times are positive."""

    probes: int | None = None
    interval_s: float | None = None
    timeout_s: float | None = None


def read_timing(options: DetectOptions) -> DetectionTiming:
    """The numbers. Raises BadInput, whose subject is the path of the field."""
    retries = options.retries or 0
    if retries < 0:
        raise _invalid(
            "retries", f"{retries} is negative", "set a positive number, or 0 for the default"
        )
    return DetectionTiming(
        retries or None,
        _seconds("interval", options.interval or ""),
        _seconds("timeout", options.timeout or ""),
    )


def _seconds(field: str, text: str) -> float | None:
    """A Go duration above zero in seconds; None for ""."""
    if not text:
        return None
    parts = _PART.findall(text) if len(text) <= DURATION_CHARS_MAX else []
    seconds = sum(float(number) * _UNIT_S[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text.removeprefix("+") or seconds <= 0:
        what = f"{text[:DURATION_CHARS_MAX]!r} is not a duration above zero"
        raise _invalid(field, what, "set a number with a unit, such as 100ms or 1s")
    return seconds


def _invalid(field: str, what: str, remedy: str) -> BadInput:
    name = f"detectOptions.{field}"
    return BadInput(f"{name}: {what}: {remedy}", subject=name)
