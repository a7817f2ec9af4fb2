"""Workflows and activities run to completion in memory, in skipped time.

    env = Environment(Registry([Reclaim], [release]))
    assert await env.execute(Reclaim, "pod-1") == 3

Nothing waits for real: when all that can happen now has happened, the clock jumps to what is due
next. Activities run for real and at the same time, by the engine's own rules: slots, retries, the
four timeouts, heartbeats. An activity of a test that shall take long says so with
``await env.spend(seconds)``; one that waits for anything else is at work, and the clock waits for
it. With ``replays=True`` every task replays its history first, which finds non-determinism in every
test that uses it.

No store and no owners: those are the engine's, and tested there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from workflows.api.definitions import Registry, workflow_definition
from workflows.engine.store.records import Attempt
from workflows.engine.telemetry import Telemetry
from workflows.engine.worker.activities import SLOTS, ActivityHost, Running
from workflows.engine.worker.job import Job
from workflows.model import events as ev
from workflows.model.errors import WorkflowError
from workflows.model.payloads import to_payloads
from workflows.model.policies import ExecutionStatus, ParentClosePolicy
from workflows.testing.clock import SkippedClock
from workflows.testing.execution import SimulatedExecution
from workflows.testing.handle import SimulatedHandle

START_MS = 1_700_000_000_000
"""When the clock of an environment starts, by default."""


class StuckError(WorkflowError):
    """Nothing is left that could happen; the message says what is waited for."""


class WorkflowEnvironment:
    """A small world of executions with one clock."""

    def __init__(
        self,
        registry: Registry,
        *,
        replays: bool = False,
        start_ms: int = START_MS,
        slots: int = SLOTS,
    ) -> None:
        self.registry = registry
        self.replays = replays
        self._clock = SkippedClock(start_ms)
        self._host = ActivityHost(registry, self._clock, Telemetry(), slots=slots)
        self.runs: dict[str, list[SimulatedExecution]] = {}

    @property
    def now_ms(self) -> int:
        """Milliseconds since 1970, by the clock of this world."""
        return self._clock.now_ms()

    async def spend(self, seconds: float) -> None:
        """For activities: take this long, in skipped time; ``math.inf`` never comes back."""
        await self._clock.wait(asyncio.Event(), seconds)

    async def execute(
        self, workflow: str | type[Any], *args: object, workflow_id: str = "workflow"
    ) -> Any:  # noqa: ANN401 - whatever the workflow returns
        """Start a workflow and give its result, or raise what it failed with."""
        return await self.start(workflow, *args, workflow_id=workflow_id).result()

    def start(
        self, workflow: str | type[Any], *args: object, workflow_id: str = "workflow"
    ) -> SimulatedHandle:
        """Start a workflow; nothing of it runs before something is awaited."""
        name = workflow if isinstance(workflow, str) else workflow_definition(workflow).name
        payloads = to_payloads(args, what=f"the arguments of {name}")
        self._begin(ev.WorkflowExecutionStarted(name, workflow_id, "", "test", payloads))
        return SimulatedHandle(self, workflow_id)

    def handle(self, workflow_id: str) -> SimulatedHandle:
        """An execution that was started before, by a test or by a parent."""
        return SimulatedHandle(self, workflow_id)

    async def settle(self) -> None:
        """Let everything happen that can happen without the clock moving on."""
        while True:
            while execution := next((each for each in self._running() if each.due), None):
                execution.do_task()
            awake = [task for task in self._tasks() if not self._clock.is_asleep(task)]
            if not awake:
                return
            await self._clock.rest(awake)

    async def advance(self, seconds: float) -> None:
        """Let ``seconds`` go by, with everything that falls due meanwhile."""
        until_ms = self.now_ms + round(seconds * 1000)
        await self.settle()
        while (due_ms := self._next_due_ms()) is not None and due_ms <= until_ms:
            self._move_to(due_ms)
            await self.settle()
        self._clock.move_to(until_ms)

    async def run_until(self, condition: Callable[[], bool]) -> None:
        """Skip time until ``condition()`` holds; StuckError if it never will."""
        await self.settle()
        while not condition():
            due_ms = self._next_due_ms()
            if due_ms is None:
                raise StuckError("; ".join(self._waits()) or "nothing is running")
            self._move_to(due_ms)
            await self.settle()

    # --------------------------------------------------------------------- what moves the world

    def _running(self) -> list[SimulatedExecution]:
        latest = [runs[-1] for runs in self.runs.values()]
        return [execution for execution in latest if execution.status is ExecutionStatus.RUNNING]

    def _tasks(self) -> list[asyncio.Task[Any]]:
        """All that may be at work."""
        runs = (runs[-1] for runs in self.runs.values())
        running = [one.task for run in runs for one in run.running.values()]
        for failed in (task for task in running if task.done()):
            failed.result()  # it reports before it ends, unless the engine has a fault
        return [*running, *self._host.at_work]

    def _next_due_ms(self) -> int | None:
        timers = [due_ms for each in self._running() for due_ms in each.timers.values()]
        asleep = self._clock.next_due_ms()
        return min([*timers, *([] if asleep is None else [asleep])], default=None)

    def _move_to(self, due_ms: int) -> None:
        self._clock.move_to(due_ms)
        for execution in self._running():
            fired = [number for number, at in execution.timers.items() if at <= self.now_ms]
            for number in fired:
                del execution.timers[number]
                execution.record(ev.TimerFired(number))

    def _waits(self) -> list[str]:
        latest = [runs[-1] for runs in self.runs.values()]
        return [
            f"{execution.started.workflow_id} ({execution.status}): "
            + (execution.reason or ", ".join(execution.waiting_for) or "nothing")
            for execution in latest
            if execution.status.open
        ]

    # ---------------------------------------------------------------- between the executions

    def launched(
        self, execution: SimulatedExecution, scheduled: ev.ActivityTaskScheduled
    ) -> Running:
        """Begin an activity at its first attempt; it reports to the execution."""
        here = execution.started
        job = Job(
            here.workflow_id,
            here.run_id,
            here.workflow_type,
            scheduled,
            self.now_ms,
            Attempt(1),
        )
        return self._host.start(job, execution.report, _keep)

    def _begin(self, started: ev.WorkflowExecutionStarted) -> None:
        runs = self.runs.setdefault(started.workflow_id, [])
        if runs and runs[-1].status.open:
            raise WorkflowError(f"{started.workflow_id} is running already")
        run_id = f"{started.workflow_id}-run-{len(runs) + 1}"
        runs.append(SimulatedExecution(self, started._replace(run_id=run_id)))

    def running(self, workflow_id: str) -> SimulatedExecution | None:
        """The open run of an id."""
        runs = self.runs.get(workflow_id)
        return runs[-1] if runs and runs[-1].status.open else None

    def started_child(
        self, parent: SimulatedExecution, command: ev.StartChildWorkflowExecutionInitiated
    ) -> None:
        """Start it and tell the parent."""
        here = parent.started
        ref = ev.ParentRef(here.workflow_type, here.workflow_id, here.run_id, command.child_id)
        try:
            self._begin(
                ev.WorkflowExecutionStarted(
                    command.workflow_type,
                    command.workflow_id,
                    "",
                    here.task_queue,
                    command.args,
                    search_attributes=command.search_attributes,
                    parent=ref,
                )
            )
        except WorkflowError as error:
            parent.record(ev.StartChildWorkflowExecutionFailed(command.child_id, str(error)))
            return
        run_id = self.runs[command.workflow_id][-1].started.run_id
        parent.record(ev.ChildWorkflowExecutionStarted(command.child_id, run_id))

    def signalled(
        self, sender: SimulatedExecution, command: ev.SignalExternalWorkflowExecutionInitiated
    ) -> None:
        """Deliver it and tell the sender."""
        target = self.running(command.workflow_id)
        if target is None:
            sender.record(ev.SignalExternalWorkflowExecutionFailed(command.request_id))
            return
        target.record(ev.WorkflowExecutionSignaled(command.signal_name, command.args))
        sender.record(ev.ExternalWorkflowExecutionSignaled(command.request_id))

    def cancel_wanted(
        self,
        sender: SimulatedExecution,
        command: ev.RequestCancelExternalWorkflowExecutionInitiated,
    ) -> None:
        """Deliver it and tell the sender."""
        target = self.running(command.workflow_id)
        if target is None:
            sender.record(ev.RequestCancelExternalWorkflowExecutionFailed(command.request_id))
            return
        target.record(ev.WorkflowExecutionCancelRequested())
        sender.record(ev.ExternalWorkflowExecutionCancelRequested(command.request_id))

    def closed(self, execution: SimulatedExecution) -> None:
        """It has ended: parent, children and the next run have to know."""
        end, started = execution.end, execution.started
        assert end is not None, "closed by an event"
        if isinstance(end, ev.WorkflowExecutionContinuedAsNew):
            self._close_children(execution)
            self._begin(
                started._replace(
                    workflow_type=end.workflow_type,
                    args=end.args,
                    search_attributes=end.search_attributes,
                    first_run_id=started.first_run_id or started.run_id,
                    continued_run_id=started.run_id,
                )
            )
            return
        if started.parent is not None:
            parent = self.running(started.parent.workflow_id)
            if parent is not None and parent.started.run_id == started.parent.run_id:
                parent.record(child_event(end, started.parent.child_id))
        self._close_children(execution)

    def _close_children(self, parent: SimulatedExecution) -> None:
        for event in parent.history:
            if not isinstance(event.attributes, ev.StartChildWorkflowExecutionInitiated):
                continue
            child = self.running(event.attributes.workflow_id)
            ref = child.started.parent if child is not None else None
            if child is None or ref is None or ref.run_id != parent.started.run_id:
                continue
            if event.attributes.parent_close_policy is ParentClosePolicy.TERMINATE:
                child.record(ev.WorkflowExecutionTerminated("its parent closed"))
            elif event.attributes.parent_close_policy is ParentClosePolicy.REQUEST_CANCEL:
                child.record(ev.WorkflowExecutionCancelRequested("its parent closed"))


async def _keep(_activity_id: int, _attempt: Attempt) -> None:
    """Attempts are kept by the activity itself: no owner dies here."""


def child_event(end: ev.Attributes, child_id: int) -> ev.Attributes:
    """What a parent's history says of its child's last event."""
    match end:
        case ev.WorkflowExecutionCompleted():
            return ev.ChildWorkflowExecutionCompleted(child_id, end.result)
        case ev.WorkflowExecutionFailed():
            return ev.ChildWorkflowExecutionFailed(child_id, end.failure)
        case ev.WorkflowExecutionCanceled():
            return ev.ChildWorkflowExecutionCanceled(child_id)
        case ev.WorkflowExecutionTimedOut():
            return ev.ChildWorkflowExecutionTimedOut(child_id)
    return ev.ChildWorkflowExecutionTerminated(child_id)
