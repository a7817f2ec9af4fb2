"""The execution that keeps the live log under its bound (I10) and the archive within its retention.

One a cluster, id ``archive``. It looks, seals if it is time, and waits; the pause follows the pace
of the log. Once an hour it gives up what is too old or too much. Whoever owns its shard does the
work; a step that fails for good is told by the query ``status`` and comes again with the next look:
until then the live log grows, and nothing else suffers.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final, NamedTuple

from core.archive.archiver import Sealed
from core.archive.pruner import Pruned
from workflows.api import workflow
from workflows.jobs.archive.activities import ArchiveActivities, SealCheck
from workflows.jobs.archive.archive_interval import PAUSE_S_MIN, pause_s
from workflows.jobs.descriptions import now_s, utc, words
from workflows.jobs.step_limits import patient
from workflows.model.payloads import Payload

WORKFLOW_TYPE: Final = "archive-log"
WORKFLOW_ID: Final = "archive"
LOOK_NOW: Final = "look-now"

STEP_S: Final = 300.0
"""One attempt: sealing a log that nobody has sealed for a week takes a minute."""

STEPS_S: Final = 900.0
"""All attempts; then the next look tries again."""

PRUNE_S: Final = 3_600.0
"""Between two looks at the whole archive."""

_STEP: Final = patient(STEP_S, STEPS_S)


class ContinuedArchiving(NamedTuple):
    """Counts since the execution began, and the last look. Times are Unix seconds."""

    looks: int = 0
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
    """The execution. It holds counts and nothing of the log."""

    def __init__(self) -> None:
        self._carry = ContinuedArchiving()
        self._pause_s = PAUSE_S_MIN
        self._wanted = False

    @workflow.run
    async def run(self, carry: ContinuedArchiving = ContinuedArchiving()) -> None:
        """Go on until cancelled."""
        self._carry = carry
        workflow.set_signal_handler(LOOK_NOW, self._want)
        while True:
            try:
                await self._round()
            except workflow.ActivityError as error:
                self._note(failures=self._carry.failures + 1, fault=words(error))
                self._pause_s = PAUSE_S_MIN
            self._tell()
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(self._carry)
            with suppress(workflow.TimeoutError):
                await workflow.wait_condition(lambda: self._wanted, self._pause_s)
            self._wanted = False

    @workflow.query
    def status(self) -> dict[str, Payload]:
        """How long the live log is, and what was sealed and given up."""
        carry = self._carry
        return {**carry._asdict(), "at_s": utc(carry.at_s), "pruned_s": utc(carry.pruned_s)}

    def _want(self) -> None:
        self._wanted = True

    def _note(self, **fields: object) -> None:
        self._carry = self._carry._replace(**fields)  # type: ignore[arg-type]  # by name

    async def _round(self) -> None:
        before = self._carry
        look: SealCheck = await workflow.execute_activity(ArchiveActivities.look, options=_STEP)
        self._pause_s = pause_s(look.live_segments, before.live, now_s() - before.at_s)
        self._note(looks=before.looks + 1, live=look.live_segments, at_s=now_s())
        if look.seal_is_due:
            self._sealed(await workflow.execute_activity(ArchiveActivities.seal, options=_STEP))
        if now_s() - self._carry.pruned_s >= PRUNE_S:
            self._pruned(await workflow.execute_activity(ArchiveActivities.prune, options=_STEP))
        self._note(fault="")

    def _sealed(self, sealed: Sealed) -> None:
        carry = self._carry
        self._note(
            seals=carry.seals + 1,
            segments=carry.segments + sealed.segments,
            position=sealed.position,
            live=max(carry.live - sealed.segments, 0),
        )

    def _pruned(self, pruned: Pruned) -> None:
        files = self._carry.pruned_files + pruned.files
        self._note(pruned_files=files, pruned_position=pruned.position, pruned_s=now_s())

    def _tell(self) -> None:
        carry = self._carry
        workflow.upsert_search_attributes(
            {"ArchiveLiveSegments": carry.live, "ArchivePosition": carry.position}
        )
