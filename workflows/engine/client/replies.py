"""Waits for the replies to a client's queries and updates.

A worker writes the reply to a key of the message. If the worker dies first, only the history has
the result of an update, so callers also poll the history.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

from core.errors import CallRejected, Compacted
from core.eventstore.kv import KeyValueStore, watch_value
from core.process.retry import Backoff
from workflows.engine.run.run_inbox import rejection
from workflows.engine.store.history_reader import read_heads, read_history
from workflows.engine.store.keys import WorkflowKeys
from workflows.engine.store.records import REPLY_CODEC, Reply, RunHead
from workflows.model.events import HistoryEvent, WorkflowExecutionUpdateCompleted
from workflows.model.failures import error_of
from workflows.model.payloads import Payload
from workflows.model.policies import UpdateStage

POLL_S = 1.0
POLL_S_MAX = 15.0
"""The longest pause between polls; ``POLL_S`` is the first."""

CLOSED_BEFORE: Final = "the execution closed before the update reached it"

Poll = Callable[[], Awaitable[Reply | None]]


async def await_reply(
    store: KeyValueStore,
    keys: WorkflowKeys,
    message_id: str | None,
    *,
    poll: Poll | None = None,
    to_completion: bool = False,
) -> Reply:
    """Wait for the reply to ``message_id``, or for a reply that ``poll`` finds. Has no timeout.

    ``to_completion``: ignore the reply that an update was accepted. Raises StoreUnavailable.
    """
    tasks = []
    if message_id is not None:
        reply = _watch_reply(store, keys.reply(message_id), to_completion=to_completion)
        tasks.append(asyncio.ensure_future(reply))
    if poll is not None:
        tasks.append(asyncio.ensure_future(_poll_history(poll)))
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for task in tasks:
            task.cancel()


def result_of(reply: Reply, workflow_id: str, call: str) -> Payload:
    """The result in a reply. ``call``: the request in words, such as "query 'status'".

    Raises CallRejected, or the failure of the handler.
    """
    if reply.rejected:
        assert reply.failure is not None, "a rejection has a failure"
        raise CallRejected(
            f"workflow {workflow_id} rejected {call}: {reply.failure.message}", subject=workflow_id
        )
    if reply.failure is not None:
        raise error_of(reply.failure)
    return reply.result


async def recorded_update(
    store: KeyValueStore,
    keys: WorkflowKeys,
    workflow_id: str,
    update_id: str,
    stage: UpdateStage = UpdateStage.COMPLETED,
) -> Reply | None:
    """Read the reply to an update from the history; None before the update reaches ``stage``.

    The reply is a rejection if no run has the update and no run is open. Raises StoreUnavailable.
    """
    opened, closed = await read_heads(store, keys, workflow_id)
    head = _newest_run_with(update_id, opened, closed)
    if head is not None:
        return await _reply_in_run(store, keys, head, update_id, stage)
    return None if opened is not None else rejection(CLOSED_BEFORE)


async def earlier_update(
    store: KeyValueStore,
    keys: WorkflowKeys,
    workflow_id: str,
    update_id: str,
    stage: UpdateStage = UpdateStage.COMPLETED,
) -> Reply | None:
    """As ``recorded_update``, but None instead of a rejection if no run has the update."""
    head = _newest_run_with(update_id, *await read_heads(store, keys, workflow_id))
    return None if head is None else await _reply_in_run(store, keys, head, update_id, stage)


def _newest_run_with(
    update_id: str, opened: RunHead | None, closed: Sequence[RunHead]
) -> RunHead | None:
    heads = [*closed, *([opened] if opened is not None else [])]
    return next((head for head in reversed(heads) if update_id in head.updates), None)


async def _reply_in_run(
    store: KeyValueStore, keys: WorkflowKeys, head: RunHead, update_id: str, stage: UpdateStage
) -> Reply | None:
    """Read the reply from one run; None before the update reaches ``stage``."""
    reply = _outcome(await read_history(store, keys, head.workflow_id, head.run_id), update_id)
    if reply is None and not head.is_open:
        return rejection(f"the run is {head.status.value}, and the update did not complete")
    if reply is None and stage is not UpdateStage.COMPLETED:
        return Reply(accepted=True)
    return reply


def _outcome(history: Sequence[HistoryEvent], update_id: str) -> Reply | None:
    for event in reversed(history):
        completed = event.attributes
        if not isinstance(completed, WorkflowExecutionUpdateCompleted):
            continue
        if completed.update_id == update_id:
            return Reply(completed.result, completed.failure)
    return None


async def _watch_reply(store: KeyValueStore, key: bytes, *, to_completion: bool) -> Reply:
    while True:
        # The archiver may compact the revision at which a new watch starts: watch again.
        with suppress(Compacted):
            async for value in watch_value(store, key):
                reply = REPLY_CODEC.decode(value) if value is not None else None
                if reply is not None and not (reply.accepted and to_completion):
                    return reply


async def _poll_history(poll: Poll) -> Reply:
    backoff = Backoff(POLL_S, POLL_S_MAX)
    while True:
        await backoff.wait()
        reply = await poll()
        if reply is not None:
            return reply
