"""The store of one worker session, and the draft of one transaction.

A draft collects new events of a run, its changed state (the head), and other writes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from core.eventstore.kv import Delete, Guard, KeyValueStore, Put, Unchanged, Write
from workflows.engine.clock import Clock
from workflows.engine.store.history_reader import read_whole_history
from workflows.engine.store.keys import WorkflowKeys, new_id
from workflows.engine.store.records import (
    HEAD_CODEC,
    ChildEvent,
    Message,
    Reply,
    RequestCancel,
    RunHead,
    Terminate,
    encode_event,
    encode_history,
    encode_message,
)
from workflows.engine.store.session import Committer
from workflows.engine.store.unusable_values import WorkerFaults
from workflows.model import events as ev
from workflows.model.events import HistoryEvent
from workflows.model.limits import PAYLOAD_WARN_BYTES
from workflows.model.policies import ExecutionStatus, ParentClosePolicy

WRITES_MAX = 110
"""Writes of one workflow task. etcd allows 128 in a transaction; the engine adds a few."""

BYTES_MAX = 640 * 1024
"""Bytes of events and messages of one workflow task. etcd allows 1.5 MiB in a transaction."""


_FIELD_INDEX = {name: index for index, name in enumerate(RunHead._fields)}


class PendingReply(NamedTuple):
    """A reply to write once the draft is committed."""

    message_id: str
    lease: int
    reply: Reply


class RunClosure(NamedTuple):
    """How a run closes."""

    status: ExecutionStatus
    result: object = None
    failure: Any = None
    reason: str = ""
    new_run_id: str = ""


class HistoryDraft:
    """New events and changes of one run, for one transaction.

    ``now_ms`` is never before the last event. ``successor``: the head of the run that continues
    this run as new.
    """

    def __init__(
        self, keys: WorkflowKeys, head: RunHead, now_ms: int, *, identity: str = ""
    ) -> None:
        self.keys = keys
        self._head = head
        self._changes: dict[str, Any] = {}
        self._next_event_id = head.next_event_id
        self.now_ms = max(now_ms, head.last_ms)
        self.identity = identity
        self.events: list[ev.HistoryEvent] = []
        self._writes: dict[bytes, Write] = {}
        self.replies: list[PendingReply] = []
        self.activities_to_start: list[ev.ActivityTaskScheduled] = []
        self.activities_to_cancel: list[int] = []
        self.activities_to_restart: list[int] = []
        self.successor: RunHead | None = None
        self.successor_events: list[ev.HistoryEvent] = []
        self._first_event_id = head.next_event_id
        self._segment: bytes | None = None  # the encoded events

    @property
    def head(self) -> RunHead:
        """The head after all changes."""
        if self._changes:  # applied together, because each application copies 30 fields
            values = list(self._head)
            for name, value in self._changes.items():
                values[_FIELD_INDEX[name]] = value
            self._head = RunHead._make(values)
            self._changes.clear()
        return self._head

    @property
    def pending_activities(self) -> tuple[int, ...]:
        """The same as ``head.activities``, but faster."""
        pending: tuple[int, ...] = self._changes.get("activities", self._head.activities)
        return pending

    @property
    def is_empty(self) -> bool:
        """Whether nothing would be written."""
        return not (self.events or self._writes)

    def add(self, attributes: ev.Attributes) -> ev.HistoryEvent:
        """Append one event."""
        event = ev.HistoryEvent(self._next_event_id, self.now_ms, attributes)
        self.events.append(event)
        self._next_event_id += 1
        self._changes["next_event_id"] = self._next_event_id
        self._changes["last_ms"] = self.now_ms
        return event

    def change(self, **fields: Any) -> None:  # noqa: ANN401 - the fields of RunHead
        """Change fields of the head."""
        self._changes.update(fields)

    def put(self, write: Write) -> None:
        """Add a write, in place of an earlier write of the same key."""
        self._writes[write.key if isinstance(write, Put) else write.start] = write

    def send(self, workflow_id: str, message: Message) -> None:
        """Put a message into an execution's inbox."""
        key = self.keys.inbox(workflow_id, new_id(self.now_ms, len(self._writes)))
        self.put(Put(key, encode_message(message)))

    def delete_attempt(self, activity_id: int) -> None:
        """Delete the stored attempt of an activity."""
        head = self.head
        self.put(Delete(self.keys.attempt(head.workflow_id, head.run_id, activity_id)))

    def close(self, closure: RunClosure) -> None:
        """Close the run: notify its parent, and apply the close policy of each child."""
        head = self.head
        if head.parent is not None and closure.status is not ExecutionStatus.CONTINUED_AS_NEW:
            ended = head._replace(
                status=closure.status, result=closure.result, failure=closure.failure
            )
            self.send(head.parent.workflow_id, child_end_of(ended, head.parent))
        reason = f"its parent {head.workflow_id} is {closure.status.value}"
        for child in head.children:
            # The run id of a child is unknown until the child reports its start. The message then
            # names the runs that may have started the child.
            parents = () if child.run_id else (head.run_id, *head.bases)
            if child.policy is ParentClosePolicy.TERMINATE:
                terminate = Terminate(reason, run_id=child.run_id, parents=parents)
                self.send(child.workflow_id, terminate)
            elif child.policy is ParentClosePolicy.REQUEST_CANCEL:
                cancel = RequestCancel(reason, run_id=child.run_id, parents=parents)
                self.send(child.workflow_id, cancel)
        self.activities_to_cancel.extend(head.activities)
        self.change(
            status=closure.status,
            result=closure.result,
            failure=closure.failure,
            reason=closure.reason,
            new_run_id=closure.new_run_id,
            closed_ms=self.now_ms,
            due=False,
            activities=(),
            timers=(),
            children=(),
        )

    def encode(self) -> None:
        """Encode the new events, and add their size to the head's ``history_bytes``."""
        if self._segment is None and self.events:
            self._segment = encode_history(self.events)
            self.change(history_bytes=self._head.history_bytes + len(self._segment))

    @property
    def large_events(self) -> list[tuple[ev.HistoryEvent, int]]:
        """Events of at least ``PAYLOAD_WARN_BYTES``, each with its size in bytes."""
        if len(self._segment or b"") < PAYLOAD_WARN_BYTES:
            return []
        sizes = ((event, len(encode_event(event))) for event in self.events)
        return [(event, size) for event, size in sizes if size >= PAYLOAD_WARN_BYTES]

    @property
    def size(self) -> tuple[int, int]:
        """The number of writes of the transaction, and their bytes."""
        self.encode()
        sizes = (len(write.value) for write in self._writes.values() if isinstance(write, Put))
        return len(self._writes), sum(sizes) + len(self._segment or b"")

    def guards(self, fence: Unchanged, revision: int) -> list[Guard]:
        """Guards that fail if the shard has another owner or the head is not at ``revision``."""
        return [fence, Unchanged(self.keys.open(self.head.workflow_id), revision)]

    def writes(self) -> list[Write]:
        """All writes of the transaction."""
        self.encode()
        head, keys = self.head, self.keys
        writes = list(self._writes.values())
        if self._segment is not None:
            writes.append(
                Put(keys.event(head.workflow_id, head.run_id, self._first_event_id), self._segment)
            )
        opened = keys.open(head.workflow_id)
        if head.is_open:
            writes.append(Put(opened, HEAD_CODEC.encode(head)))
            return writes
        writes.append(Put(keys.closed(head.workflow_id, head.run_id), HEAD_CODEC.encode(head)))
        if self.successor is None:
            writes.append(Delete(opened))
            return writes
        successor = self.successor
        segment = encode_history(self.successor_events)
        writes.append(Put(opened, HEAD_CODEC.encode(successor)))
        writes.append(Put(keys.event(successor.workflow_id, successor.run_id, 1), segment))
        return writes


def child_end_of(head: RunHead, parent: ev.ParentRef) -> ChildEvent:
    """The report of a closed run to its parent."""
    return ChildEvent(
        parent.child_id,
        head.run_id,
        head.status,
        result=head.result,
        failure=head.failure,
        parent_run_id=parent.run_id,
        workflow_id=head.workflow_id,
    )


class ExecutionStore(NamedTuple):
    """The store of a session. Reads use ``kv``, and writes use ``committer``."""

    kv: KeyValueStore
    keys: WorkflowKeys
    committer: Committer
    clock: Clock
    faults: WorkerFaults
    identity: str

    def draft(self, head: RunHead, now_ms: int | None = None) -> HistoryDraft:
        """A new draft for the run of ``head``. ``now_ms`` defaults to the clock's time."""
        at_ms = self.clock.now_ms() if now_ms is None else now_ms
        return HistoryDraft(self.keys, head, at_ms, identity=self.identity)

    async def history(self, head: RunHead) -> list[HistoryEvent]:
        """All events of a run. Raises UnusableValue, StoreUnavailable."""
        return await read_whole_history(self.kv, self.keys, head)
