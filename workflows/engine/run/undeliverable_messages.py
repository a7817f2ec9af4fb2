"""Undeliverable messages are deleted, and their senders notified.

A message is undeliverable if its receiver has no open run. A child's start is undeliverable if the
child's id has an open run, or if the reuse policy forbids another one.
"""

from __future__ import annotations

from core.errors import ExecutionNotFound
from core.eventstore.kv import Delete, Put, Unchanged
from workflows.engine.run.run_inbox import ReplyWriter, rejection
from workflows.engine.run.run_interpreter import InterpreterParts, RunInterpreter
from workflows.engine.store.draft import ExecutionStore, PendingReply
from workflows.engine.store.history_reader import find_run, read_heads
from workflows.engine.store.keys import new_id
from workflows.engine.store.records import (
    ChildEvent,
    ExternalEvent,
    InboxMessage,
    Message,
    Query,
    Reply,
    RequestCancel,
    Reset,
    Sender,
    Signal,
    Start,
    Update,
    encode_message,
)
from workflows.model.errors import WorkflowError
from workflows.model.policies import ExecutionStatus, IdReusePolicy

NO_RUN = "there is no open execution of that id"


def reuse_allowed(policy: IdReusePolicy, last: ExecutionStatus | None) -> bool:
    """Whether an id may be used again after a run with status ``last``; None: there was no run."""
    if last is None or policy is IdReusePolicy.ALLOW_DUPLICATE:
        return True
    if policy is IdReusePolicy.REJECT_DUPLICATE:
        return False
    return last not in {ExecutionStatus.COMPLETED, ExecutionStatus.CONTINUED_AS_NEW}


async def may_start(store: ExecutionStore, start: Start) -> bool:
    """Whether the reuse policy of ``start`` allows a new run. Raises StoreUnavailable."""
    if start.reuse is IdReusePolicy.ALLOW_DUPLICATE:
        return True
    _, closed = await read_heads(store.kv, store.keys, start.started.workflow_id)
    return reuse_allowed(start.reuse, closed[-1].status if closed else None)


class UndeliverableMessages:
    """Deletes undeliverable messages, and notifies their senders."""

    def __init__(
        self, store: ExecutionStore, interpreter_parts: InterpreterParts, replies: ReplyWriter
    ) -> None:
        self._store = store
        self._interpreter_parts = interpreter_parts
        self._replies = replies

    async def reject(self, fence: Unchanged, message: InboxMessage) -> bool:
        """Delete the message and notify its sender; returns True.

        A query is answered from the newest closed run. For a reset, returns False and changes
        nothing: the shard executes resets. Raises SessionLost, StoreUnavailable.
        """
        store, body = self._store, message.body
        _, workflow_id, _ = store.keys.inbox_parts(message.key)
        if isinstance(body, Reset):
            return False
        if isinstance(body, Query):
            reply = await self._query_closed(workflow_id, body)
            self._replies.write(PendingReply(message.message_id, body.lease, reply))
        elif isinstance(body, Update):
            reply = rejection(NO_RUN)
            self._replies.write(PendingReply(message.message_id, body.lease, reply))
        writes: list[Delete | Put] = [Delete(message.key)]
        notification = _notification(body)
        if notification is not None:
            receiver, event = notification
            key = store.keys.inbox(receiver, new_id(store.clock.now_ms()))
            writes.append(Put(key, encode_message(event)))
        await store.committer.propose([fence], writes)
        return True

    async def _query_closed(self, workflow_id: str, query: Query) -> Reply:
        interpreter = RunInterpreter(self._store, self._interpreter_parts)
        try:
            head = await find_run(self._store.kv, self._store.keys, workflow_id)
            await interpreter.load(head)
            return Reply(interpreter.query(query.name, query.args))
        except (ExecutionNotFound, WorkflowError) as error:
            return rejection(str(error), type(error).__name__)
        finally:
            interpreter.drop()


def _notification(body: Message) -> tuple[str, Message] | None:
    """The receiver and the notification; None if no execution is notified."""
    match body:
        case Start() if body.started.parent is not None:
            parent = body.started.parent
            why = (
                f"the id {body.started.workflow_id} has an open run, or its reuse policy forbids"
                " another one"
            )
            event = ChildEvent(
                parent.child_id,
                run_id="",
                status=ExecutionStatus.FAILED,
                refused=why,
                parent_run_id=parent.run_id,
                workflow_id=body.started.workflow_id,
            )
            return parent.workflow_id, event
        case Signal(sender=Sender() as sender):
            return sender.workflow_id, ExternalEvent(
                sender.request_id, "signal", NO_RUN, sender.run_id
            )
        case RequestCancel(sender=Sender() as sender):
            return sender.workflow_id, ExternalEvent(
                sender.request_id, "cancel", NO_RUN, sender.run_id
            )
    return None
