"""One workflow task: the interpreter, warm or brought up from the history, and its decision.

The interpreter is thrown away whenever what it knows may differ from what is stored: after an error
and when a transaction was not committed. It never writes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from core.errors import UnusableValue
from workflows.engine.run.command_effects import apply_commands
from workflows.engine.store.draft import BYTES_MAX, WRITES_MAX, HistoryDraft
from workflows.engine.store.history_reader import read_whole_history
from workflows.engine.store.records import RunHead
from workflows.engine.worker.interpreter_cache import WorkerContext
from workflows.interpreter import Interpreter
from workflows.model import limits
from workflows.model.commands import UpdateRejection, UpdateRequest
from workflows.model.errors import LimitExceeded, WorkflowTaskError
from workflows.model.events import HistoryEvent, WorkflowTaskCompleted, WorkflowTaskStarted
from workflows.model.payloads import Payload

TYPE_REMEDY = "run a worker that has it, or end the execution with `orbctl workflow terminate`"


class WorkflowCode:
    """The workflow code of one run, as far as it has been brought up."""

    def __init__(self, desk: WorkerContext) -> None:
        self._desk = desk
        self._interpreter: Interpreter | None = None
        self._unfed: list[HistoryEvent] = []

    def drop(self) -> None:
        """Forget the interpreter; the next task replays the history."""
        interpreter, self._interpreter = self._interpreter, None
        self._unfed.clear()
        self._desk.cache.forget(self)
        if interpreter is not None:
            interpreter.close()

    def committed(self, events: Sequence[HistoryEvent]) -> None:
        """These are in the history now."""
        if self._desk.cache.keeps_nothing:
            self.drop()
        if self._interpreter is not None:
            fed = self._interpreter.last_event_id
            self._unfed.extend(event for event in events if event.event_id > fed)

    def check_type(self, stored: RunHead) -> None:
        """Raises UnusableValue for a workflow type that this worker does not have."""
        known = self._desk.registry.workflows
        if stored.workflow_type not in known:
            why = (
                f"this worker has no workflow type {stored.workflow_type!r}; it has "
                f"{', '.join(sorted(known)) or 'none'}"
            )
            key = self._desk.keys.open(stored.workflow_id)
            raise UnusableValue("open execution", key, why, TYPE_REMEDY)

    async def bring_up(self, stored: RunHead) -> None:
        """Make sure that the interpreter has all that is stored.

        Raises UnusableValue when that is not for this worker, StoreUnavailable.
        """
        desk = self._desk
        self.check_type(stored)
        if self._interpreter is not None:
            desk.telemetry.warm()
        else:
            interpreter = Interpreter(desk.registry)
            events: list[HistoryEvent] = []
            if stored.next_event_id > 1:
                desk.telemetry.cold()
                events = await read_whole_history(desk.store, desk.keys, stored)
            self._interpreter, self._unfed = interpreter, events
        desk.cache.used(self, self.drop)

    def run_task(
        self, draft: HistoryDraft, updates: Sequence[UpdateRequest]
    ) -> Sequence[UpdateRejection]:
        """Do a task on top of the draft's events. Raises WorkflowTaskError, LimitExceeded."""
        assert self._interpreter is not None, "bring_up comes first"
        started_at = time.perf_counter()
        head, desk = draft.head, self._desk
        if head.next_event_id > limits.HISTORY_EVENTS_MAX:
            raise LimitExceeded(
                f"the history has {head.next_event_id - 1} events, HISTORY_EVENTS_MAX is "
                f"{limits.HISTORY_EVENTS_MAX}: the run should have continued as new"
            )
        suggest = (
            head.next_event_id > limits.HISTORY_EVENTS_SUGGEST
            or head.history_bytes > limits.HISTORY_BYTES_SUGGEST
        )
        if desk.telemetry.traces and self._interpreter.last_event_id == 0 and not self._unfed:
            name = f"RunWorkflow:{head.workflow_type}"
            desk.telemetry.moment(name, head.traceparent, {"workflow.id": head.workflow_id})
        draft.add(WorkflowTaskStarted(draft.identity, head.history_bytes, suggest))
        news = [*self._unfed, *draft.events]
        self._unfed.clear()
        decision = self._interpreter.activate(news, updates=updates)
        draft.add(WorkflowTaskCompleted(draft.identity))
        apply_commands(draft, decision.commands)
        _check_bounds(draft)
        draft.change(due=False)
        desk.telemetry.task_done(head.workflow_type, time.perf_counter() - started_at)
        return decision.rejections

    def query(self, name: str, args: Sequence[Payload]) -> Payload:
        """The answer as of the last committed event. Raises QueryError, WorkflowTaskError."""
        assert self._interpreter is not None, "bring_up comes first"
        try:
            if self._unfed:
                self._interpreter.activate(self._unfed)
                self._unfed.clear()
            return self._interpreter.query(name, args)
        except WorkflowTaskError:
            self.drop()  # what failed once is worthless for the next task
            raise


def _check_bounds(draft: HistoryDraft) -> None:
    head = draft.head
    if head.next_event_id - 1 > limits.HISTORY_EVENTS_MAX and head.is_open:
        raise LimitExceeded(
            f"the task would make a history of {head.next_event_id - 1} events, "
            f"HISTORY_EVENTS_MAX is {limits.HISTORY_EVENTS_MAX}: continue as new before"
        )
    writes, size = draft.weight
    if writes > WRITES_MAX:
        raise LimitExceeded(
            f"one task addresses {writes} other executions and records, WRITES_MAX is "
            f"{WRITES_MAX}: await some of them before asking for more"
        )
    if size > BYTES_MAX:
        raise LimitExceeded(
            f"one task writes {size} bytes, BYTES_MAX is {BYTES_MAX}: pass references, "
            "or await some activities before asking for more"
        )
    if head.history_bytes > limits.HISTORY_BYTES_MAX and head.is_open:
        raise LimitExceeded(
            f"the history has {head.history_bytes} bytes, HISTORY_BYTES_MAX is "
            f"{limits.HISTORY_BYTES_MAX}: continue as new before"
        )
