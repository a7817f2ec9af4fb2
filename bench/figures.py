"""Figures (measured values) that measures return, and their targets."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any, Literal, NamedTuple

SIGNIFICANT_DIGITS = 4
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
MANY_SAMPLES = 20
"""From this number of samples on, the spread excludes the lowest and the highest tenth."""


class NotTaken(Exception):
    """A measure was skipped, because the program that the text names is missing."""


class Target(NamedTuple):
    """The bound that a figure must reach. ``aim``: a better value, not required."""

    kind: Literal["at least", "at most"]
    bound: float
    aim: float | None = None

    def is_met_by(self, value: float) -> bool:
        """Whether the value reaches the bound."""
        return value >= self.bound if self.kind == "at least" else value <= self.bound

    def __str__(self) -> str:
        sign = "≥" if self.kind == "at least" else "≤"
        aim = "" if self.aim is None else f" (aim {self.aim:g})"
        return f"{sign} {self.bound:g}{aim}"


class Figure(NamedTuple):
    """One measured value.

    ``reference``: a value to compare with, from the same run and in the same unit.
    ``samples``, ``references``: the value and the reference of each repetition.
    """

    name: str
    value: float
    unit: str
    reference: float | None = None
    note: str = ""
    samples: tuple[float, ...] = ()
    references: tuple[float, ...] = ()

    @property
    def ratio(self) -> float | None:
        """Value over reference."""
        return self.value / self.reference if self.reference else None

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and highest sample, or the 10th and 90th percentile (``MANY_SAMPLES``)."""
        samples = self.samples or (self.value,)
        if len(samples) < MANY_SAMPLES:
            return min(samples), max(samples)
        return percentile(samples, 0.1), percentile(samples, 0.9)

    @property
    def percentiles(self) -> dict[str, float]:
        """The ``PERCENTILES`` of the samples."""
        return {name: percentile(self.samples, share) for name, share in PERCENTILES.items()}

    def line(self) -> dict[str, Any]:
        """The JSON object that a quick run prints."""
        line: dict[str, Any] = {
            "name": self.name,
            "value": rounded(self.value),
            "unit": self.unit,
            "reference": None if self.reference is None else rounded(self.reference),
            "ratio": None if self.ratio is None else rounded(self.ratio),
        }
        return line | {"note": self.note} if self.note else line


def median_figure(
    name: str,
    samples: Sequence[float],
    unit: str,
    references: Sequence[float] = (),
    note: str = "",
) -> Figure:
    """A figure with the medians of ``samples`` and ``references``."""
    reference = median(references) if references else None
    return Figure(name, median(samples), unit, reference, note, tuple(samples), tuple(references))


def ratio_figure(name: str, ratios: Sequence[float], compared_with: str, note: str = "") -> Figure:
    """A figure with the median of the ratios; ``compared_with`` describes their denominator."""
    return Figure(name, median(ratios), f"x {compared_with}", 1.0, note, tuple(ratios))


def rounded(value: float) -> float:
    """The value with ``SIGNIFICANT_DIGITS``, or a whole number unchanged."""
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}") if value % 1 else value


def percentile(values: Sequence[float], share: float) -> float:
    """The value at the position ``share`` (0 to 1) of the sorted values."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]
