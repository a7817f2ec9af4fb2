"""The records that the engine stores: heads, messages, attempts, replies, and histories.

Records are msgpack arrays that begin with a version. New fields are added at the end, with a
default. A message is stored with the name of its class. Decoding a history is strict: an unknown
type or field raises HistoryError, because no part of a history may be ignored.
"""

# ruff: noqa: RUF012 - a mapping defaults to {}; no record is ever changed in place
from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from core.errors import LogCorrupt
from core.eventstore.codec import StateCodec
from workflows.model.errors import HistoryError
from workflows.model.events import (
    EVENT_TYPES,
    TYPE_NAMES,
    HistoryEvent,
    ParentRef,
    SearchAttributes,
    WorkflowExecutionStarted,
)
from workflows.model.failures import Failure
from workflows.model.payloads import Payload
from workflows.model.policies import (
    ExecutionStatus,
    IdReusePolicy,
    ParentClosePolicy,
    UpdateStage,
)


class ChildRecord(NamedTuple):
    """A child that has not closed. ``run_id`` is "" until the child has reported its start."""

    child_id: int
    workflow_id: str
    policy: ParentClosePolicy
    run_id: str = ""


class Timer(NamedTuple):
    """A timer that has not fired. ``fire_ms``: Unix milliseconds."""

    timer_id: int
    fire_ms: int


class RunHead(NamedTuple):
    """The state of a run, written in one transaction with every change of its history.

    Times are Unix milliseconds. ``activities``, ``timers`` and ``children`` are the pending ones.

    ``next_event_id`` 1: no event is recorded yet, the start is in the inbox.
    ``due``: the history has events that the workflow's code has not processed.
    ``last_ms``: the time of the last event. ``signals``: the number of recorded signals.
    ``requests``: ids of the latest signals, to detect a repeated signal.
    ``updates``: ids of accepted updates.
    Only a closed run has a ``result``. A closed or paused run has ``failure`` and ``reason``.
    ``new_run_id``: the run that continues this run.
    ``paused_activity``: the activity that paused the run, or 0.
    ``bases``: the runs whose histories this run continues after a reset.
        Their children and requests may still be pending.
    ``base_requests``: id of an earlier run -> the numbers of its requests to other executions that
        this run's history contains without an outcome.
    """

    workflow_id: str
    run_id: str
    workflow_type: str
    status: ExecutionStatus = ExecutionStatus.RUNNING
    reason: str = ""
    next_event_id: int = 1
    history_bytes: int = 0
    due: bool = False
    started_ms: int = 0
    closed_ms: int = 0
    last_ms: int = 0
    run_deadline_ms: int = 0
    execution_deadline_ms: int = 0
    activities: tuple[int, ...] = ()
    timers: tuple[Timer, ...] = ()
    children: tuple[ChildRecord, ...] = ()
    cancelling: bool = False
    signals: int = 0
    updates: tuple[str, ...] = ()
    search_attributes: SearchAttributes = {}
    memo: dict[str, Payload] = {}
    parent: ParentRef | None = None
    result: Payload = None
    failure: Failure | None = None
    new_run_id: str = ""
    first_run_id: str = ""
    paused_activity: int = 0
    requests: tuple[str, ...] = ()
    traceparent: str = ""
    bases: tuple[str, ...] = ()
    base_requests: dict[str, tuple[int, ...]] = {}

    @property
    def is_open(self) -> bool:
        """Whether the run has not closed."""
        status = self.status  # identity is faster than a lookup in a set
        return status is ExecutionStatus.RUNNING or status is ExecutionStatus.PAUSED


class Attempt(NamedTuple):
    """The state of an activity after a failed attempt or a heartbeat.

    ``attempt``: the current or next attempt. ``not_before_ms``: its earliest start.
    """

    attempt: int
    not_before_ms: int = 0
    last_failure: Failure | None = None
    details: tuple[Payload, ...] = ()


# ----------------------------------------------------------------------------------- messages


class Start(NamedTuple):
    """Start a run. ``reserved``: a client has written the head of the run."""

    started: WorkflowExecutionStarted
    reserved: bool
    at_ms: int
    reuse: IdReusePolicy = IdReusePolicy.ALLOW_DUPLICATE


class Signal(NamedTuple):
    """A signal. ``sender``: the execution to notify when the signal is recorded."""

    name: str
    args: tuple[Payload, ...] = ()
    identity: str = ""
    request_id: str = ""
    traceparent: str = ""
    sender: Sender | None = None
    run_id: str = ""


class Sender(NamedTuple):
    """The execution that sent a request."""

    workflow_id: str
    run_id: str
    request_id: int


class RequestCancel(NamedTuple):
    """Request the cancellation of the run. ``parents``: see ``Terminate``."""

    reason: str = ""
    identity: str = ""
    sender: Sender | None = None
    run_id: str = ""
    parents: tuple[str, ...] = ()


class Terminate(NamedTuple):
    """End the run without running its code.

    ``parents`` replaces an unknown ``run_id``: end the run only if one of these runs started it.
    """

    reason: str
    identity: str = ""
    run_id: str = ""
    parents: tuple[str, ...] = ()


class Retry(NamedTuple):
    """Resume a paused run, and count attempts from 1 again."""

    reason: str = ""
    identity: str = ""


class Pause(NamedTuple):
    """Pause a run until ``Retry``."""

    reason: str = ""
    identity: str = ""


class Reset(NamedTuple):
    """Continue in a new run, from the history of run ``run_id`` up to ``event_id``."""

    run_id: str
    event_id: int
    new_run_id: str
    reason: str = ""
    identity: str = ""


class Query(NamedTuple):
    """Query the workflow's code. The reply is written under ``lease``."""

    name: str
    args: tuple[Payload, ...] = ()
    lease: int = 0
    traceparent: str = ""


class Update(NamedTuple):
    """Update the execution. The caller waits for ``stage``. ``lease``: the lease of the reply."""

    update_id: str
    name: str
    args: tuple[Payload, ...] = ()
    identity: str = ""
    lease: int = 0
    traceparent: str = ""
    stage: UpdateStage = UpdateStage.COMPLETED


class ChildEvent(NamedTuple):
    """A child has started (status RUNNING), has closed, or could not start (``refused``: why).

    ``child_id``: the number of the child in the parent's run ``parent_run_id``.
    """

    child_id: int
    run_id: str
    status: ExecutionStatus
    refused: str = ""
    result: Payload = None
    failure: Failure | None = None
    parent_run_id: str = ""
    workflow_id: str = ""


class ExternalEvent(NamedTuple):
    """The outcome of a request to another execution. ``kind``: "signal" or "cancel".

    ``refused``: why the request failed, or "".
    """

    request_id: int
    kind: str
    refused: str = ""
    run_id: str = ""


Message = (
    Start
    | Signal
    | RequestCancel
    | Terminate
    | Pause
    | Retry
    | Reset
    | Query
    | Update
    | ChildEvent
    | ExternalEvent
)
_MESSAGES: dict[str, type[Message]] = {kind.__name__: kind for kind in Message.__args__}


class InboxMessage(NamedTuple):
    """A received message. ``size``: bytes of the stored value."""

    key: bytes
    message_id: str
    revision: int
    body: Message
    size: int = 0


class Reply(NamedTuple):
    """The reply to a query or update.

    ``rejected``: the call was not executed. ``accepted``: the update has no result yet.
    """

    result: Payload = None
    failure: Failure | None = None
    rejected: bool = False
    accepted: bool = False


HEAD_CODEC = StateCodec(RunHead)
ATTEMPT_CODEC = StateCodec(Attempt)
REPLY_CODEC = StateCodec(Reply)

_encoder = msgspec.msgpack.Encoder()
_envelope = msgspec.msgpack.Decoder(tuple[int, str, msgspec.Raw])
_bodies = {name: msgspec.msgpack.Decoder(kind) for name, kind in _MESSAGES.items()}
_VERSION = 1


def encode_message(message: Message) -> bytes:
    """Encode as ``[version, class name, fields]``."""
    return _encoder.encode((_VERSION, type(message).__name__, message))


def decode_message(data: bytes) -> Message:
    """Decode a message. Raises LogCorrupt."""
    try:
        version, kind, body = _envelope.decode(data)
        if version != _VERSION:
            raise LogCorrupt(f"unknown message version {version}", subject=kind)
        message: Message = _bodies[kind].decode(body)
    except (msgspec.MsgspecError, ValueError) as error:  # ValueError: invalid UTF-8
        raise LogCorrupt(f"cannot decode a workflow message: {error}") from error
    except KeyError as error:
        raise LogCorrupt(f"a workflow message has the unknown type {error}") from error
    return message


class _StoredEvent(NamedTuple):
    event_id: int
    event_time_ms: int
    type: str
    attributes: msgspec.Raw


_list_decoder = msgspec.msgpack.Decoder(list[_StoredEvent])
_attribute_decoders = {name: msgspec.msgpack.Decoder(kind) for name, kind in EVENT_TYPES.items()}


def encode_history(events: Iterable[HistoryEvent]) -> bytes:
    """Encode events as an array of ``[event_id, event_time_ms, type, [attributes]]``."""
    return _encoder.encode(
        [
            (number, at_ms, TYPE_NAMES[type(attributes)], attributes)
            for number, at_ms, attributes in events
        ]
    )


def encode_event(event: HistoryEvent) -> bytes:
    """The stored form of one event."""
    return _encoder.encode((*event[:2], event.event_type, event.attributes))


def decode_history(data: bytes) -> list[HistoryEvent]:
    """Decode the result of ``encode_history``. Raises HistoryError."""
    try:
        return [_event(stored) for stored in _list_decoder.decode(data)]
    except (
        msgspec.MsgspecError,
        ValueError,
        RecursionError,
    ) as error:  # invalid UTF-8 is a ValueError
        raise HistoryError(f"the bytes are not a history: {error}") from error
    except KeyError as error:
        raise HistoryError(
            f"a newer version of Orbweaver wrote an event of type {error}"
        ) from error


def _event(stored: _StoredEvent) -> HistoryEvent:
    attributes = _attribute_decoders[stored.type].decode(stored.attributes)
    return HistoryEvent(stored.event_id, stored.event_time_ms, attributes)


def deadline_ms(start_ms: int, seconds: float) -> int:
    """The end of a timeout, in Unix milliseconds; 0: never."""
    return start_ms + round(seconds * 1000) if seconds else 0


def reserved_head(started: WorkflowExecutionStarted, now_ms: int) -> RunHead:
    """The first head of a run, which reserves the workflow id."""
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
    """The head and the first event of a run that continues another run as new.

    ``execution_deadline_ms``: the deadline of the earlier run. If it is 0, the execution timeout
    of ``started`` counts from ``now_ms``.
    """
    head = reserved_head(started, now_ms)._replace(next_event_id=2)
    if execution_deadline_ms:
        head = head._replace(execution_deadline_ms=execution_deadline_ms)
    return head, HistoryEvent(1, now_ms, started)
