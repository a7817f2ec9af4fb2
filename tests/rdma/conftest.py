"""The link of the detection's tests: a station on it stands for a Pod."""

from __future__ import annotations

from tests.detection.conftest import link, possible

__all__ = ("link", "possible")
