"""Deterministic execution: turns a history into commands.

    interpreter = Interpreter(registry)
    decision = interpreter.activate(history)        # ends with WorkflowTaskStarted: do this task
    ...append WorkflowTaskCompleted and one event for each command of the decision...
    decision = interpreter.activate(newer_events)   # cached: only new events

Every event of a run is given once, in order. A task whose outcome is among the events is replayed:
the code runs again and its commands are compared with the events that record them. A task without
an outcome, the last event or followed only by inputs, is new: its commands are the decision.

An interpreter never reads a clock, a store or the environment; the same events always give the
same commands. After an error of ``WorkflowTaskError`` it is worthless: close it and, when the code
or the moment is better, make another one from the whole history. The same holds if a decision
could not be committed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from workflows.api.definitions import Registry
from workflows.interpreter import workflow_task
from workflows.interpreter.guard import CodeScope
from workflows.interpreter.operations import Matcher
from workflows.interpreter.run import PATCH, Run
from workflows.interpreter.workflow_task import ENDED_FROM_OUTSIDE, NOT_FOR_CODE
from workflows.model import events as ev
from workflows.model.commands import COMMAND_NAMES, Decision, UpdateRejection, UpdateRequest
from workflows.model.errors import HistoryError, QueryError
from workflows.model.payloads import Payload

_OUTCOMES = (ev.WorkflowTaskCompleted, ev.WorkflowTaskFailed, ev.WorkflowTaskTimedOut)


class Interpreter:
    """One run. Initially empty; the first event has the workflow type."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._matcher = Matcher()
        self._run: Run | None = None
        self._inputs: list[ev.HistoryEvent] = []
        self._last_event_id = 0
        self._uncommitted = False
        self._broken = False

    @property
    def last_event_id(self) -> int:
        """The newest event it has been given; 0 before the first."""
        return self._last_event_id

    @property
    def closed(self) -> bool:
        """Whether the run has ended."""
        return self._run is not None and self._run.closed

    @property
    def waiting_for(self) -> tuple[str, ...]:
        """What each task of the code awaits, for people."""
        return self._run.waiting_for() if self._run is not None else ()

    @property
    def queries(self) -> tuple[str, ...]:
        """The names that ``query`` answers."""
        return self._run.messages.queries if self._run is not None else ()

    def activate(
        self, events: Sequence[ev.HistoryEvent], *, updates: Sequence[UpdateRequest] = ()
    ) -> Decision:
        """Take in the next events; do the task that is open at the end of them, if one is.

        ``updates`` are validated in that task: accepted ones become commands, the others are
        rejections. Raises WorkflowTaskError, after which the interpreter cannot be used.
        """
        if self._broken:
            raise HistoryError("this interpreter failed before: make a new one from the history")
        try:
            return self._activate(events, updates)
        except BaseException:
            self.close()
            raise

    def query(self, name: str, args: Sequence[Payload] = ()) -> Payload:
        """The answer of a query as of the last event; QueryError if there is none."""
        if self._run is None or self._broken:
            raise QueryError("the run has no state to ask")
        with CodeScope(self._run):
            return workflow_task.run_query(self._run, name, args)

    def check_complete(self) -> None:
        """NonDeterminismError if code issued more commands than the history has."""
        self._matcher.nothing_left(self._last_event_id + 1, "the end of the history")

    def close(self) -> None:
        """Drop the run and its code. Further use is a HistoryError."""
        self._broken = True
        run = self._run
        if run is None:
            return
        if run.loop.tasks:
            with CodeScope(run):
                run.close()
        run.messages.unbind()

    # ---------------------------------------------------------------------------- the history

    def _activate(
        self, events: Sequence[ev.HistoryEvent], updates: Sequence[UpdateRequest]
    ) -> Decision:
        if not events:
            raise HistoryError("no events: there is nothing to react to")
        run = self._run or self._first(events[0])
        for event in events:
            marker = event.attributes
            if isinstance(marker, ev.MarkerRecorded) and marker.marker_name == PATCH:
                run.known_patches.add(marker.key)
        decision = Decision(())
        with CodeScope(run):
            for index, event in enumerate(events):
                self._check_number(event)
                kind = type(event.attributes)
                if kind in COMMAND_NAMES:
                    self._matcher.match(event)
                elif kind is ev.WorkflowTaskStarted:
                    decision = self._task(run, events, index, updates) or decision
                elif kind in NOT_FOR_CODE:
                    self._check_committed(event)
                else:
                    self._input(run, event)
            if run.closed:
                run.close()  # further commands of its code are ignored
        return decision._replace(closed=True) if run.closed else decision

    def _first(self, event: ev.HistoryEvent) -> Run:
        started = event.attributes
        if not isinstance(started, ev.WorkflowExecutionStarted):
            raise HistoryError(f"a history begins with its start, not with {event.event_type}")
        definition = self._registry.workflows.get(started.workflow_type)
        if definition is None:
            known = ", ".join(sorted(self._registry.workflows)) or "none"
            raise HistoryError(f"no workflow {started.workflow_type}; this worker has: {known}")
        self._run = Run(definition, event, self._registry.interceptors)
        return self._run

    def _check_number(self, event: ev.HistoryEvent) -> None:
        if event.event_id != self._last_event_id + 1:
            raise HistoryError(
                f"expected event {self._last_event_id + 1}, got event {event.event_id}"
            )
        self._last_event_id = event.event_id

    def _check_committed(self, event: ev.HistoryEvent) -> None:
        if self._uncommitted and isinstance(event.attributes, _OUTCOMES):
            if not isinstance(event.attributes, ev.WorkflowTaskCompleted):
                raise HistoryError(
                    f"event {event.event_id} is {event.event_type}: the decision of this workflow"
                    " task was not committed"
                )
            self._uncommitted = False

    def _input(self, run: Run, event: ev.HistoryEvent) -> None:
        """Keep an event for the next task; the end from outside needs none."""
        if isinstance(event.attributes, ENDED_FROM_OUTSIDE):
            run.end()
        else:
            self._inputs.append(event)

    # -------------------------------------------------------------------------------- the tasks

    def _task(
        self,
        run: Run,
        events: Sequence[ev.HistoryEvent],
        index: int,
        requests: Sequence[UpdateRequest],
    ) -> Decision | None:
        """Do the task that ``events[index]`` starts; a decision if it is a new one."""
        started = events[index]
        outcome = _outcome(events, index)
        if outcome is not None and not isinstance(
            events[outcome].attributes, ev.WorkflowTaskCompleted
        ):
            return None  # it failed or timed out: its inputs wait for the next one
        self._matcher.nothing_left(started.event_id, "the next workflow task")
        batch, self._inputs = self._inputs, []
        workflow_task.react(run, started, batch, replaying=outcome is not None)
        rejections: tuple[UpdateRejection, ...] = ()
        if outcome is None:
            self._uncommitted = True
            rejections = workflow_task.take_updates(run, requests)
        else:
            workflow_task.repeat_updates(run, _accepted(events, outcome))
        commands = run.asked.take()
        self._matcher.expect(commands)
        return Decision(commands, rejections) if outcome is None else None


def _outcome(events: Sequence[ev.HistoryEvent], index: int) -> int | None:
    """Where the outcome of the task that starts at ``index`` is; None while it has none."""
    for position in range(index + 1, len(events)):
        if isinstance(events[position].attributes, _OUTCOMES):
            return position
    return None


def _accepted(
    events: Sequence[ev.HistoryEvent], outcome: int
) -> Iterator[ev.WorkflowExecutionUpdateAccepted]:
    """The updates that a completed task let in: among the events of its commands."""
    for event in islice(events, outcome + 1, None):
        if type(event.attributes) not in COMMAND_NAMES:
            return
        if isinstance(event.attributes, ev.WorkflowExecutionUpdateAccepted):
            yield event.attributes
