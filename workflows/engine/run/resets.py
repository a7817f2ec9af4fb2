"""Resets: a new run continues from a point in the history of another run.

The point selects the last workflow task that was started by then. The new run has the history
before this task, all later signals, and the later outcomes of its pending children and requests.
The current code executes the task again. The same transaction terminates an open run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import takewhile
from typing import NamedTuple

from core.errors import ExecutionNotFound, UnusableValue
from core.eventstore.group_commit import Lost
from core.eventstore.kv import Delete, Guard, Put, Unchanged, Write
from workflows.engine.run.head_projection import CLOSED_AS, head_of_history
from workflows.engine.run.received_events import record_message
from workflows.engine.store.draft import ExecutionStore, HistoryDraft, RunClosure, child_end_of
from workflows.engine.store.history_reader import find_run, read_heads
from workflows.engine.store.records import (
    HEAD_CODEC,
    ChildEvent,
    ChildRecord,
    InboxMessage,
    Reset,
    RunHead,
    encode_history,
)
from workflows.model import events as ev
from workflows.model.policies import ExecutionStatus

_log = logging.getLogger(__name__)

SEGMENT_EVENTS_MAX = 256

BASES_MAX = 16
"""``RunHead.bases`` keeps the newest runs, at most this many."""

_STOPS = (*CLOSED_AS, ev.WorkflowTaskFailed, ev.WorkflowExecutionPaused)
"""Events that close or pause a run, or say why it pauses."""

_REQUESTS = (
    ev.SignalExternalWorkflowExecutionInitiated,
    ev.RequestCancelExternalWorkflowExecutionInitiated,
)
_REQUEST_OUTCOMES = (
    ev.ExternalWorkflowExecutionSignaled,
    ev.SignalExternalWorkflowExecutionFailed,
    ev.ExternalWorkflowExecutionCancelRequested,
    ev.RequestCancelExternalWorkflowExecutionFailed,
)
_CHILD_EVENTS = (
    ev.StartChildWorkflowExecutionFailed,
    ev.ChildWorkflowExecutionStarted,
    ev.ChildWorkflowExecutionCompleted,
    ev.ChildWorkflowExecutionFailed,
    ev.ChildWorkflowExecutionCanceled,
    ev.ChildWorkflowExecutionTimedOut,
    ev.ChildWorkflowExecutionTerminated,
)


class StoredHead(NamedTuple):
    """The head of a run (its stored state), and the revision of its key."""

    head: RunHead
    revision: int


class ResetRun(NamedTuple):
    """The new run, and the head of the run that was open before."""

    created: StoredHead
    terminated: RunHead | None


def events_before_task(history: Sequence[ev.HistoryEvent], event_id: int) -> list[ev.HistoryEvent]:
    """The events before the last workflow task whose start is ``event_id`` or an earlier event.

    If there is no such task, returns the events before the first workflow task; if the run had
    none, those before the run paused or closed.
    """
    tasks = [
        event.event_id for event in history if isinstance(event.attributes, ev.WorkflowTaskStarted)
    ]
    if not tasks:
        return list(takewhile(lambda event: not isinstance(event.attributes, _STOPS), history))
    before = [task for task in tasks if task <= event_id]
    return list(history[: (before[-1] if before else tasks[0]) - 1])


def with_later_inputs(
    base: Sequence[ev.HistoryEvent], history: Sequence[ev.HistoryEvent]
) -> list[ev.HistoryEvent]:
    """The events of ``base``, and the later events of the history that the new run still needs.

    These are signals, and the events of children and requests that are pending in ``base``, because
    nothing reports these events again. Activities that are pending in ``base`` start again.
    """
    children = {child.child_id for child in head_of_history(base).children}
    requests = set(_pending_requests(base))
    events = list(base)
    last_ms = events[-1].event_time_ms
    for event in history[len(base) :]:
        if _is_input(event.attributes, children, requests):
            last_ms = max(last_ms, event.event_time_ms)
            events.append(ev.HistoryEvent(len(events) + 1, last_ms, event.attributes))
    return events


def _is_input(kind: ev.Attributes, children: AbstractSet[int], requests: AbstractSet[int]) -> bool:
    if isinstance(kind, _CHILD_EVENTS):
        return kind.child_id in children
    if isinstance(kind, _REQUEST_OUTCOMES):
        return kind.request_id in requests
    return isinstance(kind, ev.WorkflowExecutionSignaled)


def _pending_requests(events: Iterable[ev.HistoryEvent]) -> list[int]:
    """The numbers of the requests to other executions that have no outcome in a history."""
    pending: dict[int, None] = {}
    for event in events:
        kind = event.attributes
        if isinstance(kind, _REQUESTS):
            pending[kind.request_id] = None
        elif isinstance(kind, _REQUEST_OUTCOMES):
            pending.pop(kind.request_id, None)
    return list(pending)


async def reset_run(
    store: ExecutionStore, fence: Unchanged, opened: StoredHead | None, message: InboxMessage
) -> ResetRun | Lost | None:
    """Create the new run; None if the request was rejected and deleted.

    After Lost or an error, the request is still stored. Raises SessionLost.
    """
    reset = message.body
    assert isinstance(reset, Reset)
    keys = store.keys
    _, workflow_id, _ = keys.inbox_parts(message.key)
    try:
        base = await find_run(store.kv, keys, workflow_id, reset.run_id)
        history = await store.history(base)
    except (ExecutionNotFound, UnusableValue) as error:
        _log.warning("reset of workflow %s was rejected: %s", workflow_id, error)
        return await _delete(store, fence, message)
    if not history:
        return await _delete(store, fence, message)
    events = with_later_inputs(events_before_task(history, reset.event_id), history)
    now_ms = store.clock.now_ms()
    head = _head_of_new_run(events, base, reset, now_ms)
    head, events = await _with_ended_children(store, head, events)
    # The segments are written before the head: nothing reads the segments of a run without a head.
    for put in _segments(store, head, events):
        await store.committer.propose([fence], [put])
    key = keys.open(workflow_id)
    guards: list[Guard] = [fence, Unchanged(key, opened.revision if opened is not None else 0)]
    writes: list[Write] = [Delete(message.key), Put(key, HEAD_CODEC.encode(head))]
    terminated: RunHead | None = None
    if opened is not None:
        ending = _termination_draft(store, opened.head, reset, now_ms)
        # The termination deletes the open head, too, but a transaction may write a key only once.
        writes += [
            write
            for write in ending.writes()
            if not (isinstance(write, Delete) and write.start == key)
        ]
        terminated = ending.head
    outcome = await store.committer.propose(guards, writes)
    if isinstance(outcome, Lost):
        return outcome
    return ResetRun(StoredHead(head, outcome.revision), terminated)


async def _delete(store: ExecutionStore, fence: Unchanged, message: InboxMessage) -> Lost | None:
    outcome = await store.committer.propose([fence], [Delete(message.key)])
    return outcome if isinstance(outcome, Lost) else None


def _termination_draft(
    store: ExecutionStore, head: RunHead, reset: Reset, now_ms: int
) -> HistoryDraft:
    """The end of the open run, whose parent and children pass to the new run."""
    ending = store.draft(head, now_ms)
    reason = f"reset to event {reset.event_id}: {reset.reason}"
    ending.add(ev.WorkflowExecutionTerminated(reason, reset.identity))
    ending.change(parent=None, children=())
    ending.close(RunClosure(ExecutionStatus.TERMINATED, reason=reason, new_run_id=reset.new_run_id))
    return ending


async def _with_ended_children(
    store: ExecutionStore, head: RunHead, events: list[ev.HistoryEvent]
) -> tuple[RunHead, list[ev.HistoryEvent]]:
    """Record the ends of pending children that have closed.

    Each of them has sent its only report to another run, or while no run was open.
    """
    draft = store.draft(head)
    for child in head.children:
        end = await _end_of_child(store, head, child)
        if end is not None:
            record_message(draft, end)
    draft.encode()
    return draft.head, [*events, *draft.events]


async def _end_of_child(
    store: ExecutionStore, head: RunHead, child: ChildRecord
) -> ChildEvent | None:
    """The report of a child that has closed; None if the child may still send it."""
    try:
        opened, closed = await read_heads(store.kv, store.keys, child.workflow_id)
    except UnusableValue:
        return None
    runs = [*closed, opened] if opened is not None else closed
    parents = [(head.workflow_id, run_id, child.child_id) for run_id in head.bases]
    for run in reversed(runs):
        parent = run.parent
        if parent is not None and (parent.workflow_id, parent.run_id, parent.child_id) in parents:
            if run.is_open or run.status is ExecutionStatus.CONTINUED_AS_NEW:
                return None
            return child_end_of(run, parent)
    return None


def _head_of_new_run(
    events: Sequence[ev.HistoryEvent], base: RunHead, reset: Reset, now_ms: int
) -> RunHead:
    """The timeouts of the run and of the execution count from now."""
    head = head_of_history(events)
    return head._replace(
        run_id=reset.new_run_id,
        status=ExecutionStatus.RUNNING,
        paused_activity=0,
        due=True,
        last_ms=max(head.last_ms, now_ms),
        started_ms=now_ms,
        run_deadline_ms=_from_now(base.run_deadline_ms, base, now_ms),
        execution_deadline_ms=_from_now(base.execution_deadline_ms, base, now_ms),
        history_bytes=len(encode_history(events)),
        bases=(*base.bases, base.run_id)[-BASES_MAX:],
        base_requests=_requests_by_run(_pending_requests(events), base),
    )


def _requests_by_run(requests: Iterable[int], base: RunHead) -> dict[str, tuple[int, ...]]:
    """Requests of the history of ``base``, by the id of the run that sent them."""
    senders = {number: run_id for run_id, sent in base.base_requests.items() for number in sent}
    by_run: dict[str, tuple[int, ...]] = {}
    for number in requests:
        run_id = senders.get(number, base.run_id)
        by_run[run_id] = (*by_run.get(run_id, ()), number)
    return by_run


def _from_now(deadline_ms: int, base: RunHead, now_ms: int) -> int:
    return now_ms + deadline_ms - base.started_ms if deadline_ms else 0


def _segments(
    store: ExecutionStore, head: RunHead, events: Sequence[ev.HistoryEvent]
) -> Iterator[Put]:
    for first in range(0, len(events), SEGMENT_EVENTS_MAX):
        part = events[first : first + SEGMENT_EVENTS_MAX]
        key = store.keys.event(head.workflow_id, head.run_id, part[0].event_id)
        yield Put(key, encode_history(part))
