"""Replay of recorded histories: check that the current code gives the recorded commands.

A change that breaks a replay also breaks running executions. Guard such a change with
``workflow.patched``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from workflows.api.definitions import Registry
from workflows.interpreter import Interpreter
from workflows.model import events as ev
from workflows.model.commands import Decision
from workflows.model.history_json import from_json


def replay(registry: Registry, history: Sequence[ev.HistoryEvent]) -> Decision:
    """Replay a history, except a workflow task that is still open. Raises NonDeterminismError."""
    interpreter = Interpreter(registry)
    try:
        decision = interpreter.activate(_without_open_task(history))
        interpreter.check_complete()
        return decision
    finally:
        interpreter.close()


def replay_file(registry: Registry, path: Path) -> Decision:
    """Replay the history in a JSON file. Raises as ``replay`` and ``from_json``."""
    return replay(registry, from_json(path.read_bytes()))


def _without_open_task(history: Sequence[ev.HistoryEvent]) -> Sequence[ev.HistoryEvent]:
    for index in range(len(history) - 1, -1, -1):
        attributes = history[index].attributes
        if isinstance(attributes, ev.WorkflowTaskStarted):
            return history[:index]
        if isinstance(
            attributes, ev.WorkflowTaskCompleted | ev.WorkflowTaskFailed | ev.WorkflowTaskTimedOut
        ):
            break
    return history
