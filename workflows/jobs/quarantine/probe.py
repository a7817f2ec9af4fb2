"""The execution of one quarantined address: wait, probe, wait, and give it back when it is silent.

Id ``quarantine/<address>``. It begins with the event that set the address aside because of a
stranger and ends when the address is returned, or when somebody else ended the quarantine. It never
returns an address because a probe failed: then the next one comes later (I6).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final, NamedTuple

from core.domain.model import ConflictingHost
from workflows.api import workflow
from workflows.jobs.descriptions import now_s, utc, words
from workflows.jobs.quarantine.activities import QuarantineActivities
from workflows.jobs.quarantine.prober import ProbeResult
from workflows.jobs.quarantine.schedule import SILENT_PROBES, ProbeProgress, after
from workflows.jobs.step_limits import patient
from workflows.model.payloads import Payload

WORKFLOW_TYPE: Final = "quarantine-probe"
LOOK: Final = "look"
PROBE_NOW: Final = "probe-now"
"""Signals: the quarantine may have changed; do not wait for the next probe's time."""

PROBE_S: Final = 30.0
PROBES_S: Final = 120.0
"""One attempt at an activity, and all of them."""

_OPTIONS: Final = patient(PROBE_S, PROBES_S)


def probe_id(address: str) -> str:
    """The workflow id of an address."""
    return f"quarantine/{address}"


class QuarantinedAddress(NamedTuple):
    """An address, and the stranger it is set aside for."""

    address: str
    stranger: ConflictingHost


class ProbeOutcome(NamedTuple):
    """Whether the address was returned by this execution, after how many probes."""

    returned: bool
    answers: int = 0
    unable: int = 0


@workflow.defn(name=WORKFLOW_TYPE)
class ProbeQuarantine:
    """The execution."""

    def __init__(self) -> None:
        self._suspect = QuarantinedAddress("", ConflictingHost())
        self._progress = ProbeProgress()
        self._due_s = 0.0
        self._looks = False
        self._wanted = False

    @workflow.run
    async def run(
        self, suspect: QuarantinedAddress, progress: ProbeProgress = ProbeProgress()
    ) -> ProbeOutcome:
        """Until the quarantine is over."""
        self._suspect, self._progress = suspect, progress
        workflow.set_signal_handler(LOOK, self._look)
        workflow.set_signal_handler(PROBE_NOW, self._want)
        while await self._wait():
            answer = await self._probe()
            if answer.verdict == "over":
                break
            self._progress = after(self._progress, answer, now_s())
            self._tell()
            if self._progress.is_enough and await self._give_back():
                return self._outcome(returned=True)
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(suspect, self._progress)
        return self._outcome(returned=False)

    @workflow.query
    def status(self) -> dict[str, Payload]:
        """Who was seen, what the probes have said, and when the next one comes."""
        progress = self._progress
        return {
            "address": self._suspect.address,
            "stranger": self._suspect.stranger._asdict(),
            "silent": progress.silent,
            "silent_needed": SILENT_PROBES,
            "answers": progress.answers,
            "unable": progress.unable,
            "last": progress.last,
            "last_mac": progress.mac,
            "text": progress.text,
            "last_probe": utc(progress.at_s),
            "next_probe": utc(self._due_s),
        }

    def _look(self) -> None:
        self._looks = True

    def _want(self) -> None:
        self._wanted = True

    async def _wait(self) -> bool:
        """Until it is time for a probe; False if the quarantine was over before."""
        self._due_s = now_s() + self._progress.pause_s
        while self._due_s > now_s() and not self._wanted:
            with suppress(workflow.TimeoutError):
                await workflow.wait_condition(
                    lambda: self._looks or self._wanted, self._due_s - now_s()
                )
            if self._looks:
                self._looks = False
                if not await self._is_still_so():
                    return False
        self._wanted = False
        return True

    async def _is_still_so(self) -> bool:
        try:
            return await workflow.execute_activity(
                QuarantineActivities.check, *self._suspect, options=_OPTIONS
            )
        except workflow.ActivityError:
            return True

    async def _probe(self) -> ProbeResult:
        try:
            return await workflow.execute_activity(
                QuarantineActivities.probe, *self._suspect, options=_OPTIONS
            )
        except workflow.ActivityError as error:
            return ProbeResult("unable", text=words(error))

    async def _give_back(self) -> bool:
        """Whether there is nothing left to do; after a failure the next probe comes first."""
        reason = f"silent {self._progress.silent} times, {self._progress.text}"
        try:
            await workflow.execute_activity(
                QuarantineActivities.give_back, *self._suspect, reason, options=_OPTIONS
            )
        except workflow.ActivityError as error:
            self._progress = self._progress._replace(text=words(error))
            return False
        return True

    def _outcome(self, *, returned: bool) -> ProbeOutcome:
        return ProbeOutcome(returned, self._progress.answers, self._progress.unable)

    def _tell(self) -> None:
        workflow.upsert_search_attributes(
            {"QuarantineSilent": self._progress.silent, "QuarantineLast": self._progress.last}
        )
