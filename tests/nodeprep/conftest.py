"""The link of the detection's tests: nodes are stations on it."""

from __future__ import annotations

from tests.detection.conftest import link, possible

__all__ = ("link", "possible")
