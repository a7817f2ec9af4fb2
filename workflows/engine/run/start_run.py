"""The first head and event of a run: for starts, children and continued runs. Pure."""

from __future__ import annotations

from workflows.engine.store.records import RunHead
from workflows.model.events import HistoryEvent, WorkflowExecutionStarted
from workflows.model.policies import ExecutionStatus


def deadline_ms(start_ms: int, seconds: float) -> int:
    """When a timeout of ``seconds`` after ``start_ms`` is due, in ms since 1970; 0: none."""
    return start_ms + round(seconds * 1000) if seconds else 0


def reserved_head(started: WorkflowExecutionStarted, now_ms: int) -> RunHead:
    """The head that reserves the id: it has no event yet, the start is in the inbox."""
    return RunHead(
        started.workflow_id,
        started.run_id,
        started.workflow_type,
        ExecutionStatus.RUNNING,
        due=True,
        started_ms=now_ms,
        last_ms=now_ms,
        run_deadline_ms=deadline_ms(now_ms, started.run_timeout_s),
        execution_deadline_ms=deadline_ms(now_ms, started.execution_timeout_s),
        search_attributes=started.search_attributes,
        memo=started.memo,
        parent=started.parent,
        first_run_id=started.first_run_id or started.run_id,
        traceparent=started.traceparent,
    )


def continued_run(
    started: WorkflowExecutionStarted, now_ms: int, execution_deadline_ms: int = 0
) -> tuple[RunHead, HistoryEvent]:
    """Head and first event of a run that continues another one as new."""
    head = reserved_head(started, now_ms)._replace(next_event_id=2)
    if execution_deadline_ms:
        head = head._replace(execution_deadline_ms=execution_deadline_ms)
    return head, HistoryEvent(1, now_ms, started)
