"""Reads ``detectOptions`` of a coordinator.

See docs/concepts/conflict-detection.md, "Probes of a network". Numbers may exceed the agent's
limits, because Spiderpool accepts such numbers; the agent then uses its limit.
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
    """The number and timing of the probes on a network. None means the agent's default."""

    probes: int | None = None
    interval_s: float | None = None
    timeout_s: float | None = None


def read_timing(options: DetectOptions) -> DetectionTiming:
    """Read the options; 0 and "" become None. Raises BadInput; ``subject`` is the field's path."""
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
    """The seconds of a Go duration, which must be above zero; None for ""."""
    if not text:
        return None
    parts = _PART.findall(text) if len(text) <= DURATION_CHARS_MAX else []
    seconds = sum(float(number) * _UNIT_S[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text.removeprefix("+") or seconds <= 0:
        problem = f"{text[:DURATION_CHARS_MAX]!r} is not a duration above zero"
        raise _invalid(field, problem, "set a number with a unit, such as 100ms or 1s")
    return seconds


def _invalid(field: str, problem: str, remedy: str) -> BadInput:
    name = f"detectOptions.{field}"
    # The remedy is in the message, because the webhook reports only messages.
    return BadInput(f"{name}: {problem}: {remedy}", subject=name)
