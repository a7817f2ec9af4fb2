"""A history that a test writes: the test adds events, and gets the commands of workflow code.

Activities and timers are each numbered from 1: ``TimerFired(1)`` is the end of the first timer.
"""

from __future__ import annotations

from typing import Any

from workflows.api import workflow
from workflows.api.definitions import Registry
from workflows.interpreter import Interpreter
from workflows.model import events as ev
from workflows.model.commands import Command, Decision, UpdateRequest

START_MS = 1_700_000_000_000

timer = workflow.sleep
"""Sleep in workflow code; the sleep ends when a test adds TimerFired to the history."""


class Script:
    """One run of a workflow. Tasks are one second apart."""

    def __init__(self, workflow: type[Any], *args: object) -> None:
        self.registry = Registry([workflow])
        self.interpreter = Interpreter(self.registry)
        self.history: list[ev.HistoryEvent] = []
        self.events_passed = 0
        self.now_ms = START_MS
        name = next(iter(self.registry.workflows))
        self.add(
            ev.WorkflowExecutionStarted(
                name, workflow_id="id", run_id="run", task_queue="queue", args=args
            )
        )

    def add(self, *events: ev.Attributes) -> None:
        for attributes in events:
            number = len(self.history) + 1
            self.history.append(ev.HistoryEvent(number, self.now_ms, attributes))

    def decide(self, *inputs: ev.Attributes, updates: tuple[UpdateRequest, ...] = ()) -> Decision:
        """Run a task with these inputs, without recording its commands."""
        self.now_ms += 1000
        self.add(*inputs, ev.WorkflowTaskScheduled(), ev.WorkflowTaskStarted())
        new_events, self.events_passed = self.history[self.events_passed :], len(self.history)
        return self.interpreter.activate(new_events, updates=updates)

    def task(
        self, *inputs: ev.Attributes, updates: tuple[UpdateRequest, ...] = ()
    ) -> tuple[Command, ...]:
        """Run a task and record its commands."""
        decision = self.decide(*inputs, updates=updates)
        self.add(ev.WorkflowTaskCompleted(), *decision.commands)
        return decision.commands

    def replayed(self) -> Interpreter:
        """A new interpreter that has replayed the whole history."""
        interpreter = Interpreter(self.registry)
        interpreter.activate(self.history)
        interpreter.check_complete()
        return interpreter
