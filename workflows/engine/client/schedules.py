"""A client's schedules: executions of ``workflows.schedules.scheduler.Scheduler``.

Changes are signals and need no running worker. A description is a query and needs a running worker.
"""

from __future__ import annotations

from typing import NamedTuple

from core.errors import AlreadyStarted, BadInput, CallRejected, ExecutionNotFound
from workflows.engine.client.client import Client
from workflows.engine.client.visibility import Filter, Visibility
from workflows.engine.store.history_reader import read_heads
from workflows.engine.store.keys import check_id
from workflows.model.payloads import payload_bytes, to_payload, to_payloads
from workflows.model.policies import ExecutionStatus
from workflows.schedules.schedule import (
    NOTE_CHARACTERS_MAX,
    SCHEDULE_BYTES_MAX,
    Schedule,
    ScheduleDescription,
    ScheduleProgress,
)
from workflows.schedules.scheduler import (
    ACTION_ATTRIBUTE,
    ID_PREFIX,
    NEXT_TIME_ATTRIBUTE,
    PAUSE_SIGNAL,
    PAUSED_ATTRIBUTE,
    REPLACE_SIGNAL,
    SPEC_ATTRIBUTE,
    TRIGGER_SIGNAL,
    UNPAUSE_SIGNAL,
    WORKFLOW_TYPE,
    Scheduler,
    execution_id,
)
from workflows.schedules.times import check_schedule

_TIME_WITH_LONGEST_TEXT_MS = 1
"""The text of a time is longest if the time has a fraction of a second."""

_OPEN = (ExecutionStatus.RUNNING, ExecutionStatus.PAUSED)


class ListedSchedule(NamedTuple):
    """One row of a list. ``next_time``: in ISO 8601, "" for none."""

    schedule_id: str
    workflow_type: str
    spec: str
    paused: bool
    next_time: str


class Schedules:
    """The schedules of a client's task queue."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def create(
        self,
        schedule_id: str,
        schedule: Schedule,
        *,
        paused: bool = False,
        note: str = "",
        trigger_immediately: bool = False,
    ) -> ScheduleHandle:
        """Create a schedule. Raises AlreadyStarted, BadInput, PayloadError, StoreUnavailable."""
        checked = _checked_schedule(schedule_id, schedule)
        progress = ScheduleProgress(paused=paused, note=_checked_note(note))
        workflow_id = ID_PREFIX + schedule_id
        try:
            await self._client.start(Scheduler, checked, progress, id=workflow_id)
        except AlreadyStarted as error:
            raise AlreadyStarted(
                f"schedule {schedule_id} exists already",
                subject=schedule_id,
                remedy="use another id, or delete this schedule first",
                run_id=error.run_id,
            ) from None
        handle = self.handle(schedule_id)
        if trigger_immediately:
            await handle.trigger()
        return handle

    async def ensure(self, schedule_id: str, schedule: Schedule) -> ScheduleHandle:
        """Create or replace a schedule. A paused schedule stays paused.

        Raises BadInput, PayloadError, LimitExceeded, StoreUnavailable, OutcomeUnknown.
        """
        checked = _checked_schedule(schedule_id, schedule)
        await self._client.signal_with_start(
            Scheduler,
            checked,
            id=ID_PREFIX + schedule_id,
            signal=REPLACE_SIGNAL,
            signal_args=[checked],
        )
        return self.handle(schedule_id)

    def handle(self, schedule_id: str) -> ScheduleHandle:
        """The handle of a schedule, which need not exist."""
        return ScheduleHandle(self._client, schedule_id)

    async def list(self) -> list[ListedSchedule]:
        """All schedules, by id. Raises StoreUnavailable, LimitExceeded."""
        visibility = Visibility(self._client.store, self._client.keys)
        heads = visibility.heads(Filter(WORKFLOW_TYPE, _OPEN, id_prefix=ID_PREFIX))
        rows = [
            ListedSchedule(
                head.workflow_id.removeprefix(ID_PREFIX),
                str(head.search_attributes.get(ACTION_ATTRIBUTE, "")),
                str(head.search_attributes.get(SPEC_ATTRIBUTE, "")),
                bool(head.search_attributes.get(PAUSED_ATTRIBUTE)),
                str(head.search_attributes.get(NEXT_TIME_ATTRIBUTE, "")),
            )
            async for head in heads
        ]
        return sorted(rows)


class ScheduleHandle(NamedTuple):
    """One schedule. Each call raises ExecutionNotFound if there is no such schedule."""

    client: Client
    schedule_id: str

    async def describe(self) -> ScheduleDescription:
        """The progress, running actions and next times. Raises DeadlineExceeded."""
        workflow_id = await self._existing_workflow_id()
        description: ScheduleDescription = await self.client.query(workflow_id, Scheduler.describe)
        return description

    async def pause(self, note: str = "") -> None:
        """Skip waiting starts. Until ``unpause``, only ``trigger`` starts actions."""
        await self._signal(PAUSE_SIGNAL, _checked_note(note))

    async def unpause(self, note: str = "") -> None:
        """Start actions again, from the next time of the schedule."""
        await self._signal(UNPAUSE_SIGNAL, _checked_note(note))

    async def trigger(self) -> None:
        """Start the action now, under the overlap policy."""
        await self._signal(TRIGGER_SIGNAL)

    async def replace(self, schedule: Schedule) -> None:
        """Use another schedule from now on. Raises BadInput."""
        await self._signal(REPLACE_SIGNAL, _checked_schedule(self.schedule_id, schedule))

    async def delete(self, reason: str = "the schedule was deleted") -> None:
        """Delete the schedule. Running actions continue."""
        await self.client.terminate(await self._existing_workflow_id(), reason)

    async def _signal(self, name: str, *args: object) -> None:
        await self.client.signal(await self._existing_workflow_id(), name, *args)

    async def _existing_workflow_id(self) -> str:
        workflow_id = ID_PREFIX + self.schedule_id
        head, _ = await read_heads(self.client.store, self.client.keys, workflow_id)
        if head is None:
            raise ExecutionNotFound(
                f"schedule {self.schedule_id} does not exist",
                subject=self.schedule_id,
                remedy="check `orbctl schedule list`",
            )
        if head.workflow_type != WORKFLOW_TYPE:
            raise CallRejected(
                f"workflow {workflow_id} is not a schedule: its type is {head.workflow_type}",
                subject=self.schedule_id,
                remedy="check `orbctl schedule list`",
            )
        return workflow_id


def _checked_schedule(schedule_id: str, schedule: Schedule) -> Schedule:
    """Check a schedule, and convert its arguments to plain data. Raises BadInput."""
    check_id(schedule_id, "schedule id")
    check_schedule(schedule)
    action = schedule.action
    check_id(execution_id(schedule_id, action, _TIME_WITH_LONGEST_TEXT_MS))
    args = to_payloads(action.args, what=f"arguments of {action.workflow_type}")
    checked = schedule._replace(action=action._replace(args=args))
    size = payload_bytes(to_payload(checked, what=f"schedule {schedule_id}"))
    if size > SCHEDULE_BYTES_MAX:
        raise BadInput(
            f"schedule {schedule_id} has {size} bytes, SCHEDULE_BYTES_MAX is {SCHEDULE_BYTES_MAX}",
            subject="schedule",
            remedy="pass large arguments by reference",
        )
    return checked


def _checked_note(note: str) -> str:
    if len(note) > NOTE_CHARACTERS_MAX:
        raise BadInput(
            f"the note has {len(note)} characters, NOTE_CHARACTERS_MAX is {NOTE_CHARACTERS_MAX}",
            subject="note",
            remedy="shorten it",
        )
    return note
