"""Reading histories and heads from the store: what clients, owners and archivers share."""

from __future__ import annotations

from core.errors import ExecutionNotFound
from core.store.kv import Get, KeyValue, KeyValueStore
from workflows.engine.keys import WorkflowKeys
from workflows.engine.records import HEAD, Head
from workflows.model.codec import decode_history
from workflows.model.events import HistoryEvent


async def read_history(
    store: KeyValueStore, keys: WorkflowKeys, workflow_id: str, run_id: str
) -> list[HistoryEvent]:
    """All events of a run, in order; empty when there are none. Raises StoreUnavailable."""
    start, end = keys.history(workflow_id, run_id)
    found = (await store.read([Get(start, end)])).ranges[0].kvs
    return history_of(found)


def history_of(segments: tuple[KeyValue, ...]) -> list[HistoryEvent]:
    """The events of a run's segments."""
    return [event for segment in segments for event in decode_history(segment.value)]


async def read_heads(
    store: KeyValueStore, keys: WorkflowKeys, workflow_id: str
) -> tuple[Head | None, list[Head]]:
    """The open head of an id, and its closed ones, oldest first. Raises StoreUnavailable."""
    start, end = keys.closed_runs(workflow_id)
    result = await store.read([Get(keys.open(workflow_id)), Get(start, end)])
    opened, closed = (answer.kvs for answer in result.ranges)
    mine = [kv for kv in closed if keys.closed_name(kv.key)[0] == workflow_id]
    return (
        HEAD.decode(opened[0].value) if opened else None,
        [HEAD.decode(kv.value) for kv in mine],
    )


async def find_run(
    store: KeyValueStore, keys: WorkflowKeys, workflow_id: str, run_id: str = ""
) -> Head:
    """The head of a run, by default the open or else the newest one. Raises ExecutionNotFound."""
    opened, closed = await read_heads(store, keys, workflow_id)
    candidates = [*closed, opened] if opened is not None else closed
    head: Head
    for head in reversed(candidates):
        if run_id in ("", head.run_id):
            return head
    what = f"run {run_id} of {workflow_id}" if run_id else f"execution {workflow_id}"
    raise ExecutionNotFound(
        f"there is no {what}",
        subject=workflow_id,
        remedy="look at `orbctl workflow list`, or in the archive",
    )
