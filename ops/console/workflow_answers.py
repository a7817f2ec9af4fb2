"""The console's answers about workflow executions at one instant.

Current executions are read from etcd; past executions are computed from their histories.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Final

from msgspec import json

from core.audit.indexed_log import LogInstant
from core.errors import BadInput
from ops.console.console_data import ConsoleSource
from ops.console.json_values import (
    Document,
    PageRequest,
    instant_document,
    orbctl_time_text,
    page_of,
    time_text,
)
from workflows.engine.client.visibility import Filter
from workflows.engine.client.visibility_at_instant import PastExecutions
from workflows.engine.store.records import Attempt, RunHead
from workflows.model.errors import LimitExceeded
from workflows.model.events import ActivityTaskScheduled, HistoryEvent
from workflows.model.history_json import to_json
from workflows.model.policies import ExecutionStatus

HISTORY_SHOWN_MAX: Final = 4_096

EXECUTIONS_FOUND_MAX: Final = 50


def parse_statuses(texts: list[str]) -> tuple[ExecutionStatus, ...]:
    """Raises BadInput."""
    known = {status.value.casefold(): status for status in ExecutionStatus}
    for text in texts:
        if text.casefold() not in known:
            raise BadInput(
                f"there is no status {text[:64]!r}",
                subject="status",
                remedy=f"use one of {', '.join(status.value for status in ExecutionStatus)}",
            )
    return tuple(known[text.casefold()] for text in texts)


async def workflow_page(
    source: ConsoleSource, instant: LogInstant, query: Filter, request: PageRequest
) -> Document:
    """``WorkflowPage`` of console-api.yaml.

    Raises StoreUnavailable, and BadInput if too many executions match.
    """
    try:
        executions = await _executions(source, instant, query)
    except LimitExceeded as error:
        raise BadInput(str(error), subject="workflows", remedy="filter by type or id") from None
    items, page = page_of(executions.heads, request)
    return {
        "at": instant_document(instant),
        "items": [_workflow(head) for head in items],
        "statuses": Counter(head.status.value for head in executions.heads),
        "missing": _missing(executions, instant),
        **page,
    }


async def _executions(source: ConsoleSource, instant: LogInstant, query: Filter) -> PastExecutions:
    if instant.is_now:
        return PastExecutions(await source.visibility().newest_first(query))
    return await source.past_visibility(instant).executions(query)


def _missing(executions: PastExecutions, instant: LogInstant) -> list[str]:
    """Sentences about executions that the answer lacks."""
    sentences = []
    log = instant.log
    # True if the log lacks its beginning, or began before ``deleted_before_ms``.
    may_be_deleted = log.first_position > 0 or log.clock.first[1] < executions.deleted_before_ms
    if executions.deleted_before_ms and may_be_deleted:
        when = orbctl_time_text(executions.deleted_before_ms)
        sentences.append(
            f"executions that closed before {when} have left etcd and the archive (retention)"
        )
    if executions.not_read:
        sentences.append(f"older archived executions that were not read: {executions.not_read:,}")
    if executions.unreadable:
        sentences.append(f"executions that cannot be read: {executions.unreadable:,}")
    return sentences


async def workflow_answer(
    source: ConsoleSource, instant: LogInstant, workflow_id: str, run_id: str
) -> Document:
    """``WorkflowAnswer`` of console-api.yaml. Raises ExecutionNotFound."""
    if instant.is_now:
        visibility = source.visibility()
        head, events = await visibility.history(workflow_id, run_id)
        attempts = (
            (await visibility.describe(workflow_id, head.run_id)).attempts if head.is_open else {}
        )
    else:
        head, events = await source.past_visibility(instant).history(workflow_id, run_id)
        attempts = None
    shown = events[-HISTORY_SHOWN_MAX:]
    return {
        "at": instant_document(instant),
        "workflow": _workflow(head),
        "pending": _pending(head, attempts, events),
        "history": [_event(event) for event in shown],
        "dropped": len(events) - len(shown),
    }


async def executions_at(source: ConsoleSource, instant: LogInstant) -> AsyncIterator[RunHead]:
    """Raises StoreUnavailable, LimitExceeded."""
    if instant.is_now:
        async for head in source.visibility().heads():
            yield head
    else:
        for head in (await source.past_visibility(instant).executions()).heads:
            yield head


async def matching_executions(
    heads: AsyncIterator[RunHead], text: str, trace: str
) -> list[RunHead]:
    """The newest executions that have ``text`` in the workflow id or as run id, or have ``trace``.

    ``shop/web`` also finds ``shop_web``, as in an application's workflow id.
    Raises StoreUnavailable, LimitExceeded.
    """
    text = text.lower()
    texts = {text, text.replace("/", "_")}
    newest: list[RunHead] = []
    async for head in heads:
        if (
            any(part in head.workflow_id.lower() for part in texts)
            or text == head.run_id
            or (trace and trace in head.traceparent)
        ):
            newest.append(head)
            if len(newest) > 2 * EXECUTIONS_FOUND_MAX:
                newest = _newest(newest)
    return _newest(newest)


def _newest(heads: list[RunHead]) -> list[RunHead]:
    return sorted(heads, key=lambda head: -head.started_ms)[:EXECUTIONS_FOUND_MAX]


def _workflow(head: RunHead) -> Document:
    return {
        "id": head.workflow_id,
        "run": head.run_id,
        "type": head.workflow_type,
        "status": head.status.value,
        "started": time_text(head.started_ms),
        "closed": time_text(head.closed_ms) if head.closed_ms else None,
        "events": head.next_event_id - 1,
        "waitsFor": _waits_for(head),
    }


def _waits_for(head: RunHead) -> str:
    """What an execution waits for, or why it was closed or paused."""
    if head.reason or not head.is_open:
        return head.reason
    pending = (
        (len(head.activities), "an activity", "activities"),
        (len(head.timers), "a timer", "timers"),
        (len(head.children), "a child", "children"),
    )
    parts = [
        singular if count == 1 else f"{count} {plural}"
        for count, singular, plural in pending
        if count
    ]
    # ``due``: a worker has not processed all events.
    return ", ".join(parts) or ("a worker" if head.due else "a message")


def _pending(
    head: RunHead, attempts: Mapping[int, Attempt] | None, events: list[HistoryEvent]
) -> list[Document]:
    """``attempts`` is None for a past instant."""
    names = {
        event.attributes.activity_id: event.attributes.activity_type
        for event in events
        if isinstance(event.attributes, ActivityTaskScheduled)
    }
    pending = []
    for activity_id in head.activities:
        # An activity without a stored attempt is in its first attempt.
        attempt = attempts.get(activity_id, Attempt(1)) if attempts is not None else None
        failure = attempt.last_failure if attempt else None
        pending.append(
            {
                "activity": names.get(activity_id, f"activity {activity_id}"),
                "attempt": attempt.attempt if attempt else None,
                "lastFailure": f"{failure.type}: {failure.message}" if failure else "",
                "nextAttempt": time_text(attempt.not_before_ms)
                if attempt and attempt.not_before_ms
                else None,
            }
        )
    return pending


def _event(event: HistoryEvent) -> Document:
    plain: Document = json.decode(to_json([event]))["events"][0]
    return {
        "id": event.event_id,
        "time": time_text(event.event_time_ms),
        "type": event.event_type,
        "attributes": plain["attributes"],
    }
