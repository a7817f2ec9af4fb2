"""For tests of workflows: an environment with skipped time, and replay of recorded histories."""

from __future__ import annotations

from workflows.testing.environment import StuckError, WorkflowEnvironment
from workflows.testing.handle import SimulatedHandle
from workflows.testing.replayer import replay, replay_file

__all__ = ["SimulatedHandle", "StuckError", "WorkflowEnvironment", "replay", "replay_file"]
