"""Formats workflow executions for ``orbctl workflow``."""

from __future__ import annotations

from typing import Any, Final

from msgspec import to_builtins

from core.domain.validation.common_rules import counted
from ops.cli.output import TableColumn, duration, moment, print_fields
from workflows.engine.client.visibility import Description
from workflows.engine.store.records import RunHead
from workflows.model.events import HistoryEvent

LIST_COLUMNS: Final = (
    TableColumn("ID"),
    TableColumn("TYPE"),
    TableColumn("STATUS"),
    TableColumn("AGE", right=True),
    TableColumn("EVENTS", right=True),
    TableColumn("WAITS FOR"),
    TableColumn("RUN", wide=True),
)
EVENT_COLUMNS: Final = (
    TableColumn("EVENT", right=True),
    TableColumn("AT"),
    TableColumn("AFTER", right=True),
    TableColumn("WHAT"),
    TableColumn("DETAIL"),
)
DETAIL_CHARS_MAX: Final = 120
FIELDS_OF_WIDE_OUTPUT: Final = frozenset(
    {"workflow_id", "run_id", "task_queue", "identity", "history_bytes", "timeouts", "retry_policy"}
)
"""Fields of events that only ``-o wide`` and ``-o json`` show."""


def timeline(events: list[HistoryEvent], *, wide: bool = False) -> list[tuple[str, ...]]:
    """A row of ``EVENT_COLUMNS`` for each event; fields with their default value are left out."""
    hidden = frozenset[str]() if wide else FIELDS_OF_WIDE_OUTPUT
    start_ms = events[0].event_time_ms if events else 0
    return [
        (
            str(event.event_id),
            moment(event.event_time_ms),
            f"{(event.event_time_ms - start_ms) / 1000:.3f}s",
            event.event_type,
            _detail(event, hidden),
        )
        for event in events
    ]


def _detail(event: HistoryEvent, hidden: frozenset[str]) -> str:
    defaults = event.attributes._field_defaults
    fields = [
        f"{name}={getattr(event.attributes, name)!r}"
        for name in event.attributes._fields
        if name not in hidden
        and (name not in defaults or defaults[name] != getattr(event.attributes, name))
    ]
    text = " ".join(fields)
    return text if len(text) <= DETAIL_CHARS_MAX else f"{text[: DETAIL_CHARS_MAX - 1]}…"


def execution_row(head: RunHead, now_ms: int) -> tuple[str, ...]:
    """A row of ``LIST_COLUMNS``."""
    end_ms = head.closed_ms or now_ms
    return (
        head.workflow_id,
        head.workflow_type,
        head.status.value,
        duration(end_ms - head.started_ms),
        str(head.next_event_id - 1),
        _waits_for(head),
        head.run_id,
    )


def _waits_for(head: RunHead) -> str:
    if not head.is_open:
        return head.reason or "-"
    if head.reason:
        return head.reason
    parts = [
        counted(len(head.activities), "activity", "activities") if head.activities else "",
        counted(len(head.timers), "timer") if head.timers else "",
        counted(len(head.children), "child", "children") if head.children else "",
    ]
    # A due execution has events that its workflow code has not processed.
    return ", ".join(filter(None, parts)) or ("a worker" if head.due else "a message")


def print_description(description: Description, now_ms: int) -> None:
    """Print one run with its pending activities."""
    head = description.head
    no_owner = "no worker owns its shard" if head.is_open else ""
    print_fields(
        [
            ("Workflow id", head.workflow_id),
            ("Run id", head.run_id),
            ("Type", head.workflow_type),
            ("Status", head.status.value),
            ("Reason", head.reason),
            (
                "Started",
                f"{moment(head.started_ms)} ({duration(now_ms - head.started_ms)} ago)",
            ),
            ("Closed", moment(head.closed_ms) if head.closed_ms else ""),
            ("History", f"{counted(head.next_event_id - 1, 'event')}, {head.history_bytes:,} B"),
            ("Waits for", _waits_for(head) if head.is_open else ""),
            ("Worker", description.owner or no_owner),
            (
                "Inbox",
                counted(description.inbox_messages, "message")
                if description.inbox_messages
                else "",
            ),
            ("Attributes", _attributes_text(head)),
            ("Continued as", head.new_run_id),
        ]
    )
    for activity_id, attempt in description.attempts.items():
        failure = attempt.last_failure
        why = f", after {failure.type}: {failure.message}" if failure else ""
        print(f"  activity {activity_id}: attempt {attempt.attempt}{why}")


def _attributes_text(head: RunHead) -> str:
    return " ".join(f"{name}={value!r}" for name, value in head.search_attributes.items())


def head_document(head: RunHead) -> dict[str, Any]:
    """A run for JSON and YAML, without empty fields."""
    fields: dict[str, Any] = to_builtins(head._asdict())
    return {name: value for name, value in fields.items() if value not in ("", None, [], {}, 0)}
