"""Queries and updates: calls of an execution that get an answer.

Replies lie under the caller's lease, so one that nobody fetches goes by itself.
Answers are written beside the group commit, for a caller's lease that is gone must spoil nothing.
A reply that is lost is no lost update: its caller finds the result in the history
(``call_results.recorded_update``), and so does whoever sends an update again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from core.errors import StoreError
from core.eventstore.kv import Put
from workflows.engine.store.draft import HistoryDraft, PendingReply
from workflows.engine.store.records import REPLY, InboxMessage, Reply, RunHead, Update
from workflows.engine.worker.interpreter_cache import WorkerContext
from workflows.model import limits
from workflows.model.commands import UpdateRejection, UpdateRequest
from workflows.model.events import WorkflowExecutionUpdateCompleted
from workflows.model.failures import Failure, FailureKind
from workflows.model.policies import ExecutionStatus


def refusal(why: str, kind: str = "Refused") -> Reply:
    """The answer to a call that the code was not asked."""
    failure = Failure(FailureKind.APPLICATION, why, kind)
    return Reply(failure=failure, rejected=True)


def write_reply(desk: WorkerContext, answer: PendingReply) -> None:
    """Answer a caller; one that is gone does not matter."""

    async def write() -> None:
        with suppress(StoreError):
            put = Put(desk.keys.reply(answer.message), REPLY.encode(answer.reply), answer.lease)
            await desk.store.commit([], [put])

    if answer.lease:
        task = asyncio.ensure_future(write())
        desk.background.add(task)
        task.add_done_callback(desk.background.discard)


class Updates:
    """The updates of one run that are on their way."""

    def __init__(self) -> None:
        self._callers: dict[str, tuple[str, int]] = {}

    def clear(self) -> None:
        """The run is closed: callers find it out."""
        self._callers.clear()

    def requests(self, letters: Sequence[InboxMessage], draft: HistoryDraft) -> list[UpdateRequest]:
        """What is to be validated; updates that cannot be asked now are answered."""
        found: dict[str, UpdateRequest] = {}
        for letter in letters:
            update = letter.message
            if not isinstance(update, Update) or update.update_id in (*draft.head.updates, *found):
                continue
            self._callers.pop(update.update_id, None)  # of a task whose transaction was lost
            why = self._refused(draft.head, len(found))
            if why:
                draft.answers.append(PendingReply(letter.name, update.lease, refusal(why)))
                continue
            self._callers[update.update_id] = (letter.name, update.lease)
            found[update.update_id] = UpdateRequest(
                update.update_id, update.name, update.args, update.identity
            )
        return list(found.values())

    def answer(self, draft: HistoryDraft, rejections: Sequence[UpdateRejection]) -> None:
        """Add the answers of a task to its draft."""
        for rejection in rejections:
            self._answer(draft, rejection.update_id, Reply(None, rejection.failure, rejected=True))
        for event in draft.events:
            done = event.attributes
            if isinstance(done, WorkflowExecutionUpdateCompleted):
                self._answer(draft, done.update_id, Reply(done.result, done.failure))

    def _answer(self, draft: HistoryDraft, update_id: str, reply: Reply) -> None:
        caller = self._callers.pop(update_id, None)
        if caller is not None:
            draft.answers.append(PendingReply(*caller, reply))

    def _refused(self, head: RunHead, before: int) -> str:
        """Why an update is not even asked, after ``before`` others of the same task."""
        if head.status is not ExecutionStatus.RUNNING:
            return f"the execution is {head.status.value}"
        flying, most = len(self._callers), limits.UPDATES_IN_FLIGHT_MAX
        if flying >= most:
            return f"{flying} are on their way, UPDATES_IN_FLIGHT_MAX is {most}: await some first"
        taken, most = len(head.updates) + before, limits.UPDATES_MAX
        if taken >= most:
            return f"the run has {taken}, UPDATES_MAX is {most}: it should continue as new"
        return ""
