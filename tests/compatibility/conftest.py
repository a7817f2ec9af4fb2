"""An agent over the memory store, as in ``tests/agent``."""

from __future__ import annotations

from tests.agent.conftest import clock, node, settings, short_path, store

__all__ = ("clock", "node", "settings", "short_path", "store")
