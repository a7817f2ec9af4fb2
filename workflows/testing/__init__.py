"""For tests of workflows: the engine in memory with skipped time, and replay of histories."""

from __future__ import annotations

from workflows.testing.environment import StuckError, WorkflowEnvironment
from workflows.testing.handle import TimeSkippingHandle
from workflows.testing.replayer import replay, replay_file

__all__ = ["StuckError", "TimeSkippingHandle", "WorkflowEnvironment", "replay", "replay_file"]
