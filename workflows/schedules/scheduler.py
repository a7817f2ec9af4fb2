"""The workflow that runs one schedule.

At each time of the schedule, the workflow starts the action as a child. It continues as new when
no child runs; under ALLOW_ALL also while children run. If the history gets too long while it waits
for a child, the workflow starts no more timers, and handles the missed times when the child has
ended.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from typing import Final, NamedTuple

from workflows.api import workflow
from workflows.model.policies import ParentClosePolicy
from workflows.schedules.schedule import (
    RECENT_ACTIONS_MAX,
    OverlapPolicy,
    Schedule,
    ScheduleAction,
    ScheduleActionResult,
    ScheduleDescription,
    ScheduleProgress,
)
from workflows.schedules.times import buffer_start, next_ms, start_ms, take_due, upcoming

WORKFLOW_TYPE: Final = "orbweaver-scheduler"
ID_PREFIX: Final = "schedule/"

PAUSE_SIGNAL: Final = "pause"
UNPAUSE_SIGNAL: Final = "unpause"
TRIGGER_SIGNAL: Final = "trigger"
REPLACE_SIGNAL: Final = "replace"

STARTED_BY: Final = "ScheduledById"
STARTED_FOR: Final = "ScheduledStartTime"
"""Search attributes of the started executions."""

SPEC_ATTRIBUTE: Final = "ScheduleSpec"
ACTION_ATTRIBUTE: Final = "ScheduleAction"
PAUSED_ATTRIBUTE: Final = "SchedulePaused"
NEXT_TIME_ATTRIBUTE: Final = "ScheduleNextTime"
"""Search attributes of the schedule itself."""

LATE_AFTER_JITTER: Final = "late-after-jitter"
"""The id of the patch since which the catch-up window of a start begins after its jitter."""

NEXT_TIMES_SHOWN: Final = 5
PASS_GAP_S: Final = 0.001
"""The wait before the next task if more times are due than one task handles."""


class _RunningAction(NamedTuple):
    """A running action. ``child`` None: the action is starting."""

    workflow_id: str
    child: workflow.ChildHandle | None = None


@workflow.defn(name=WORKFLOW_TYPE)
class Scheduler:
    """The workflow of one schedule."""

    def __init__(self) -> None:
        self._schedule: Schedule | None = None
        self._progress = ScheduleProgress()
        self._running_actions: dict[int, _RunningAction] = {}  # by scheduled time
        self._has_changed = False

    @workflow.run
    async def run(
        self, schedule: Schedule, progress: ScheduleProgress = ScheduleProgress()
    ) -> None:
        """Start actions until the schedule is deleted."""
        self._schedule = schedule
        # A new schedule has no times before its creation.
        self._progress = progress._replace(handled_ms=progress.handled_ms or _now_ms())
        workflow.set_signal_handler(PAUSE_SIGNAL, self._pause)
        workflow.set_signal_handler(UNPAUSE_SIGNAL, self._unpause)
        workflow.set_signal_handler(TRIGGER_SIGNAL, self._trigger)
        workflow.set_signal_handler(REPLACE_SIGNAL, self._replace)
        while True:
            self._has_changed = False
            if not self._progress.paused:
                # Adds the due times to ``buffered``, as far as the overlap policy allows.
                self._progress = take_due(
                    self._id,
                    self._current_schedule,
                    self._progress,
                    _now_ms(),
                    running=len(self._running_actions),
                    jitter_counts_as_late=not workflow.patched(LATE_AFTER_JITTER),
                )
            if workflow.info().is_continue_as_new_suggested() and not self._awaits_action:
                workflow.continue_as_new(self._current_schedule, self._progress)
            await self._start_buffered()
            self._publish()
            with suppress(workflow.TimeoutError):
                await workflow.wait_condition(lambda: self._has_changed, self._wait_s())

    @workflow.query
    def describe(self) -> ScheduleDescription:
        """The schedule and its progress."""
        schedule, progress = self._current_schedule, self._progress
        times = () if progress.paused else upcoming(schedule.spec, progress.handled_ms)
        return ScheduleDescription(
            schedule,
            progress,
            tuple(action.workflow_id for action in self._running_actions.values()),
            tuple(start_ms(self._id, schedule.spec, at) for at in islice(times, NEXT_TIMES_SHOWN)),
        )

    # ------------------------------------------------------------------------------ signals

    def _pause(self, note: str = "") -> None:
        """Pause the schedule. Waiting starts and the times during the pause are skipped."""
        buffered = self._progress.buffered
        skipped = self._progress.skipped_overlap + len(buffered)
        self._change(paused=True, note=note, buffered=(), skipped_overlap=skipped)

    def _unpause(self, note: str = "") -> None:
        """Continue with the next time, without the times during the pause."""
        if self._progress.paused:
            self._change(paused=False, note=note, handled_ms=_now_ms())

    def _trigger(self) -> None:
        """Start the action at a unique time, because the execution id contains the time."""
        overlap, running = self._current_schedule.policy.overlap, self._running_actions
        used_ms = [*running, *self._progress.buffered]
        at_ms = max([_now_ms(), *(at + 1 for at in used_ms)])
        self._progress = buffer_start(overlap, self._progress, at_ms, running=len(running))
        self._has_changed = True

    def _replace(self, schedule: Schedule) -> None:
        """Use another schedule, from the next time on."""
        if schedule != self._schedule:
            self._schedule = schedule
            self._change(handled_ms=_now_ms())

    def _change(self, **fields: object) -> None:
        self._progress = self._progress._replace(**fields)  # type: ignore[arg-type]  # by name
        self._has_changed = True

    # ------------------------------------------------------------------------------ actions

    @property
    def _id(self) -> str:
        return workflow.info().workflow_id.removeprefix(ID_PREFIX)

    @property
    def _current_schedule(self) -> Schedule:
        assert self._schedule is not None, "the first argument of run"
        return self._schedule

    @property
    def _awaits_action(self) -> bool:
        return (
            bool(self._running_actions)
            and self._current_schedule.policy.overlap is not OverlapPolicy.ALLOW_ALL
        )

    def _wait_s(self) -> float | None:
        """Seconds to the next time; None: wait only for a signal or the end of an action."""
        if self._progress.paused:
            return None
        if self._awaits_action and workflow.info().is_continue_as_new_suggested():
            return None
        spec = self._current_schedule.spec
        due_ms = start_ms(self._id, spec, next_ms(spec, self._progress.handled_ms))
        return max((due_ms - _now_ms()) / 1000, PASS_GAP_S)

    async def _start_buffered(self) -> None:
        if (
            self._progress.buffered
            and self._current_schedule.policy.overlap is OverlapPolicy.CANCEL_OTHER
        ):
            for action in self._running_actions.values():
                if action.child is not None:
                    await action.child.cancel()
        while self._progress.buffered and not self._awaits_action:
            at_ms, *buffered = self._progress.buffered
            self._progress = self._progress._replace(buffered=tuple(buffered))
            workflow_id = execution_id(self._id, self._current_schedule.action, at_ms)
            self._running_actions[at_ms] = _RunningAction(workflow_id)
            workflow.start(self._run_action(at_ms, workflow_id), f"action of {_utc(at_ms)}")

    async def _run_action(self, at_ms: int, workflow_id: str) -> None:
        action, fault, started_ms = self._current_schedule.action, "", _now_ms()
        try:
            child = await workflow.start_child(
                action.workflow_type,
                *action.args,
                options=workflow.ChildOptions(
                    workflow_id,
                    action.run_timeout_s,
                    action.execution_timeout_s,
                    ParentClosePolicy.ABANDON,
                    search_attributes={
                        **action.search_attributes,
                        STARTED_BY: self._id,
                        STARTED_FOR: _utc(at_ms),
                    },
                ),
            )
            self._running_actions[at_ms] = _RunningAction(workflow_id, child)
            self._note_action(at_ms, started_ms, child)
            await child
        except workflow.ChildWorkflowError as error:
            fault = f"{workflow_id}: {error.__cause__ or error}"
        except workflow.CancelledError:
            pass  # a cancelled action is not a fault
        self._running_actions.pop(at_ms)
        self._change(fault=fault)
        if fault and self._current_schedule.policy.pause_on_failure:
            self._pause(f"paused because of {fault}")

    def _note_action(self, at_ms: int, started_ms: int, child: workflow.ChildHandle) -> None:
        result = ScheduleActionResult(at_ms, started_ms, child.workflow_id, child.run_id)
        recent = (*self._progress.recent, result)[-RECENT_ACTIONS_MAX:]
        self._change(actions=self._progress.actions + 1, recent=recent)

    def _publish(self) -> None:
        schedule, paused = self._current_schedule, self._progress.paused
        next_time = "" if paused else _utc(next_ms(schedule.spec, self._progress.handled_ms))
        attributes = {
            SPEC_ATTRIBUTE: schedule.spec.text,
            ACTION_ATTRIBUTE: schedule.action.workflow_type,
            PAUSED_ATTRIBUTE: paused,
            NEXT_TIME_ATTRIBUTE: next_time,
        }
        shown = workflow.info().search_attributes
        changed = {name: value for name, value in attributes.items() if shown.get(name) != value}
        if changed:
            workflow.upsert_search_attributes(changed)


def execution_id(schedule_id: str, action: ScheduleAction, at_ms: int) -> str:
    """The id of the execution for one time of a schedule."""
    return f"{action.workflow_id or schedule_id}-{_utc(at_ms)}"


def _now_ms() -> int:
    return round(workflow.now().timestamp() * 1000)


def _utc(at_ms: int) -> str:
    detail = "milliseconds" if at_ms % 1000 else "seconds"
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec=detail)[:-6] + "Z"
