"""Resetting: a new run goes on from a point in the history of another one.

The history is kept up to the last workflow task that was started at or before the point; that task
is done again, by the code of today. Signals that came later are given to the new run too. A run
that is open is terminated in the same transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Protocol

from core.errors import ExecutionNotFound, UnusableValue
from core.eventstore.batch import Lost
from core.eventstore.kv import Delete, Guard, Put, Unchanged, Write
from workflows.engine.run.head_projection import fold
from workflows.engine.store.draft import HistoryDraft, RunClosure
from workflows.engine.store.history_reader import find_run, read_whole_history
from workflows.engine.store.records import HEAD, InboxMessage, Reset, RunHead
from workflows.engine.worker.interpreter_cache import WorkerContext
from workflows.model import events as ev
from workflows.model.codec import encode_history
from workflows.model.policies import ExecutionStatus

_log = logging.getLogger(__name__)

SEGMENT_EVENTS_MAX = 256
"""Events of one copied segment."""

BASES_MAX = 16
"""Runs that a run remembers to go on from: resets of resets."""


class OpenExecution(Protocol):
    """The open execution of the id, if there is one."""

    head: RunHead
    revision: int


Made = tuple[RunHead, int, RunHead | None]
"""The new head, its revision, and the head of the run that was closed for it."""


def cut(history: Sequence[ev.HistoryEvent], event_id: int) -> list[ev.HistoryEvent]:
    """What is kept: everything before the last task started at or before ``event_id``.

    Without one, the first task is done again.
    """
    tasks = [e.event_id for e in history if isinstance(e.attributes, ev.WorkflowTaskStarted)]
    if not tasks:
        return list(history)
    before = [task for task in tasks if task <= event_id]
    return list(history[: (before[-1] if before else tasks[0]) - 1])


def with_later_signals(
    kept: list[ev.HistoryEvent], history: Sequence[ev.HistoryEvent]
) -> list[ev.HistoryEvent]:
    """The kept events, and the signals that came after them."""
    events = list(kept)
    last_ms = events[-1].event_time_ms
    for event in history[len(kept) :]:
        if isinstance(event.attributes, ev.WorkflowExecutionSignaled):
            last_ms = max(last_ms, event.event_time_ms)
            events.append(ev.HistoryEvent(len(events) + 1, last_ms, event.attributes))
    return events


async def reset_run(
    desk: WorkerContext, fence: Unchanged, opened: OpenExecution | None, letter: InboxMessage
) -> Made | Lost | None:
    """Make the new run; None: the request is void and taken away. Raises SessionLost.

    Lost, or any error: nothing was decided and the request stays for another try.
    """
    reset = letter.message
    assert isinstance(reset, Reset)
    _, workflow_id, _ = desk.keys.inbox_name(letter.key)
    try:
        base = await find_run(desk.store, desk.keys, workflow_id, reset.run_id)
        history = await read_whole_history(desk.store, desk.keys, base)
    except (ExecutionNotFound, UnusableValue) as error:
        _log.warning("the reset of workflow %s is refused: %s", workflow_id, error)
        return await _take_away(desk, fence, letter)
    if not history:
        return await _take_away(desk, fence, letter)
    events = with_later_signals(cut(history, reset.event_id), history)
    now_ms = desk.clock.now_ms()
    head = _head(events, base, reset, now_ms)
    # Segments of a run without a head are seen by nobody, so they need no part in the transaction.
    for put in _segments(desk, head, events):
        await desk.committer.propose([fence], [put])
    key = desk.keys.open(workflow_id)
    guards: list[Guard] = [fence, Unchanged(key, opened.revision if opened is not None else 0)]
    writes: list[Write] = [Delete(letter.key), Put(key, HEAD.encode(head))]
    closed: RunHead | None = None
    if opened is not None:
        ending = _ending(desk, opened.head, reset, now_ms)
        own = (key, letter.key)
        writes += [w for w in ending.writes() if not (isinstance(w, Delete) and w.start in own)]
        closed = ending.head
    outcome = await desk.committer.propose(guards, writes)
    if isinstance(outcome, Lost):
        return outcome
    return head, outcome.revision, closed


async def _take_away(desk: WorkerContext, fence: Unchanged, letter: InboxMessage) -> Lost | None:
    outcome = await desk.committer.propose([fence], [Delete(letter.key)])
    return outcome if isinstance(outcome, Lost) else None


def _ending(desk: WorkerContext, head: RunHead, reset: Reset, now_ms: int) -> HistoryDraft:
    """The end of the open run; parent and children stay with the id."""
    ending = HistoryDraft(desk.keys, head, now_ms, identity=desk.identity)
    reason = f"reset to event {reset.event_id}: {reset.reason}"
    ending.add(ev.WorkflowExecutionTerminated(reason, reset.identity))
    ending.change(parent=None, children=())
    ending.close(RunClosure(ExecutionStatus.TERMINATED, reason=reason, new_run_id=reset.new_run_id))
    return ending


def _head(events: Sequence[ev.HistoryEvent], base: RunHead, reset: Reset, now_ms: int) -> RunHead:
    """Runs again whatever it was when it stood here; its time begins anew."""
    head = fold(events)
    span_ms = base.run_deadline_ms - base.started_ms if base.run_deadline_ms else 0
    return head._replace(
        run_id=reset.new_run_id,
        status=ExecutionStatus.RUNNING,
        paused_activity=0,
        due=True,
        last_ms=max(head.last_ms, now_ms),
        started_ms=now_ms,
        run_deadline_ms=now_ms + span_ms if span_ms else 0,
        execution_deadline_ms=0,
        history_bytes=len(encode_history(events)),
        bases=(*base.bases, base.run_id)[-BASES_MAX:],
    )


def _segments(
    desk: WorkerContext, head: RunHead, events: Sequence[ev.HistoryEvent]
) -> Iterator[Put]:
    for first in range(0, len(events), SEGMENT_EVENTS_MAX):
        part = events[first : first + SEGMENT_EVENTS_MAX]
        key = desk.keys.event(head.workflow_id, head.run_id, part[0].event_id)
        yield Put(key, encode_history(part))
