"""Answers about workflow executions now: lists, and one execution with history and activities."""

from __future__ import annotations

from collections import Counter
from typing import Final

from msgspec import json

from core.audit.indexed_log import LogInstant
from core.errors import BadInput
from ops.console.values import Document, PageRequest, instant_document, page_of, time_text
from workflows.engine.client.visibility import Description, Filter, Visibility
from workflows.engine.store.records import RunHead
from workflows.model.codec import to_json
from workflows.model.events import ActivityTaskScheduled, HistoryEvent
from workflows.model.policies import ExecutionStatus

HISTORY_SHOWN_MAX: Final = 4_096
"""The newest events of a history in one answer. A run with more events continues as new."""

EXECUTIONS_FOUND_MAX: Final = 50
"""Executions that one search finds."""


def parse_statuses(texts: list[str]) -> tuple[ExecutionStatus, ...]:
    """Parse the names of statuses. Raises BadInput."""
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
    visibility: Visibility, instant: LogInstant, query: Filter, request: PageRequest
) -> Document:
    """``WorkflowPage`` of console-api.yaml. Raises StoreUnavailable."""
    heads = await visibility.newest_first(query)
    items, page = page_of(heads, request)
    return {
        "at": instant_document(instant),
        "items": [_workflow(head) for head in items],
        "statuses": Counter(head.status.value for head in heads),
        **page,
    }


async def workflow_answer(
    visibility: Visibility, instant: LogInstant, workflow_id: str, run_id: str
) -> Document:
    """``WorkflowAnswer`` of console-api.yaml. Raises ExecutionNotFound."""
    head, events = await visibility.history(workflow_id, run_id)
    pending: list[Document] = []
    if head.is_open:
        description = await visibility.describe(workflow_id, head.run_id)
        pending = _pending(description, events)
    shown = events[-HISTORY_SHOWN_MAX:]
    return {
        "at": instant_document(instant),
        "workflow": _workflow(head),
        "pending": pending,
        "history": [_event(event) for event in shown],
        "dropped": len(events) - len(shown),
    }


async def matching_executions(visibility: Visibility, text: str, trace: str) -> list[RunHead]:
    """The newest executions with the text in their id, or with this run id or trace id.

    The case of an id does not matter, and ``shop/web`` also finds the workflow of an application,
    whose id has ``shop_web``. Raises StoreUnavailable, LimitExceeded.
    """
    text = text.lower()
    texts = {text, text.replace("/", "_")}
    newest: list[RunHead] = []
    async for head in visibility.heads():
        if (
            any(one in head.workflow_id.lower() for one in texts)
            or text == head.run_id
            or (trace and trace in head.traceparent)
        ):
            newest.append(head)
            if len(newest) > 2 * EXECUTIONS_FOUND_MAX:  # a short text may match every id
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
    if head.reason or not head.is_open:
        return head.reason
    pending = (
        (len(head.activities), "an activity", "activities"),
        (len(head.timers), "a timer", "timers"),
        (len(head.children), "a child", "children"),
    )
    parts = [one if count == 1 else f"{count} {more}" for count, one, more in pending if count]
    return ", ".join(parts) or ("a worker" if head.due else "a message")


def _pending(description: Description, events: list[HistoryEvent]) -> list[Document]:
    names = {
        event.attributes.activity_id: event.attributes.activity_type
        for event in events
        if isinstance(event.attributes, ActivityTaskScheduled)
    }
    pending = []
    for activity_id in description.head.activities:
        attempt = description.attempts.get(activity_id)
        failure = attempt.last_failure if attempt else None
        pending.append(
            {
                "activity": names.get(activity_id, f"activity {activity_id}"),
                "attempt": attempt.attempt if attempt else 1,
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
