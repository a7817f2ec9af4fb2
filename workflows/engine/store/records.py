"""What the engine stores beside histories: heads, messages, attempts, replies.

Plain named tuples, encoded as msgpack arrays with a version first (``core.eventstore.codec``). New
fields go to the end, with a default. A message is stored with the name of its kind, so that kinds
can be added.
"""

# ruff: noqa: RUF012 - a mapping defaults to {}; no record is ever changed in place
from __future__ import annotations

from typing import NamedTuple

import msgspec

from core.errors import LogCorrupt
from core.eventstore.codec import StateCodec
from workflows.model.events import ParentRef, SearchAttributes, WorkflowExecutionStarted
from workflows.model.failures import Failure
from workflows.model.payloads import Payload
from workflows.model.policies import ExecutionStatus, IdReusePolicy, ParentClosePolicy


class ChildRecord(NamedTuple):
    """A child that has not closed; ``run_id`` "" until it has told that it started."""

    child_id: int
    workflow_id: str
    policy: ParentClosePolicy
    run_id: str = ""


class Timer(NamedTuple):
    """A timer that has not fired: due at ``fire_ms`` by the wall clock of its start."""

    timer_id: int
    fire_ms: int


class RunHead(NamedTuple):
    """Where a run stands: written with every change of its history, in one transaction.

    ``next_event_id`` 1: no task has been done yet, the start lies in the inbox. ``due``: something
    is in the history that the workflow's code has not been told yet. ``activities``, ``timers`` and
    ``children`` are what is pending, so that a new owner goes on without reading histories.
    ``result`` and ``failure`` are those of a closed run. ``bases``: the runs whose histories a
    reset run goes on from; what they have begun may still be its own.
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

    @property
    def is_open(self) -> bool:
        """Whether something can still happen to it."""
        return self.status in {ExecutionStatus.RUNNING, ExecutionStatus.PAUSED}


class Attempt(NamedTuple):
    """An activity after its first attempt, or with progress to keep.

    ``attempt`` is the number of the next or present one, not before ``not_before_ms``;
    ``details`` came with the last heartbeat.
    """

    attempt: int
    not_before_ms: int = 0
    last_failure: Failure | None = None
    details: tuple[Payload, ...] = ()


# ----------------------------------------------------------------------------------- messages


class Start(NamedTuple):
    """Begin a run. From a client the head is there already (``reserved``); a parent asks only."""

    started: WorkflowExecutionStarted
    reserved: bool
    at_ms: int
    reuse: IdReusePolicy = IdReusePolicy.ALLOW_DUPLICATE


class Signal(NamedTuple):
    """A signal; ``sender`` is told when it is in the history."""

    name: str
    args: tuple[Payload, ...] = ()
    identity: str = ""
    request_id: str = ""
    traceparent: str = ""
    sender: Sender | None = None
    run_id: str = ""


class Sender(NamedTuple):
    """The execution that waits for an answer, and its number of the request."""

    workflow_id: str
    run_id: str
    request_id: int


class RequestCancel(NamedTuple):
    """Ask the run to end in an orderly way. ``parents``: see ``Terminate``."""

    reason: str = ""
    identity: str = ""
    sender: Sender | None = None
    run_id: str = ""
    parents: tuple[str, ...] = ()


class Terminate(NamedTuple):
    """End the run; its code is not asked.

    ``parents``, where given: runs of which one must have begun it. A parent that ends before it
    has heard of its child's start knows nothing else that tells its child from a stranger.
    """

    reason: str
    identity: str = ""
    run_id: str = ""
    parents: tuple[str, ...] = ()


class Retry(NamedTuple):
    """Let a paused run go on; the attempts of its activity begin again."""

    reason: str = ""
    identity: str = ""


class Reset(NamedTuple):
    """Go on in a new run from the history up to ``event_id``."""

    run_id: str
    event_id: int
    new_run_id: str
    reason: str = ""
    identity: str = ""


class Query(NamedTuple):
    """Ask the code; the answer lies at the message's reply key under ``lease``."""

    name: str
    args: tuple[Payload, ...] = ()
    lease: int = 0


class Update(NamedTuple):
    """Ask the code to change something; ``lease`` as of a query."""

    update_id: str
    name: str
    args: tuple[Payload, ...] = ()
    identity: str = ""
    lease: int = 0


class ChildEvent(NamedTuple):
    """A child started (RUNNING), could not start (``refused``) or closed.

    ``child_id`` is the number that the parent's run ``parent_run_id`` gave it.
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
    """What became of a signal or cancel request to another execution; ``refused`` "" means well."""

    request_id: int
    kind: str
    refused: str = ""
    run_id: str = ""


Message = (
    Start
    | Signal
    | RequestCancel
    | Terminate
    | Retry
    | Reset
    | Query
    | Update
    | ChildEvent
    | ExternalEvent
)
_MESSAGES: dict[str, type[Message]] = {kind.__name__: kind for kind in Message.__args__}


class InboxMessage(NamedTuple):
    """A message with its key and the revision at which it came; never stored like this.

    ``size``: its bytes in the store.
    """

    key: bytes
    name: str
    revision: int
    message: Message
    size: int = 0


class Reply(NamedTuple):
    """Answer to a query or update: a result or a failure. ``rejected``: by name or validator."""

    result: Payload = None
    failure: Failure | None = None
    rejected: bool = False


HEAD = StateCodec(RunHead)
ATTEMPT = StateCodec(Attempt)
REPLY = StateCodec(Reply)

_encoder = msgspec.msgpack.Encoder()
_envelope = msgspec.msgpack.Decoder(tuple[int, str, msgspec.Raw])
_bodies = {name: msgspec.msgpack.Decoder(kind) for name, kind in _MESSAGES.items()}
_VERSION = 1


def encode_message(message: Message) -> bytes:
    """``[version, kind, body]``."""
    return _encoder.encode((_VERSION, type(message).__name__, message))


def decode_message(data: bytes) -> Message:
    """The message of these bytes; raises LogCorrupt."""
    try:
        version, kind, body = _envelope.decode(data)
        if version != _VERSION:
            raise LogCorrupt(f"message version {version} is unknown", subject=kind)
        message: Message = _bodies[kind].decode(body)
    except (msgspec.MsgspecError, KeyError, ValueError) as error:  # no UTF-8 is a ValueError
        raise LogCorrupt(f"a workflow message does not decode: {error}") from error
    return message
