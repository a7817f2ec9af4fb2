"""The writer: appends events to the log and writes the new state in the same transaction.

While one transaction is in flight, new appends wait for the next
(``core.eventstore.group_commit``).

An append returns ``Committed`` only if the events are in etcd, and ``Lost`` only if they never will
be (I9, docs/contributing/architecture.md). If etcd's answer is lost, the writer rewrites the head,
so that a transaction still in flight fails, and reads the outcome.

A process that opens the writer's name changes the epoch in the head. This fences the process that
had the name before: all its transactions fail.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from core.errors import (
    LogCorrupt,
    NotReady,
    OutcomeUnknown,
    StoreFull,
    StoreRejected,
    StoreUnavailable,
    WriterFenced,
)
from core.eventstore.codec import HEAD_CODEC, WriterHead, encode_segment
from core.eventstore.full_etcd import store_full
from core.eventstore.group_commit import (
    GroupCommit,
    Outcome,
    Proposal,
    TransactionBatch,
    read_after_failure,
)
from core.eventstore.keys import Keys, check_name
from core.eventstore.kinds import HEAD_KEYS
from core.eventstore.kv import NO_READS, Get, KeyValue, KeyValueStore, Put, TxnResult, Unchanged
from core.eventstore.log_reader import head_from_log
from core.eventstore.retry_policies import retry_unknown_outcome
from core.process import tracing

QUEUE_DEPTH_MAX = 4096

GATHERING_PASSES_MAX = 8
"""Passes of the event loop in which ready callers may still add proposals to a transaction.

With 32 callers on two busy cores, these passes give a fifth more claims a second.
"""


def unix_ms() -> int:
    """The wall-clock time; the order of events does not depend on it."""
    return time.time_ns() // 1_000_000


class Writer:
    """Appends to the log under one name, with at most one transaction in flight.

    ``on_fenced`` is called when another process has taken over the name.
    """

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        name: str,
        *,
        now_ms: Callable[[], int] = unix_ms,
        on_fenced: Callable[[WriterFenced], None] | None = None,
    ) -> None:
        self._on_fenced = on_fenced
        self.name = check_name(name, "writer name")
        self._store = store
        self._keys = keys
        self._now_ms = now_ms
        self._queue = GroupCommit(
            self._transact,
            fatal=WriterFenced,
            name="writer queue",
            depth_max=QUEUE_DEPTH_MAX,
            passes=GATHERING_PASSES_MAX,
        )
        self._head = WriterHead(seq=0, epoch=0)
        self._head_revision = -1
        self._event_counter = 0
        self._fenced: WriterFenced | None = None
        self._unsettled_segment: bytes | None = None
        self._is_traced = tracing.current_tracer() is not None
        self.transactions = 0

    @property
    def epoch(self) -> int:
        """The epoch in the head; 0 before ``open``."""
        return self._head.epoch

    @property
    def depth(self) -> int:
        """The number of waiting proposals."""
        return self._queue.depth

    async def open(self) -> None:
        """Take over the name; fence the process that had the name before.

        Raises StoreUnavailable, WriterFenced if another process opens the name at the same time,
        and LogCorrupt if the head cannot be decoded and etcd has no segment of the writer.
        """
        key = self._keys.head(self.name)
        kv = (await self._store.read([Get(key)])).ranges[0].first
        previous = await self._previous_head(kv) if kv else WriterHead(seq=0, epoch=0)
        revision = kv.mod_revision if kv else 0
        head = WriterHead(previous.seq, previous.epoch + 1)
        result = await self._store.commit(
            [Unchanged(key, revision)], [Put(key, HEAD_CODEC.encode(head))]
        )
        if not result.succeeded:
            raise self._fence("another process opened this name at the same time")
        self._head, self._head_revision = head, result.revision

    async def _previous_head(self, kv: KeyValue) -> WriterHead:
        try:
            return HEAD_KEYS.decode(self._keys, kv.key, kv.value)
        except LogCorrupt:
            head = await head_from_log(self._store, self._keys, kv)
            if not head.seq:
                raise
            return head

    def event_id(self) -> str:
        """A new event id, unique in the log."""
        self._event_counter += 1
        return f"{self.name}.{self._head.epoch:x}.{self._event_counter:x}"

    def append(self, proposal: Proposal) -> Awaitable[Outcome]:
        """Append one proposal. To withdraw it, cancel the future before the transaction starts.

        Returns a future, because a coroutine takes a microsecond more. Raises NotReady before
        ``open``, Overloaded, StoreUnavailable if nothing was written, OutcomeUnknown if the outcome
        could not be read in time, and WriterFenced.
        """
        if self._fenced is not None:
            raise self._fenced
        if self._head_revision < 0:
            raise NotReady(
                f"writer {self.name} is not open",
                subject=self.name,
                remedy="try again in a few seconds",
            )
        if self._is_traced:
            return self._append_traced(proposal)
        return self._queue.put(proposal)

    async def _append_traced(self, proposal: Proposal) -> Outcome:
        with tracing.span("ipam.append", attributes={"ipam.events": len(proposal.drafts)}) as span:
            outcome = await self._queue.put(proposal, tracing.origin())
            if span is not None:
                span.set_attribute("ipam.outcome", type(outcome).__name__.lower())
                span.set_attribute("ipam.revision", outcome.revision)
            return outcome

    async def close(self) -> None:
        """Wait for all queued proposals; later appends raise NotReady."""
        await self._queue.drain()
        self._head_revision = -1

    async def _transact(self, batch: TransactionBatch) -> TxnResult:
        """Commit the batch and its segment if the head is unchanged. Raises as ``append`` does."""
        if self._unsettled_segment is not None:
            await self._settle_earlier(self._unsettled_segment)
        segment = encode_segment(self._now_ms(), batch.drafts)
        head = WriterHead(self._head.seq + 1, self._head.epoch)
        head_key = self._keys.head(self.name)
        guards = [Unchanged(head_key, self._head_revision), *batch.guards]
        writes = [
            Put(self._keys.log(self.name, head.seq), segment),
            Put(head_key, HEAD_CODEC.encode(head)),
            *batch.writes,
        ]
        self.transactions += 1
        try:
            result = await self._store.commit(guards, writes)
        except OutcomeUnknown as unknown:
            # is_full: etcd answered that its database is full, so no transaction is in flight.
            settle = self._read_outcome if unknown.is_full else self._settle_lost
            revision = await settle(segment, unknown)
            return TxnResult(succeeded=True, revision=revision, reads=NO_READS)
        if result.succeeded:
            self._head, self._head_revision = head, result.revision
            return result
        head_get = Get(head_key)
        result = await read_after_failure(self._store, head_get, batch)
        self._head_revision = self._check_head(result.reads[head_get].first)
        return result

    async def _settle_lost(self, segment: bytes, unknown: OutcomeUnknown) -> int:
        """Call ``_settle``; return the revision of the transaction whose answer was lost.

        Raises StoreUnavailable if etcd will never apply the transaction, and ``unknown`` if its
        outcome cannot be read.
        """
        try:
            revision = await self._settle(segment)
        except (StoreUnavailable, StoreRejected, StoreFull) as error:
            raise unknown from error
        if revision is None:
            raise StoreUnavailable(
                f"etcd did not apply the transaction of writer {self.name}",
                subject=self.name,
                remedy="try again",
            ) from None
        return revision

    async def _read_outcome(self, segment: bytes, unknown: OutcomeUnknown) -> int:
        """The revision of a transaction to which etcd answered that its database is full.

        It is not in flight any more, so a read without a rewrite suffices. Raises StoreFull if it
        was not applied, and ``unknown`` if the read fails.
        """
        self._unsettled_segment = segment
        head, log = self._keys.head(self.name), self._keys.log(self.name, self._head.seq + 1)
        try:
            head_now, log_now = (await self._store.read([Get(head), Get(log)])).ranges
        except StoreUnavailable as error:
            raise unknown from error
        self._unsettled_segment = None
        revision = self._read_back(segment, head_now.first, log_now.first)
        if revision is None:
            raise store_full(self.name) from unknown
        return revision

    async def _settle_earlier(self, segment: bytes) -> None:
        """Read the outcome of the previous transaction. Raises StoreUnavailable."""
        try:
            await self._settle(segment)
        except OutcomeUnknown as error:
            raise StoreUnavailable(
                f"the outcome of the previous transaction of writer {self.name} is not known yet:"
                f" {error.message}",
                subject=self.name,
                remedy="try again",
            ) from error

    async def _settle(self, segment: bytes) -> int | None:
        """The revision of an unanswered transaction; None if it will never be applied.

        The head is rewritten, so that the guard of a transaction that is still in flight fails.
        """
        self._unsettled_segment = segment
        head_key = self._keys.head(self.name)
        head_get = Get(head_key)
        log_get = Get(self._keys.log(self.name, self._head.seq + 1))
        result: TxnResult = await retry_unknown_outcome()(
            self._store.commit,
            [Unchanged(head_key, self._head_revision)],
            [Put(head_key, HEAD_CODEC.encode(self._head))],
            [head_get, log_get],
        )
        self._unsettled_segment = None
        if result.succeeded:
            self._head_revision = result.revision
            return None
        return self._read_back(segment, result.reads[head_get].first, result.reads[log_get].first)

    def _read_back(
        self, segment: bytes, head_now: KeyValue | None, log_now: KeyValue | None
    ) -> int | None:
        """The revision of the segment; None if the segment was not committed.

        Raises WriterFenced. If another process took over the name after the commit, the head
        revision stays old, so that the next transaction fails.
        """
        if log_now is not None and log_now.value == segment:
            self._head = WriterHead(self._head.seq + 1, self._head.epoch)
            self._head_revision = log_now.mod_revision
            head = self._decode_head(head_now)
            if head_now is not None and head is not None and head.epoch == self._head.epoch:
                self._head_revision = head_now.mod_revision
            return log_now.mod_revision
        # ``_settle`` may have rewritten the head: the same value, a new revision.
        self._head_revision = self._check_head(head_now)
        return None

    def _check_head(self, kv: KeyValue | None) -> int:
        """The revision of the head. Raises WriterFenced if another process has changed it."""
        if kv is None or self._decode_head(kv) != self._head:
            raise self._fence("another process writes under this name")
        return kv.mod_revision

    def _decode_head(self, kv: KeyValue | None) -> WriterHead | None:
        """The head; None if it does not exist or cannot be decoded."""
        with suppress(LogCorrupt):
            return None if kv is None else HEAD_CODEC.decode(kv.value)
        return None

    def _fence(self, why: str) -> WriterFenced:
        self._fenced = WriterFenced(
            f"writer {self.name} is fenced: {why}",
            subject=self.name,
            remedy="run one process with this name: give each agent its own node name; then restart"
            " this process",
        )
        if self._on_fenced is not None:
            self._on_fenced(self._fenced)
        return self._fenced
