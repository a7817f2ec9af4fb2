"""The workflow that keeps the live log below its limit.

Each cluster has one execution, with id ``archive``. The execution checks the live log, and moves
segments to the archive (seals them) when that is due. After the last failed attempt at a step,
the execution pauses and begins with a check again.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final, NamedTuple

from core.archive.archiver import LIVE_SEGMENTS_MAX, SealResult
from core.archive.pruner import PruneResult
from workflows.api import workflow
from workflows.jobs.activity_options import failure_text, now_s, step_options, utc
from workflows.jobs.archive.activities import ArchiveActivities, SealCheck
from workflows.jobs.archive.prune import PRUNE_S
from workflows.model.payloads import Payload

WORKFLOW_TYPE: Final = "archive-log"
WORKFLOW_ID: Final = "archive"
CHECK_NOW: Final = "look-now"
"""The signal for a check. Histories store this name, so it must not change."""

STEP_S: Final = 300.0
"""Seconds of one attempt at a step. Archiving the log of a week takes a minute."""

STEP_ATTEMPTS_S: Final = 900.0
"""Seconds of all attempts at a step."""

PRUNE_BY_SCHEDULE: Final = "prune-by-schedule"
"""The id of the patch that moved pruning to a workflow of its own (``prune``)."""

_STEP: Final = step_options(STEP_S, STEP_ATTEMPTS_S)


class ContinuedArchiving(NamedTuple):
    """Counts since the execution began, and the last check. Times are Unix seconds.

    ``pruned_*``: only runs without the patch ``PRUNE_BY_SCHEDULE`` change these fields.
    """

    checks: int = 0
    seals: int = 0
    segments: int = 0
    position: int = 0
    pruned_files: int = 0
    pruned_position: int = 0
    pruned_s: float = 0.0
    failures: int = 0
    live: int = 0
    at_s: float = 0.0
    fault: str = ""


@workflow.defn(name=WORKFLOW_TYPE)
class ArchiveLog:
    """The workflow that archives the log."""

    def __init__(self) -> None:
        self._counts = ContinuedArchiving()
        self._pause_s = PAUSE_S_MIN
        self._is_requested = False

    @workflow.run
    async def run(self, counts: ContinuedArchiving = ContinuedArchiving()) -> None:
        """Check until cancelled."""
        self._counts = counts
        workflow.set_signal_handler(CHECK_NOW, self._request)
        while True:
            try:
                await self._round()
            except workflow.ActivityError as error:
                self._note(failures=self._counts.failures + 1, fault=failure_text(error))
                self._pause_s = PAUSE_S_MIN
            self._publish()
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(self._counts)
            with suppress(workflow.TimeoutError):
                await workflow.wait_condition(lambda: self._is_requested, self._pause_s)
            self._is_requested = False

    @workflow.query
    def status(self) -> dict[str, Payload]:
        """The length of the live log, and counts of what was archived."""
        counts = self._counts
        fields = {**counts._asdict(), "at_s": utc(counts.at_s)}
        shown = {name: value for name, value in fields.items() if not name.startswith("pruned_")}
        return {"looks": shown.pop("checks"), **shown}  # published: users see the name "looks"

    def _request(self) -> None:
        self._is_requested = True

    def _note(self, **fields: object) -> None:
        self._counts = self._counts._replace(**fields)  # type: ignore[arg-type]  # by name

    async def _round(self) -> None:
        before = self._counts
        check: SealCheck = await workflow.execute_activity(ArchiveActivities.check, options=_STEP)
        self._pause_s = pause_s(check.live_segments, before.live, now_s() - before.at_s)
        self._note(checks=before.checks + 1, live=check.live_segments, at_s=now_s())
        if check.seal_is_due:
            self._note_seal(await workflow.execute_activity(ArchiveActivities.seal, options=_STEP))
        if not workflow.patched(PRUNE_BY_SCHEDULE) and now_s() - self._counts.pruned_s >= PRUNE_S:
            self._note_prune(
                await workflow.execute_activity(ArchiveActivities.prune, options=_STEP)
            )
        self._note(fault="")

    def _note_seal(self, sealed: SealResult) -> None:
        counts = self._counts
        self._note(
            seals=counts.seals + 1,
            segments=counts.segments + sealed.segments,
            position=sealed.position,
            live=max(counts.live - sealed.segments, 0),
        )

    def _note_prune(self, pruned: PruneResult) -> None:
        files = self._counts.pruned_files + pruned.files
        self._note(pruned_files=files, pruned_position=pruned.position, pruned_s=now_s())

    def _publish(self) -> None:
        counts = self._counts
        workflow.upsert_search_attributes(
            {"ArchiveLiveSegments": counts.live, "ArchivePosition": counts.position}
        )


PAUSE_S_MIN: Final = 5.0
PAUSE_S_MAX: Final = 60.0


def pause_s(live: int, before: int, elapsed_s: float) -> float:
    """Seconds until the next check: half the time until the log reaches its limit at this growth.

    ``before``: the live segments ``elapsed_s`` ago.
    """
    growth = live - before
    if growth <= 0 or elapsed_s <= 0:
        return PAUSE_S_MAX
    until_limit_s = (LIVE_SEGMENTS_MAX - live) * elapsed_s / growth
    return min(max(until_limit_s / 2, PAUSE_S_MIN), PAUSE_S_MAX)
