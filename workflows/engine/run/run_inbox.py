"""The inbox of one execution: what its next workflow tasks record in its history.

A step of the execution takes a batch that fits into one transaction of etcd, with the commands of
its workflow task. The code runs only when all signals and other messages, except queries and
updates, are recorded (``InboxBatch.is_whole``), so that no run closes before they are in its
history. Queries and updates are taken after all other messages.
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

BATCH_MAX = 24
"""Messages of one batch, and outcomes of activities; each needs up to two writes."""

BATCH_BYTES_MAX = 128 * 1024
"""Bytes of the messages of one batch, and of its outcomes; a single one may be larger."""

T = TypeVar("T")


class InboxBatch(NamedTuple):
    """The input of one step. ``signal_revision``: the revision of the newest signal it may include.

    ``fired``: ids of timers that are due, and timeouts of the run as negative milliseconds.
    ``is_whole`` False: the inbox has more messages, which are recorded before the code runs.
    """

    messages: list[InboxMessage]
    outcomes: list[ActivityOutcome]
    fired: list[int]
    signal_revision: int
    is_whole: bool = True


class RunInbox:
    """Messages, outcomes of activities and fired timers, each in order of arrival."""

    def __init__(self) -> None:
        self.messages: list[InboxMessage] = []
        self.outcomes: list[ActivityOutcome] = []
        self.fired: list[int] = []

    def __bool__(self) -> bool:
        return bool(self.messages or self.outcomes or self.fired)

    def take_reset(self) -> InboxMessage | None:
        """Remove and return a reset request, which precedes everything else; None without one."""
        if not self.messages:
            return None
        reset = next(
            (message for message in self.messages if isinstance(message.body, Reset)), None
        )
        if reset is not None:
            self.messages.remove(reset)
        return reset

    def take(self, signal_revision: int) -> InboxBatch:
        """Remove and return the next batch."""
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
        """Put a batch back whose step was not committed."""
        self.messages = batch.messages + self.messages
        self.outcomes = batch.outcomes + self.outcomes
        self.fired = batch.fired + self.fired

    def put_back_reset(self, message: InboxMessage) -> None:
        """Put a reset back that was not committed."""
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


def _split(arrived: Sequence[T], size: Callable[[T], int]) -> tuple[list[T], list[T]]:
    """The first items within the limits, at least one, and the rest."""
    if len(arrived) <= 1:
        return list(arrived), []
    total = 0
    for index, item in enumerate(arrived):
        total += size(item)
        if index and (index == BATCH_MAX or total > BATCH_BYTES_MAX):
            return list(arrived[:index]), list(arrived[index:])
    return list(arrived), []
