"""For tests of workflows: an environment with skipped time, and replay of recorded histories."""

from __future__ import annotations

from workflows.testing.environment import Environment, StuckError
from workflows.testing.handle import Handle
from workflows.testing.replayer import replay, replay_file

__all__ = ["Environment", "Handle", "StuckError", "replay", "replay_file"]
