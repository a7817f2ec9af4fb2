"""Agents with enabled metrics."""

from __future__ import annotations

import pytest

from nodeagent.settings.agent_settings import Settings


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The settings of ``tests/fixtures/agents.py``, with metrics enabled."""
    return settings._replace(metrics_enabled=True)
