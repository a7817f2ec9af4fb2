"""Automatic pools: one execution an application, as long as something is to be done for it.

It looks and acts, and ends when everything is as it should be or only a person can help. When
something is left that time or others will solve (addresses still held, a subnet without enough of
them), it stays, and looks again when it is woken or after ``LOOK_AGAIN_S``. Whoever wants it looked
at signals it with a start, so a wake is never lost: it is in the history of this run or begins one.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, NamedTuple

from core.domain.autopools.names import ApplicationKey
from workflows.api import workflow
from workflows.jobs.autopools.pool_activities import AutoPoolActivities, ReconcileResult
from workflows.jobs.steps import FAULT_CHARS_MAX, patient, words
from workflows.model.limits import ID_BYTES_MAX
from workflows.model.payloads import Payload

WORKFLOW_TYPE: Final = "auto-pools"
WAKE: Final = "wake"

LOOK_S: Final = 60.0
"""One attempt at a look."""

LOOKS_S: Final = 300.0
"""All attempts at one look; then it waits like for anything else."""

LOOK_AGAIN_S: Final = 120.0
"""Between two looks while something is left and nobody wakes it."""

DONE_SHOWN_MAX: Final = 20
"""Steps that ``status`` and the result tell, the newest ones."""

_DIGEST_BYTES: Final = 8
_LOOK: Final = patient(LOOK_S, LOOKS_S, first_pause_s=0.2, pause_s_max=10.0)


def workflow_id(key: ApplicationKey) -> str:
    """``auto-pools/apps_v1_Deployment_shop_web``; the end of a very long name is a digest."""
    name = f"{WORKFLOW_TYPE}/{key}"
    if len(name.encode()) <= ID_BYTES_MAX:
        return name
    digest = blake2b(name.encode(), digest_size=_DIGEST_BYTES).hexdigest()
    return f"{name[: ID_BYTES_MAX - len(digest) - 1]}-{digest}"


class ApplicationProgress(NamedTuple):
    """What one run leaves to the next."""

    looks: int = 0
    done: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    fault: str = ""


@workflow.defn(name=WORKFLOW_TYPE)
class AutoPools:
    """The execution. It holds no pools, only words about them."""

    def __init__(self) -> None:
        self._progress = ApplicationProgress()
        self._wanted = False
        self._phase = "looking"

    @workflow.run
    async def run(
        self, key: ApplicationKey, progress: ApplicationProgress = ApplicationProgress()
    ) -> ApplicationProgress:
        """Look until nothing is left; the result tells what was done."""
        self._progress = progress
        workflow.set_signal_handler(WAKE, self._wake)
        while True:
            self._wanted = False
            is_settled = await self._look(key)
            if is_settled and not self._wanted:
                self._phase = "settled"
                return self._progress
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(key, self._progress)
            if not self._wanted:
                await self._wait()

    @workflow.query
    def status(self) -> dict[str, Payload]:
        """What it did, and what it waits for."""
        progress = self._progress
        return {
            "phase": self._phase,
            "looks": progress.looks,
            "done": list(progress.done),
            "problems": list(progress.problems),
            "fault": progress.fault,
        }

    def _wake(self) -> None:
        self._wanted = True

    async def _look(self, key: ApplicationKey) -> bool:
        """Whether nothing is left that looking again could solve."""
        self._phase = "looking"
        try:
            look = await workflow.execute_activity(AutoPoolActivities.reconcile, key, options=_LOOK)
        except workflow.ActivityError as error:
            self._progress = self._progress._replace(fault=words(error))
            return False
        self._note(look)
        return not any(problem.again for problem in look.problems)

    def _note(self, look: ReconcileResult) -> None:
        before = self._progress
        problems = tuple(str(problem) for problem in look.problems)
        done = (*before.done, *look.done)[-DONE_SHOWN_MAX:]
        if problems != before.problems:
            text = "; ".join(problems)[:FAULT_CHARS_MAX]
            workflow.upsert_search_attributes({"AutoPoolProblems": text})
        self._progress = ApplicationProgress(before.looks + 1, done, problems)

    async def _wait(self) -> None:
        self._phase = "waiting"
        try:
            await workflow.wait_condition(lambda: self._wanted, LOOK_AGAIN_S)
        except workflow.TimeoutError:
            return
