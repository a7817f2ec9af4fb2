"""An agent over the memory store, as in ``tests/agent``."""

from __future__ import annotations

from tests.agent.conftest import agent, clock, settings, short_path, store

__all__ = ("agent", "clock", "settings", "short_path", "store")
