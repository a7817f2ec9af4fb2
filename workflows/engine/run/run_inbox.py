"""What has reached an execution and is not in its history yet: the queue of its workflow tasks.

A workflow task takes a batch: what one transaction of etcd holds, with room for its commands. While
signals and other messages except queries and updates are not recorded, the code does not run
(``InboxBatch.is_whole``), so a run never closes before they are in its history. Queries and updates
are taken after all other messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from core.errors import UnusableValue
from core.eventstore.kv import Delete
from workflows.engine.run.received_events import (
    ActivityOutcome,
    record_message,
    record_outcome,
    record_timeout,
    record_timer_fired,
)
from workflows.engine.store.draft import ExecutionStore, HistoryDraft
from workflows.engine.store.keys import shard_of
from workflows.engine.store.records import InboxMessage, Query, Reset, RunHead, Update
from workflows.model.payloads import payload_bytes

PORTION_MAX = 24
"""Messages of one step, and as many outcomes of activities; each may cost two writes."""

PORTION_BYTES_MAX = 128 * 1024
"""Bytes of one step's messages, and as many of its outcomes; a single one may be larger."""

T = TypeVar("T")


class InboxBatch(NamedTuple):
    """What one step processes; ``signal_revision``: that of the newest signal it may include.

    ``fired``: ids of timers that are due, and timeouts of the run as negative milliseconds.
    ``is_whole`` False: more messages wait, which must be recorded before the code runs.
    """

    messages: list[InboxMessage]
    outcomes: list[ActivityOutcome]
    fired: list[int]
    signal_revision: int
    is_whole: bool = True


class RunInbox:
    """In order of arrival."""

    def __init__(self) -> None:
        self.messages: list[InboxMessage] = []
        self.outcomes: list[ActivityOutcome] = []
        self.fired: list[int] = []

    def __bool__(self) -> bool:
        return bool(self.messages or self.outcomes or self.fired)

    def take_reset(self) -> InboxMessage | None:
        """A reset request, which comes before everything else."""
        reset = next(
            (message for message in self.messages if isinstance(message.body, Reset)), None
        )
        if reset is not None:
            self.messages.remove(reset)
        return reset

    def take(self, signal_revision: int) -> InboxBatch:
        """The next portion."""
        calls = [message for message in self.messages if _is_call(message)]
        others = [message for message in self.messages if not _is_call(message)]
        taken, left = _portion(others, lambda message: message.size)
        taken_calls, left_calls = (
            ([], calls) if left else _portion(calls, lambda message: message.size)
        )
        outcomes, left_outcomes = _portion(self.outcomes, payload_bytes)
        batch = InboxBatch(
            [*taken, *taken_calls], outcomes, self.fired, signal_revision, is_whole=not left
        )
        self.messages, self.outcomes, self.fired = [*left, *left_calls], left_outcomes, []
        return batch

    def put_back(self, batch: InboxBatch) -> None:
        """The step was not committed."""
        self.messages = batch.messages + self.messages
        self.outcomes = batch.outcomes + self.outcomes
        self.fired = batch.fired + self.fired

    def put_back_reset(self, message: InboxMessage) -> None:
        """The reset was not committed."""
        self.messages.insert(0, message)

    def take_messages(self) -> list[InboxMessage]:
        """Remove and return all messages, for the run that follows."""
        messages, self.messages = self.messages, []
        return messages


def record_batch(
    store: ExecutionStore, head: RunHead, batch: InboxBatch, now_ms: int
) -> HistoryDraft:
    """A draft with the events of a batch; removes messages from it that cannot be recorded."""
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
    """Record messages; returns one that cannot be recorded: it is listed and stays stored."""
    for message in messages:
        draft.put(Delete(message.key))
        try:
            if draft.head.is_open:
                record_message(draft, message.body)
        except Exception as error:  # noqa: BLE001 - listed; the other messages are recorded
            why = f"it cannot be recorded: {type(error).__name__}: {error}"
            shard = shard_of(draft.head.workflow_id)
            store.faults.note("message", message.key, why, UnusableValue.REMEDY, shard=shard)
            return message
    return None


def _is_call(message: InboxMessage) -> bool:
    return isinstance(message.body, Query | Update)


def _portion(arrived: Sequence[T], size: Callable[[T], int]) -> tuple[list[T], list[T]]:
    """The first items within the limits, at least one, and the rest."""
    if len(arrived) <= 1:
        return list(arrived), []
    total = 0
    for index, item in enumerate(arrived):
        total += size(item)
        if index and (index == PORTION_MAX or total > PORTION_BYTES_MAX):
            return list(arrived[:index]), list(arrived[index:])
    return list(arrived), []
