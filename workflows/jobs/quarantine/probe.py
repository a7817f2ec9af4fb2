"""The workflow that probes a quarantined address, and lifts the quarantine after silent probes.

Only quarantines with a conflicting host have an execution. Operators lift all others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from core.domain.model import ConflictingHost
from core.projections.projection import Projection
from workflows.api import workflow
from workflows.jobs.activity_options import failure_text, now_s, step_options, utc
from workflows.jobs.quarantine.activities import QuarantineActivities
from workflows.jobs.quarantine.prober import ProbeResult
from workflows.jobs.quarantine.schedule import SILENT_PROBES, ProbeProgress, with_result
from workflows.jobs.required_executions import RequiredExecution
from workflows.model.payloads import Payload

WORKFLOW_TYPE: Final = "quarantine-probe"
CHECK_SIGNAL: Final = "look"
"""The signal that the quarantine may have changed."""

PROBE_NOW: Final = "probe-now"
"""The signal to probe at once."""

PROBE_S: Final = 30.0
PROBE_ATTEMPTS_S: Final = 120.0
"""Time limits of one attempt, and of all attempts."""

_OPTIONS: Final = step_options(PROBE_S, PROBE_ATTEMPTS_S)


def probe_id(address: str) -> str:
    """The workflow id of a quarantined address."""
    return f"quarantine/{address}"


class QuarantinedAddress(NamedTuple):
    """An address, and the conflicting host of its quarantine."""

    address: str
    host: ConflictingHost


class ProbeOutcome(NamedTuple):
    """The result of an execution. ``returned``: whether it lifted the quarantine."""

    returned: bool
    answers: int = 0
    unable: int = 0


@workflow.defn(name=WORKFLOW_TYPE)
class ProbeQuarantine:
    """The workflow of one quarantined address."""

    def __init__(self) -> None:
        self._quarantined = QuarantinedAddress("", ConflictingHost())
        self._progress = ProbeProgress()
        self._due_s = 0.0
        self._must_check = False
        self._is_requested = False

    @workflow.run
    async def run(
        self, quarantined: QuarantinedAddress, progress: ProbeProgress = ProbeProgress()
    ) -> ProbeOutcome:
        """Probe until the quarantine ends."""
        self._quarantined, self._progress = quarantined, progress
        workflow.set_signal_handler(CHECK_SIGNAL, self._check_now)
        workflow.set_signal_handler(PROBE_NOW, self._request)
        while await self._wait():
            result = await self._probe()
            if result.verdict == "over":
                break
            self._progress = with_result(self._progress, result, now_s())
            self._publish()
            if self._progress.may_lift:
                lifted = await self._lift()
                if lifted is not None:
                    return self._outcome(returned=lifted)
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(quarantined, self._progress)
        return self._outcome(returned=False)

    @workflow.query
    def status(self) -> dict[str, Payload]:
        """The results of the probes, and the time of the next probe."""
        progress = self._progress
        return {
            "address": self._quarantined.address,
            "stranger": self._quarantined.host._asdict(),
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

    def _check_now(self) -> None:
        self._must_check = True

    def _request(self) -> None:
        self._is_requested = True

    async def _wait(self) -> bool:
        """Wait until a probe is due. Returns False if the quarantine ends first."""
        self._due_s = now_s() + self._progress.pause_s
        while self._due_s > now_s() and not self._is_requested:
            with suppress(workflow.TimeoutError):
                await workflow.wait_condition(
                    lambda: self._must_check or self._is_requested, self._due_s - now_s()
                )
            if self._must_check:
                self._must_check = False
                if not await self._is_still_quarantined():
                    return False
        self._is_requested = False
        return True

    async def _is_still_quarantined(self) -> bool:
        try:
            return await workflow.execute_activity(
                QuarantineActivities.check, *self._quarantined, options=_OPTIONS
            )
        except workflow.ActivityError:
            return True

    async def _probe(self) -> ProbeResult:
        try:
            return await workflow.execute_activity(
                QuarantineActivities.probe, *self._quarantined, options=_OPTIONS
            )
        except workflow.ActivityError as error:
            return ProbeResult("unable", text=failure_text(error))

    async def _lift(self) -> bool | None:
        """Lift the quarantine. False if it has ended, None after a failure."""
        reason = f"silent {self._progress.silent} times, {self._progress.text}"
        try:
            return await workflow.execute_activity(
                QuarantineActivities.lift, *self._quarantined, reason, options=_OPTIONS
            )
        except workflow.ActivityError as error:
            self._progress = self._progress._replace(text=failure_text(error))
            return None

    def _outcome(self, *, returned: bool) -> ProbeOutcome:
        return ProbeOutcome(returned, self._progress.answers, self._progress.unable)

    def _publish(self) -> None:
        workflow.upsert_search_attributes(
            {"QuarantineSilent": self._progress.silent, "QuarantineLast": self._progress.last}
        )


def required_probes(projection: Projection) -> Iterator[RequiredExecution]:
    """One execution for each quarantine that has a conflicting host."""
    for address, quarantine in projection.ledger.quarantine.items():
        if quarantine.conflicting_host is not None:
            host = quarantine.conflicting_host
            arguments = (QuarantinedAddress(address, host),)
            yield RequiredExecution(
                ProbeQuarantine, probe_id(address), arguments, CHECK_SIGNAL, host
            )
