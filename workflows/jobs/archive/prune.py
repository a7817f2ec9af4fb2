"""The workflow that deletes archive files beyond their retention, and its schedule.

If all attempts of a run fail, the schedule shows the failure, and the next run follows in an hour.
"""

from __future__ import annotations

from typing import Final

from core.archive.pruner import PruneResult
from workflows.api import workflow
from workflows.jobs.activity_options import step_options
from workflows.jobs.archive.activities import ArchiveActivities
from workflows.schedules.schedule import (
    Schedule,
    ScheduleAction,
    ScheduleInterval,
    ScheduleSpec,
)

WORKFLOW_TYPE: Final = "archive-prune"
SCHEDULE_ID: Final = "archive-prune"

PRUNE_S: Final = 3_600.0
"""Seconds between two prunes of the archive."""

PRUNE_SCHEDULE: Final = Schedule(
    ScheduleAction(WORKFLOW_TYPE), ScheduleSpec((ScheduleInterval(PRUNE_S),), jitter_s=300.0)
)

_STEP: Final = step_options(attempt_s=300.0, all_attempts_s=900.0)


@workflow.defn(name=WORKFLOW_TYPE)
class PruneArchive:
    """Deletes archive files once."""

    @workflow.run
    async def run(self) -> PruneResult:
        """Delete the files that exceed the age or the total bytes of the retention."""
        return await workflow.execute_activity(ArchiveActivities.prune, options=_STEP)
