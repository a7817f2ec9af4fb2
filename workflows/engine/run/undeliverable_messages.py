"""Messages to an id without an open run: refused, told so, or answered from a closed run."""

from __future__ import annotations

from core.errors import ExecutionNotFound
from core.eventstore.kv import Delete, Put, Unchanged
from workflows.engine.run.call_replies import refusal, write_reply
from workflows.engine.run.run_interpreter import WorkflowCode
from workflows.engine.store.draft import PendingReply
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
from workflows.engine.worker.interpreter_cache import WorkerContext
from workflows.model.errors import WorkflowError
from workflows.model.policies import ExecutionStatus, IdReusePolicy

NO_RUN = "there is no open execution of that id"


def reuse_allowed(policy: IdReusePolicy, last: ExecutionStatus | None) -> bool:
    """Whether an id may be used again after a run that closed like this; None: there was none."""
    if last is None or policy is IdReusePolicy.ALLOW_DUPLICATE:
        return True
    if policy is IdReusePolicy.REJECT_DUPLICATE:
        return False
    return last not in {ExecutionStatus.COMPLETED, ExecutionStatus.CONTINUED_AS_NEW}


async def may_start(desk: WorkerContext, start: Start) -> bool:
    """Whether the closed runs of an id allow a child under it. Raises StoreUnavailable."""
    if start.reuse is IdReusePolicy.ALLOW_DUPLICATE:
        return True
    _, closed = await read_heads(desk.store, desk.keys, start.started.workflow_id)
    return reuse_allowed(start.reuse, closed[-1].status if closed else None)


async def answer_stranger(
    desk: WorkerContext, fence: Unchanged, letter: InboxMessage
) -> InboxMessage | None:
    """Take the message away and tell its sender; a reset of a closed run is handed back."""
    message = letter.message
    _, workflow_id, _ = desk.keys.inbox_name(letter.key)
    if isinstance(message, Reset):
        return letter
    if isinstance(message, Query):
        reply = await _ask_closed(desk, workflow_id, message)
        write_reply(desk, PendingReply(letter.name, message.lease, reply))
    elif isinstance(message, Update):
        write_reply(desk, PendingReply(letter.name, message.lease, refusal(NO_RUN)))
    writes: list[Delete | Put] = [Delete(letter.key)]
    told = _told(message)
    if told is not None:
        receiver, news = told
        key = desk.keys.inbox(receiver, new_id(desk.clock.now_ms()))
        writes.append(Put(key, encode_message(news)))
    await desk.committer.propose([fence], writes)
    return None


def _told(message: Message) -> tuple[str, Message] | None:
    match message:
        case Start() if message.started.parent is not None:
            parent = message.started.parent
            why = f"the id {message.started.workflow_id} is taken"
            news = ChildEvent(
                parent.child_id,
                "",
                ExecutionStatus.FAILED,
                why,
                parent_run_id=parent.run_id,
                workflow_id=message.started.workflow_id,
            )
            return parent.workflow_id, news
        case Signal(sender=Sender() as sender):
            return sender.workflow_id, ExternalEvent(
                sender.request_id, "signal", NO_RUN, sender.run_id
            )
        case RequestCancel(sender=Sender() as sender):
            return sender.workflow_id, ExternalEvent(
                sender.request_id, "cancel", NO_RUN, sender.run_id
            )
    return None


async def _ask_closed(desk: WorkerContext, workflow_id: str, query: Query) -> Reply:
    """A closed run answers as it was in the end."""
    code = WorkflowCode(desk)
    try:
        head = await find_run(desk.store, desk.keys, workflow_id)
        await code.bring_up(head)
        return Reply(code.query(query.name, query.args))
    except (ExecutionNotFound, WorkflowError) as error:
        return refusal(str(error), type(error).__name__)
    finally:
        code.drop()
