"""Reads heads, attempts and histories from the store."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgspec

from core.errors import ExecutionNotFound, UnusableValue
from core.eventstore.kv import Get, KeyValue, KeyValueStore
from workflows.engine.store.keys import RUN_ID_CHARS, WorkflowKeys
from workflows.engine.store.records import (
    ATTEMPT_CODEC,
    HEAD_CODEC,
    Attempt,
    RunHead,
    decode_history,
)
from workflows.engine.store.unusable_values import DECODING_ERRORS
from workflows.model.errors import HistoryError
from workflows.model.events import HistoryEvent

# Unlike the codecs, these decoders reject fields of a newer version.
_strict_head = msgspec.msgpack.Decoder(tuple[int, RunHead])
_strict_attempt = msgspec.msgpack.Decoder(tuple[int, Attempt])

HISTORY_REMEDY = (
    "run a worker of the newest version, restore the history from a backup of etcd, or end the"
    " execution with `orbctl workflow terminate`"
)


async def read_history(
    store: KeyValueStore, keys: WorkflowKeys, workflow_id: str, run_id: str
) -> list[HistoryEvent]:
    """The stored events, in order, perhaps with gaps. Raises StoreUnavailable, HistoryError."""
    start, end = keys.history(workflow_id, run_id)
    segments = (await store.read([Get(start, end)])).ranges[0].kvs
    return history_of(segments)


def history_of(segments: tuple[KeyValue, ...]) -> list[HistoryEvent]:
    """The events of a run's segments. Raises HistoryError."""
    return [event for segment in segments for event in decode_history(segment.value)]


async def read_whole_history(
    store: KeyValueStore, keys: WorkflowKeys, head: RunHead
) -> list[HistoryEvent]:
    """All events of a run. Raises UnusableValue (also for a gap), StoreUnavailable."""
    start, _ = keys.history(head.workflow_id, head.run_id)
    try:
        events = await read_history(store, keys, head.workflow_id, head.run_id)
    except HistoryError as error:
        raise UnusableValue("history", start, error, HISTORY_REMEDY) from error
    why = _gap(events, head.next_event_id - 1)
    if why:
        raise UnusableValue("history", start, why, HISTORY_REMEDY)
    return events


def _gap(events: list[HistoryEvent], expected: int) -> str:
    """Why events are missing, or "" if none is.

    The head says that events 1 to ``expected`` exist; newer ones may follow.
    """
    for number, event in enumerate(events, 1):
        if event.event_id != number:
            return f"expected event {number}, got event {event.event_id}"
    if len(events) < expected:
        return f"expected {expected} events, got {len(events)}"
    return ""


def owned_head_of(keys: WorkflowKeys, kv: KeyValue) -> RunHead:
    """The head of an open run, for the owner of its shard.

    Raises UnusableValue, also for fields of a newer version: the owner's next write of the head
    would lose these fields.
    """
    head = head_of(keys, kv)
    _check_fields("open execution", kv, _strict_head)
    return head


def _check_fields(kind: str, kv: KeyValue, decoder: msgspec.msgpack.Decoder[Any]) -> None:
    try:
        decoder.decode(kv.value)
    except msgspec.ValidationError as error:
        why = f"it has a field of a newer version, which a write would lose: {error}"
        raise UnusableValue(kind, kv.key, why, UnusableValue.REMEDY) from error


def head_of(keys: WorkflowKeys, kv: KeyValue) -> RunHead:
    """The head of an open run. Raises UnusableValue."""
    try:
        head = HEAD_CODEC.decode(kv.value)
    except DECODING_ERRORS as error:
        raise UnusableValue("open execution", kv.key, error, UnusableValue.REMEDY) from error
    why = ""
    if keys.open(head.workflow_id) != kv.key:
        got = f"workflow {head.workflow_id!r}"
        why = f"expected the head of the workflow that the key names, got the head of {got}"
    elif not head.is_open:
        why = f"expected the status of an open run, got {head.status.value}"
    elif len(head.run_id) != RUN_ID_CHARS:
        why = f"{head.run_id!r} is not a run id"
    elif head.next_event_id < 1:
        why = f"expected a next event id of at least 1, got {head.next_event_id}"
    if why:
        raise UnusableValue("open execution", kv.key, why, UnusableValue.REMEDY)
    return head


def closed_head_of(keys: WorkflowKeys, kv: KeyValue) -> RunHead:
    """The head of a closed run. Raises UnusableValue."""
    try:
        head = HEAD_CODEC.decode(kv.value)
        if keys.closed(head.workflow_id, head.run_id) != kv.key:
            got = f"run {head.run_id} of workflow {head.workflow_id!r}"
            raise ValueError(f"expected the head of the run that the key names, got {got}")
        if head.is_open:
            raise ValueError(f"expected the status of a closed run, got {head.status}")
    except DECODING_ERRORS as error:
        raise UnusableValue("closed execution", kv.key, error, UnusableValue.REMEDY) from error
    return head


def attempts_of(
    keys: WorkflowKeys, kvs: Iterable[KeyValue], pending: Iterable[int]
) -> dict[int, Attempt]:
    """The stored attempts of ``pending`` activities, by activity id. Raises UnusableValue."""
    numbers = set(pending)
    attempts = {}
    for kv in kvs:
        try:
            _, activity_id = keys.attempt_parts(kv.key)
            if activity_id not in numbers:
                continue
            attempt = ATTEMPT_CODEC.decode(kv.value)
            if attempt.attempt < 1 or attempt.not_before_ms < 0:
                raise ValueError(
                    "expected an attempt number of at least 1 and an earliest start of at least"
                    f" 0 ms, got attempt {attempt.attempt} and {attempt.not_before_ms} ms"
                )
        except DECODING_ERRORS as error:
            raise UnusableValue("activity attempt", kv.key, error, UnusableValue.REMEDY) from error
        _check_fields("activity attempt", kv, _strict_attempt)
        attempts[activity_id] = attempt
    return attempts


async def read_heads(
    store: KeyValueStore, keys: WorkflowKeys, workflow_id: str
) -> tuple[RunHead | None, list[RunHead]]:
    """The head of the open run, and the readable heads of the closed runs, oldest first.

    Raises StoreUnavailable, and UnusableValue if the open head cannot be read.
    """
    start, end = keys.closed_runs(workflow_id)
    result = await store.read([Get(keys.open(workflow_id)), Get(start, end)])
    opened, closed = (answer.kvs for answer in result.ranges)
    closed_runs = closed_heads(keys, closed, workflow_id)
    return (head_of(keys, opened[0]) if opened else None, closed_runs)


def closed_heads(keys: WorkflowKeys, kvs: Iterable[KeyValue], workflow_id: str) -> list[RunHead]:
    """The readable heads of an id's closed runs; ``kvs`` may include other ids."""
    heads = []
    for kv in kvs:
        with suppress(UnusableValue):
            head = closed_head_of(keys, kv)
            if head.workflow_id == workflow_id:
                heads.append(head)
    return heads


async def find_run(
    store: KeyValueStore, keys: WorkflowKeys, workflow_id: str, run_id: str = ""
) -> RunHead:
    """The head of a run. Without a run id: of the open run, else of the newest closed run.

    Raises ExecutionNotFound, StoreUnavailable, UnusableValue.
    """
    opened, closed = await read_heads(store, keys, workflow_id)
    candidates = [*closed, opened] if opened is not None else closed
    head: RunHead
    for head in reversed(candidates):
        if run_id in ("", head.run_id):
            return head
    what = f"run {run_id} of workflow {workflow_id}" if run_id else f"workflow {workflow_id}"
    raise ExecutionNotFound(
        f"{what} does not exist",
        subject=workflow_id,
        remedy="check `orbctl workflow list`; `orbctl workflow history ID --run RUN_ID` also"
        " reads the archive",
    )
