"""The inbox of one execution: the inputs of its next steps, and the replies to its callers.

A step processes one batch, because etcd limits the size of a transaction. Workflow code runs only
when the rest of the inbox has only queries and updates: otherwise a run could close with messages
left.
Replies are not part of the group commit: the expired lease of one caller would fail the whole
transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

from core.errors import StoreError, UnusableValue
from core.eventstore.kv import Absent, Delete, KeyValueStore, Put
from workflows.engine.run.received_events import (
    ActivityOutcome,
    record_message,
    record_outcome,
    record_timeout,
    record_timer_fired,
)
from workflows.engine.store.draft import ExecutionStore, HistoryDraft, PendingReply
from workflows.engine.store.keys import WorkflowKeys, shard_of
from workflows.engine.store.records import (
    REPLY_CODEC,
    InboxMessage,
    Query,
    Reply,
    Reset,
    RunHead,
    Update,
)
from workflows.model import limits
from workflows.model.commands import UpdateRejection, UpdateRequest
from workflows.model.events import (
    WorkflowExecutionUpdateAccepted,
    WorkflowExecutionUpdateCompleted,
)
from workflows.model.failures import Failure, FailureKind
from workflows.model.payloads import payload_bytes
from workflows.model.policies import ExecutionStatus, UpdateStage

BATCH_MAX = 24
"""Items of each kind in a batch: queries and updates, other messages, activity outcomes."""

BATCH_BYTES_MAX = 128 * 1024
"""Bytes of the items of each kind; a single item may be larger."""

T = TypeVar("T")


class InboxBatch(NamedTuple):
    """The input of one step.

    ``fired``: ids of timers that are due, and deadlines of the run as negative Unix milliseconds.
    ``signal_revision``: the last known revision of the signal fence.
    ``is_whole``: the rest of the inbox has only queries and updates.
    """

    messages: list[InboxMessage]
    outcomes: list[ActivityOutcome]
    fired: list[int]
    signal_revision: int
    is_whole: bool = True


class RunInbox:
    """The inputs of one execution, in order of arrival."""

    def __init__(self) -> None:
        self.messages: list[InboxMessage] = []
        self.outcomes: list[ActivityOutcome] = []
        self.fired: list[int] = []

    def __bool__(self) -> bool:
        return bool(self.messages or self.outcomes or self.fired)

    def take_reset(self) -> InboxMessage | None:
        """Remove and return the first reset request, or None. Call it before ``take``."""
        if not self.messages:
            return None
        reset = next(
            (message for message in self.messages if isinstance(message.body, Reset)), None
        )
        if reset is not None:
            self.messages.remove(reset)
        return reset

    def take(self, signal_revision: int) -> InboxBatch:
        """Remove and return the next batch. Queries and updates come after all other messages."""
        calls = [message for message in self.messages if _is_call(message)]
        others = [message for message in self.messages if not _is_call(message)]
        batch_others, later_others = _split(others, lambda message: message.size)
        batch_calls: list[InboxMessage] = []
        if not later_others:
            batch_calls, calls = _split(calls, lambda message: message.size)
        outcomes, later_outcomes = _split(self.outcomes, payload_bytes)
        batch = InboxBatch(
            [*batch_others, *batch_calls],
            outcomes,
            self.fired,
            signal_revision,
            is_whole=not later_others,
        )
        self.messages, self.outcomes, self.fired = [*later_others, *calls], later_outcomes, []
        return batch

    def put_back(self, batch: InboxBatch) -> None:
        """Put back an uncommitted batch."""
        self.messages = batch.messages + self.messages
        self.outcomes = batch.outcomes + self.outcomes
        self.fired = batch.fired + self.fired

    def put_back_reset(self, message: InboxMessage) -> None:
        """Put back an uncommitted reset."""
        self.messages.insert(0, message)

    def take_messages(self) -> list[InboxMessage]:
        """Remove and return all messages."""
        messages, self.messages = self.messages, []
        return messages


def record_batch(
    store: ExecutionStore, head: RunHead, batch: InboxBatch, now_ms: int
) -> HistoryDraft:
    """Draft the events of ``batch``. Removes unusable messages from ``batch``."""
    while True:
        draft = store.draft(head, now_ms)
        unusable = _record_messages(store, draft, batch.messages)
        if unusable is None:
            break
        batch.messages.remove(unusable)
    for outcome in batch.outcomes:
        record_outcome(draft, outcome)
    for number in batch.fired:
        if number > 0:
            record_timer_fired(draft, number)
        else:
            record_timeout(draft, -number)
    return draft


def _record_messages(
    store: ExecutionStore, draft: HistoryDraft, messages: Sequence[InboxMessage]
) -> InboxMessage | None:
    """Record messages, up to one that cannot be recorded; return that message, or None."""
    for message in messages:
        draft.put(Delete(message.key))
        try:
            if draft.head.is_open:
                record_message(draft, message.body)
        except Exception as error:  # noqa: BLE001 - reported; the other messages are recorded
            why = f"it cannot be recorded: {type(error).__name__}: {error}"
            shard = shard_of(draft.head.workflow_id)
            store.faults.note("message", message.key, why, UnusableValue.REMEDY, shard=shard)
            return message
    return None


def _is_call(message: InboxMessage) -> bool:
    return isinstance(message.body, Query | Update)


def _split(items: Sequence[T], size: Callable[[T], int]) -> tuple[list[T], list[T]]:
    """Return the first items within the limits (at least one), and the rest."""
    if len(items) <= 1:
        return list(items), []
    total = 0
    for index, item in enumerate(items):
        total += size(item)
        if index and (index == BATCH_MAX or total > BATCH_BYTES_MAX):
            return list(items[:index]), list(items[index:])
    return list(items), []


def rejection(why: str, kind: str = "Refused") -> Reply:
    """The reply to a query or update that was not executed."""
    failure = Failure(FailureKind.APPLICATION, why, kind)
    return Reply(failure=failure, rejected=True)


class ReplyWriter:
    """Writes replies in the background."""

    def __init__(self, store: KeyValueStore, keys: WorkflowKeys) -> None:
        self._store = store
        self._keys = keys
        self.tasks: set[asyncio.Task[None]] = set()

    def write(self, pending: PendingReply) -> None:
        """Write a reply, which expires with the caller's lease; without a lease, do nothing."""
        if pending.lease:
            task = asyncio.ensure_future(self._write(pending))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _write(self, pending: PendingReply) -> None:
        key = self._keys.reply(pending.message_id)
        # Replies are written concurrently: "accepted" must not replace a result.
        guards = [Absent(key)] if pending.reply.accepted else []
        with suppress(StoreError):  # the caller finds the result of an update in the history
            await self._store.commit(
                guards, [Put(key, REPLY_CODEC.encode(pending.reply), pending.lease)]
            )


class UpdateCaller(NamedTuple):
    """The caller of an update, who waits for ``stage``."""

    message_id: str
    lease: int
    stage: UpdateStage


class Updates:
    """The updates of one run that have no result yet."""

    def __init__(self) -> None:
        self._callers: dict[str, UpdateCaller] = {}

    def clear(self) -> None:
        """Remove the callers of a closed run."""
        self._callers.clear()

    def requests(
        self, messages: Sequence[InboxMessage], draft: HistoryDraft
    ) -> list[UpdateRequest]:
        """The updates for the next workflow task. Rejects updates beyond a limit."""
        if not messages:
            return []
        requests: dict[str, UpdateRequest] = {}
        for message in messages:
            update = message.body
            if not isinstance(update, Update):
                continue
            if update.update_id in draft.head.updates or update.update_id in requests:
                continue
            self._callers.pop(update.update_id, None)  # an uncommitted task left a caller
            why = self._reason_to_reject(draft.head, len(requests))
            if why:
                draft.replies.append(PendingReply(message.message_id, update.lease, rejection(why)))
                continue
            caller = UpdateCaller(message.message_id, update.lease, update.stage)
            self._callers[update.update_id] = caller
            requests[update.update_id] = UpdateRequest(
                update.update_id, update.name, update.args, update.identity, update.traceparent
            )
        return list(requests.values())

    def add_replies(self, draft: HistoryDraft, rejections: Sequence[UpdateRejection]) -> None:
        """Add the replies of a workflow task to its draft."""
        for rejected in rejections:
            self._reply(draft, rejected.update_id, Reply(None, rejected.failure, rejected=True))
        if not self._callers:
            return
        for event in draft.events:
            completed = event.attributes
            if isinstance(completed, WorkflowExecutionUpdateCompleted):
                reply = Reply(completed.result, completed.failure)
                self._reply(draft, completed.update_id, reply)
        for event in draft.events:
            accepted = event.attributes
            if isinstance(accepted, WorkflowExecutionUpdateAccepted):
                caller = self._callers.get(accepted.update_id)
                if caller is not None and caller.stage is UpdateStage.ACCEPTED:
                    reply = Reply(accepted=True)
                    draft.replies.append(PendingReply(caller.message_id, caller.lease, reply))

    def _reply(self, draft: HistoryDraft, update_id: str, reply: Reply) -> None:
        caller = self._callers.pop(update_id, None)
        if caller is not None:
            draft.replies.append(PendingReply(caller.message_id, caller.lease, reply))

    def _reason_to_reject(self, head: RunHead, accepted_in_task: int) -> str:
        """Return "" to accept the update."""
        if head.status is not ExecutionStatus.RUNNING:
            return f"the execution is {head.status.value}"
        in_flight, limit = len(self._callers), limits.UPDATES_IN_FLIGHT_MAX
        if in_flight >= limit:
            return (
                f"{in_flight} updates are in flight, UPDATES_IN_FLIGHT_MAX is {limit}: "
                "wait for the results of some updates first"
            )
        accepted, limit = len(head.updates) + accepted_in_task, limits.UPDATES_MAX
        if accepted >= limit:
            return (
                f"the run has accepted {accepted} updates, UPDATES_MAX is {limit}: "
                "it should continue as new"
            )
        return ""
