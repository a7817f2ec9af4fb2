"""One execution in the test environment: its history, and what its commands set in motion.

The same order of events as the engine's, without its store: a task's events stand together, an
activity's start stands beside its end. Every run's interpreter is warm; ``Environment`` can ask
for a replay of the whole history before every task instead.
"""

from __future__ import annotations

from typing import Protocol

from workflows.api.definitions import Registry
from workflows.engine.run.head_projection import CLOSED_AS
from workflows.engine.run.intake import ActivityOutcome, events_of, exhausted
from workflows.engine.worker.activities import Running
from workflows.interpreter import Interpreter
from workflows.model import events as ev
from workflows.model.commands import Command, Decision, UpdateRequest
from workflows.model.failures import Failure
from workflows.model.limits import HISTORY_EVENTS_SUGGEST
from workflows.model.policies import ExecutionStatus


class World(Protocol):
    """What an execution needs of its environment."""

    registry: Registry
    replays: bool

    @property
    def now_ms(self) -> int:
        """Its clock."""

    def launched(
        self, execution: SimulatedExecution, scheduled: ev.ActivityTaskScheduled
    ) -> Running:
        """Begin an activity."""

    def started_child(
        self, parent: SimulatedExecution, command: ev.StartChildWorkflowExecutionInitiated
    ) -> None:
        """Start it and tell the parent."""

    def signalled(
        self, sender: SimulatedExecution, command: ev.SignalExternalWorkflowExecutionInitiated
    ) -> None:
        """Deliver it and tell the sender."""

    def cancel_wanted(
        self,
        sender: SimulatedExecution,
        command: ev.RequestCancelExternalWorkflowExecutionInitiated,
    ) -> None:
        """Deliver it and tell the sender."""

    def closed(self, execution: SimulatedExecution) -> None:
        """It has ended: parent, children and the next run have to know."""


class SimulatedExecution:
    """One run. ``due``: something came in since its last task."""

    def __init__(self, world: World, started: ev.WorkflowExecutionStarted) -> None:
        self._world = world
        self._interpreter: Interpreter | None = None
        self._fed = 0
        self.started = started
        self.history: list[ev.HistoryEvent] = []
        self.status = ExecutionStatus.RUNNING
        self.due = False
        self.end: ev.Attributes | None = None
        self.reason = ""
        self.exhausted: ActivityOutcome | None = None
        self.waiting_for: tuple[str, ...] = ()
        self.activities: dict[int, ev.ActivityTaskScheduled] = {}
        self.running: dict[int, Running] = {}
        self.timers: dict[int, int] = {}
        self.updates: list[UpdateRequest] = []
        self.rejected: dict[str, Failure] = {}
        self.record(started)

    def record(self, attributes: ev.Attributes, *, wakes: bool = True) -> None:
        """Append an event; unless ``wakes`` is False, a task follows."""
        self._append(attributes)
        if wakes and self.status.open:
            self.due = True
        self._close_after(attributes)
        if self.exhausted is not None and isinstance(
            attributes, ev.WorkflowExecutionCancelRequested
        ):
            self._go_on_to_cancel(self.exhausted)

    def do_task(self) -> None:
        """One workflow task. Raises WorkflowTaskError, as a test wants to see it."""
        self.due = False
        self.record(ev.WorkflowTaskScheduled(), wakes=False)
        suggest = len(self.history) >= HISTORY_EVENTS_SUGGEST
        self.record(ev.WorkflowTaskStarted(suggest_continue_as_new=suggest), wakes=False)
        updates, self.updates = self.updates, []
        decision = self._interpreted(updates)
        self.waiting_for = self._warm().waiting_for
        self.rejected.update({each.update_id: each.failure for each in decision.rejections})
        self.record(ev.WorkflowTaskCompleted(), wakes=False)
        for command in decision.commands:
            self._append(command)
        for command in decision.commands:
            self._act(command)
            self._close_after(command)

    def query(self, name: str, args: tuple[object, ...]) -> object:
        """The answer as of the last task."""
        interpreter = self._warm()
        if self._fed < len(self.history):
            interpreter.activate(self.history[self._fed :])
            self._fed = len(self.history)
        return interpreter.query(name, args)

    def drop(self) -> None:
        """Forget the interpreter; the next task replays the history."""
        if self._interpreter is not None:
            self._interpreter.close()
        self._interpreter, self._fed = None, 0

    def report(self, outcome: ActivityOutcome) -> None:
        """An activity came to an end, or to its last attempt."""
        self.running.pop(outcome.activity_id, None)
        if outcome.activity_id not in self.activities:
            return
        if outcome.is_pause:
            if self.status is ExecutionStatus.RUNNING:
                self.exhausted = outcome
            self._pause(exhausted(outcome))
            return
        self._record_outcome(outcome)

    def _record_outcome(self, outcome: ActivityOutcome) -> None:
        del self.activities[outcome.activity_id]
        started, closing = events_of(outcome)
        self.record(started, wakes=False)
        self.record(closing)

    def _go_on_to_cancel(self, exhausted_one: ActivityOutcome) -> None:
        """The code hears that the activity it was paused for has failed."""
        self._record_outcome(exhausted_one)
        self.unpause()

    def unpause(self) -> None:
        """The activities get their attempts again, from now on."""
        self.status, self.reason, self.exhausted = ExecutionStatus.RUNNING, "", None
        self.record(ev.WorkflowExecutionUnpaused(), wakes=False)
        for number, scheduled in self.activities.items():
            if number not in self.running:
                self.running[number] = self._world.launched(self, scheduled)

    def _pause(self, paused: ev.WorkflowExecutionPaused) -> None:
        """Nothing goes on until ``unpause``."""
        if self.status is ExecutionStatus.RUNNING:
            self.status, self.reason = ExecutionStatus.PAUSED, paused.reason
            self.record(paused, wakes=False)

    def _warm(self) -> Interpreter:
        if self._interpreter is None:
            self._interpreter = Interpreter(self._world.registry)
        return self._interpreter

    def _interpreted(self, updates: list[UpdateRequest]) -> Decision:
        if self._world.replays:
            self.drop()
        news = self.history[self._fed :]
        self._fed = len(self.history)
        return self._warm().activate(news, updates=updates)

    def _append(self, attributes: ev.Attributes) -> None:
        event = ev.HistoryEvent(len(self.history) + 1, self._world.now_ms, attributes)
        self.history.append(event)

    def _close_after(self, attributes: ev.Attributes) -> None:
        status = CLOSED_AS.get(type(attributes))
        if status is None:
            return
        self.end = attributes
        self.status = status
        self.due = False
        for running in self.running.values():
            running.abandon()
        self.running.clear()
        self.activities.clear()
        self.timers.clear()
        self._world.closed(self)

    def _act(self, command: Command) -> None:
        now_ms = self._world.now_ms
        match command:
            case ev.ActivityTaskScheduled():
                self.activities[command.activity_id] = command
                self.running[command.activity_id] = self._world.launched(self, command)
            case ev.ActivityTaskCancelRequested():
                self._cancel(command.activity_id)
            case ev.TimerStarted():
                self.timers[command.timer_id] = now_ms + round(command.start_to_fire_s * 1000)
            case ev.TimerCanceled():
                self.timers.pop(command.timer_id, None)
            case ev.StartChildWorkflowExecutionInitiated():
                self._world.started_child(self, command)
            case ev.SignalExternalWorkflowExecutionInitiated():
                self._world.signalled(self, command)
            case ev.RequestCancelExternalWorkflowExecutionInitiated():
                self._world.cancel_wanted(self, command)

    def _cancel(self, activity_id: int) -> None:
        running = self.running.get(activity_id)
        if running is not None:
            running.cancel()
        elif self.activities.pop(activity_id, None) is not None:
            self.record(ev.ActivityTaskCanceled(activity_id))
