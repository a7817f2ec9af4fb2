"""Replies to queries and updates.

A reply is written under the caller's lease, so that one that is not read expires. It is written
outside the group commit, where the expired lease of one caller would fail the transaction of all
others. A lost reply loses no update: its caller finds the result in the history
(``call_results.recorded_update``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from core.errors import StoreError
from core.eventstore.kv import Absent, KeyValueStore, Put
from workflows.engine.store.draft import HistoryDraft, PendingReply
from workflows.engine.store.keys import WorkflowKeys
from workflows.engine.store.records import REPLY, InboxMessage, Reply, RunHead, Update
from workflows.model import limits
from workflows.model.commands import UpdateRejection, UpdateRequest
from workflows.model.events import (
    WorkflowExecutionUpdateAccepted,
    WorkflowExecutionUpdateCompleted,
)
from workflows.model.failures import Failure, FailureKind
from workflows.model.policies import ExecutionStatus, UpdateStage


def rejection(why: str, kind: str = "Refused") -> Reply:
    """The reply to a call that was not executed."""
    failure = Failure(FailureKind.APPLICATION, why, kind)
    return Reply(failure=failure, rejected=True)


class ReplyWriter:
    """Writes replies in the background; ``tasks``: the writes that run."""

    def __init__(self, store: KeyValueStore, keys: WorkflowKeys) -> None:
        self._store = store
        self._keys = keys
        self.tasks: set[asyncio.Task[None]] = set()

    def write(self, pending: PendingReply) -> None:
        """Reply to a caller; a caller whose lease has expired gets none."""
        if pending.lease:
            task = asyncio.ensure_future(self._write(pending))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _write(self, pending: PendingReply) -> None:
        key = self._keys.reply(pending.message_id)
        # Replies are written at the same time: "accepted" must not replace a result.
        guards = [Absent(key)] if pending.reply.accepted else []
        with suppress(StoreError):
            await self._store.commit(guards, [Put(key, REPLY.encode(pending.reply), pending.lease)])


class UpdateCaller(NamedTuple):
    """Where the reply to an update goes; ``stage``: as in ``Update``."""

    message_id: str
    lease: int
    stage: UpdateStage


class Updates:
    """The updates of one run that have no result yet."""

    def __init__(self) -> None:
        self._callers: dict[str, UpdateCaller] = {}

    def clear(self) -> None:
        """Forget all callers: the run is closed, and they read its history."""
        self._callers.clear()

    def requests(
        self, messages: Sequence[InboxMessage], draft: HistoryDraft
    ) -> list[UpdateRequest]:
        """The updates for the next workflow task; those beyond a limit are rejected."""
        if not messages:
            return []
        requests: dict[str, UpdateRequest] = {}
        for message in messages:
            update = message.body
            if not isinstance(update, Update):
                continue
            if update.update_id in draft.head.updates or update.update_id in requests:
                continue
            self._callers.pop(update.update_id, None)  # from a task whose transaction was lost
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

    def _reason_to_reject(self, head: RunHead, in_this_task: int) -> str:
        """Why an update is rejected after ``in_this_task`` others of the same task; "" if not."""
        if head.status is not ExecutionStatus.RUNNING:
            return f"the execution is {head.status.value}"
        in_flight, limit = len(self._callers), limits.UPDATES_IN_FLIGHT_MAX
        if in_flight >= limit:
            return (
                f"{in_flight} updates are in flight, UPDATES_IN_FLIGHT_MAX is {limit}: await some"
            )
        accepted, limit = len(head.updates) + in_this_task, limits.UPDATES_MAX
        if accepted >= limit:
            return (
                f"the run has accepted {accepted} updates, UPDATES_MAX is {limit}: "
                "it should continue as new"
            )
        return ""
