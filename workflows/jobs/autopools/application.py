"""Automatic pools: one execution for each application whose pools are not as desired.

The execution reconciles until the pools are as desired, or only a user can solve the remaining
problems. Until then it reconciles on the signal ``wake`` and every ``RETRY_S``. The sender of the
signal starts an execution if none is open.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, NamedTuple

from core.domain.autopools.pool_names import ApplicationKey
from workflows.api import workflow
from workflows.jobs.activity_options import FAULT_CHARS_MAX, failure_text, step_options
from workflows.jobs.autopools.pool_activities import AutoPoolActivities, ReconcileResult
from workflows.model.limits import ID_BYTES_MAX
from workflows.model.payloads import Payload

WORKFLOW_TYPE: Final = "auto-pools"
WAKE_SIGNAL: Final = "wake"

RECONCILE_S: Final = 60.0

RECONCILE_ATTEMPTS_S: Final = 300.0
"""Seconds of all attempts to reconcile."""

RETRY_S: Final = 120.0
"""Seconds between two reconciliations while a problem remains."""

DONE_SHOWN_MAX: Final = 20

_DIGEST_BYTES: Final = 8
_RECONCILE: Final = step_options(
    RECONCILE_S, RECONCILE_ATTEMPTS_S, first_pause_s=0.2, pause_s_max=10.0
)


def workflow_id(key: ApplicationKey) -> str:
    """``auto-pools/apps_v1_Deployment_shop_web``. A very long id ends with a digest."""
    name = f"{WORKFLOW_TYPE}/{key}"
    if len(name.encode()) <= ID_BYTES_MAX:
        return name
    digest = blake2b(name.encode(), digest_size=_DIGEST_BYTES).hexdigest()
    return f"{name[: ID_BYTES_MAX - len(digest) - 1]}-{digest}"


class ApplicationProgress(NamedTuple):
    """The state that passes from run to run. ``reconciled``: the number of reconciliations."""

    reconciled: int = 0
    done: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    fault: str = ""


@workflow.defn(name=WORKFLOW_TYPE)
class AutoPools:
    """The workflow of one application."""

    def __init__(self) -> None:
        self._progress = ApplicationProgress()
        self._is_requested = False
        self._phase = "looking"

    @workflow.run
    async def run(
        self, key: ApplicationKey, progress: ApplicationProgress = ApplicationProgress()
    ) -> ApplicationProgress:
        """Reconcile until no retry can help. The result lists the executed steps."""
        self._progress = progress
        workflow.set_signal_handler(WAKE_SIGNAL, self._wake)
        while True:
            self._is_requested = False
            is_settled = await self._reconcile(key)
            if is_settled and not self._is_requested:
                self._phase = "settled"
                return self._progress
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(key, self._progress)
            if not self._is_requested:
                await self._wait()

    @workflow.query
    def status(self) -> dict[str, Payload]:
        """The executed steps, and the remaining problems."""
        progress = self._progress
        return {
            "phase": self._phase,
            "looks": progress.reconciled,
            "done": list(progress.done),
            "problems": list(progress.problems),
            "fault": progress.fault,
        }

    def _wake(self) -> None:
        self._is_requested = True

    async def _reconcile(self, key: ApplicationKey) -> bool:
        """Reconcile once. Returns whether no retry can help."""
        self._phase = "looking"  # published: users see the name of the phase
        try:
            result = await workflow.execute_activity(
                AutoPoolActivities.reconcile, key, options=_RECONCILE
            )
        except workflow.ActivityError as error:
            self._progress = self._progress._replace(fault=failure_text(error))
            return False
        self._note(result)
        return not any(problem.again for problem in result.problems)

    def _note(self, result: ReconcileResult) -> None:
        before = self._progress
        problems = tuple(str(problem) for problem in result.problems)
        done = (*before.done, *result.done)[-DONE_SHOWN_MAX:]
        if problems != before.problems:
            text = "; ".join(problems)[:FAULT_CHARS_MAX]
            workflow.upsert_search_attributes({"AutoPoolProblems": text})
        self._progress = ApplicationProgress(before.reconciled + 1, done, problems)

    async def _wait(self) -> None:
        self._phase = "waiting"
        try:
            await workflow.wait_condition(lambda: self._is_requested, RETRY_S)
        except workflow.TimeoutError:
            return
