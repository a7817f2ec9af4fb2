"""Waiting for the answer to a query or update: the caller's side.

An answer lies at the message's reply key. That of an update is in the history too, and only there
if its owner died between the two: so a caller that has no reply yet looks into the history now and
then. Reads only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from core.errors import CallRejected, Compacted
from core.eventstore.kv import Get, KeyValueStore
from workflows.engine.run.call_replies import refusal
from workflows.engine.store.history_reader import read_heads, read_history
from workflows.engine.store.keys import WorkflowKeys
from workflows.engine.store.records import REPLY, Reply
from workflows.model.events import HistoryEvent, WorkflowExecutionUpdateCompleted
from workflows.model.failures import error_of
from workflows.model.payloads import Payload

LOOK_S = 1.0
"""Between two looks into the history while there is no reply."""

Look = Callable[[], Awaitable[Reply | None]]


async def await_reply(
    store: KeyValueStore, keys: WorkflowKeys, message: str, *, after: int, look: Look | None = None
) -> Reply:
    """The reply to a message sent at revision ``after``, or what ``look`` finds before it comes.

    Waits without end; the caller has a deadline. Raises StoreUnavailable.
    """
    waiting = [asyncio.ensure_future(_replied(store, keys.reply(message), after))]
    if look is not None:
        waiting.append(asyncio.ensure_future(_found(look)))
    try:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for task in waiting:
            task.cancel()


def result_of(reply: Reply, workflow_id: str, name: str) -> Payload:
    """The value of a reply. Raises CallRejected, or the failure of the handler."""
    if reply.rejected:
        assert reply.failure is not None, "a rejection says why"
        raise CallRejected(
            f"{workflow_id} refuses {name}: {reply.failure.message}", subject=workflow_id
        )
    if reply.failure is not None:
        raise error_of(reply.failure)
    return reply.result


async def recorded_update(
    store: KeyValueStore, keys: WorkflowKeys, workflow_id: str, update_id: str
) -> Reply | None:
    """What the histories say of an update; None: it may still come. Raises StoreUnavailable."""
    opened, closed = await read_heads(store, keys, workflow_id)
    heads = [*closed, *([opened] if opened is not None else [])]
    head = next((each for each in reversed(heads) if update_id in each.updates), opened)
    if head is None:
        return refusal("the execution closed before the update reached it")
    if update_id not in head.updates:
        return None
    reply = _outcome(await read_history(store, keys, workflow_id, head.run_id), update_id)
    if reply is None and not head.is_open:
        return refusal(f"the run is {head.status.value}, and the update did not complete")
    return reply


def _outcome(history: Sequence[HistoryEvent], update_id: str) -> Reply | None:
    for event in reversed(history):
        done = event.attributes
        if isinstance(done, WorkflowExecutionUpdateCompleted) and done.update_id == update_id:
            return Reply(done.result, done.failure)
    return None


async def _replied(store: KeyValueStore, key: bytes, after: int) -> Reply:
    while True:
        # The log's archiver may compact the revision under a watch that has just begun.
        with suppress(Compacted):
            async for batch in store.watch([(key, key + b"\0")], after=after):
                for change in batch.changes:
                    if change.value is not None:
                        return REPLY.decode(change.value)
        result = await store.read([Get(key)])
        if result.ranges[0].kvs:
            return REPLY.decode(result.ranges[0].kvs[0].value)
        after = result.revision


async def _found(look: Look) -> Reply:
    while True:
        await asyncio.sleep(LOOK_S)
        reply = await look()
        if reply is not None:
            return reply
