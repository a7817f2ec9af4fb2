"""Agents whose metrics can be read."""

from __future__ import annotations

import pytest

from nodeagent.settings.values import Settings


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The usual settings, with a port for metrics."""
    return settings._replace(metrics_enabled=True)
