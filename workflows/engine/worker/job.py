"""An activity to be attempted, as a plain value: for whoever makes attempts, and whoever counts."""

from __future__ import annotations

from typing import NamedTuple

from workflows.engine.store.records import Attempt
from workflows.model.events import ActivityTaskScheduled


class Job(NamedTuple):
    """One activity of one run, from its next attempt on. ``recorded``: an Attempt is stored."""

    workflow_id: str
    run_id: str
    workflow_type: str
    scheduled: ActivityTaskScheduled
    scheduled_ms: int
    attempt: Attempt
    recorded: bool = False
    traceparent: str = ""
