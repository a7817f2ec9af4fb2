"""One transaction of several proposals, and which of them lost when it failed.

A proposal has events, the guards that they were decided on, the state that they write, and the
reads whose answers it gets if it loses. A batch joins proposals that do not touch each other's keys
and stays within etcd's limits. Pure: nothing here calls the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from core.eventstore.codec import SEGMENT_EVENTS_MAX, EventDraft
from core.eventstore.kv import (
    NO_READS,
    REQUEST_BYTES_MAX,
    TXN_OPERATIONS_MAX,
    Absent,
    Delete,
    Get,
    Guard,
    KeyValue,
    NothingNewer,
    RangeResult,
    TxnResult,
    Unchanged,
    Write,
)

K = TypeVar("K")
V = TypeVar("V")

GUARDS_MAX = TXN_OPERATIONS_MAX - 1
WRITES_MAX = TXN_OPERATIONS_MAX - 2
GETS_MAX = TXN_OPERATIONS_MAX - 1
BATCH_BYTES_MAX = REQUEST_BYTES_MAX // 2
"""Half of etcd's limit, because events are in the request twice (segment and state)."""

OPERATION_BYTES = 128
"""Rough size of a key and its operation in a request."""


class Proposal(NamedTuple):
    """Events with their guards and writes; ``Lost`` answers the ``reads`` if a guard fails.

    A read that starts at a guarded key also tells whether that guard failed.
    """

    drafts: tuple[EventDraft, ...]
    guards: tuple[Guard, ...]
    writes: tuple[Write, ...]
    reads: tuple[Get, ...] = ()


class Lost(NamedTuple):
    """A guard failed.

    ``current``: the value of each guarded key; ``reads``: the answers of the proposal's own
    reads. Both as of ``revision``, and empty for a proposal with a range guard.
    """

    revision: int
    current: dict[bytes, KeyValue | None]
    reads: Mapping[Get, RangeResult]


class Prepared(NamedTuple):
    """A proposal with the keys, reads and size that batching compares, computed once."""

    proposal: Proposal
    gets: tuple[Get, ...]
    guarded: set[bytes]
    written: set[bytes]
    weight: int
    alone: bool


def prepare(proposal: Proposal) -> Prepared:
    """Compute which keys a proposal touches, what it reads if it loses, and its size in bytes."""
    _, guards, writes, reads = proposal
    starts = {get.start for get in reads}
    gets, guarded, written = list(reads), set(), set()
    value_bytes, alone = 0, False
    for guard in guards:
        if isinstance(guard, NothingNewer):
            alone = True
            continue
        guarded.add(guard.key)
        if guard.key not in starts:
            gets.append(Get(guard.key))
    for write in writes:
        if isinstance(write, Delete):
            written.add(write.start)
            alone = alone or bool(write.end)
        else:
            written.add(write.key)
            value_bytes += len(write.value)
    weight = 2 * value_bytes + OPERATION_BYTES * (len(writes) + len(guards))
    return Prepared(proposal, tuple(gets), guarded, written, weight, alone)


class TransactionBatch:
    """Proposals that fit into one transaction, in order of arrival."""

    __slots__ = (
        "_bytes",
        "_gets",
        "_guarded",
        "_guards",
        "_members",
        "_written",
        "alone",
        "drafts",
        "writes",
    )

    def __init__(self) -> None:
        self.drafts: list[EventDraft] = []
        self.writes: list[Write] = []
        self.alone = False
        self._members = 0
        self._guards: dict[Guard, None] = {}
        self._gets: dict[Get, None] = {}
        self._written: set[bytes] = set()
        self._guarded: set[bytes] = set()
        self._bytes = 0

    @property
    def full(self) -> bool:
        """Whether no further proposal can be added."""
        return (
            self.alone or len(self.drafts) >= SEGMENT_EVENTS_MAX or len(self.writes) >= WRITES_MAX
        )

    @property
    def guards(self) -> list[Guard]:
        """The guards of all proposals, without duplicates."""
        return list(self._guards)

    @property
    def gets(self) -> list[Get]:
        """The failure reads of all proposals, without duplicates."""
        return list(self._gets)

    def add(self, prepared: Prepared) -> bool:
        """Add the proposal; False if it does not fit with those already in the batch."""
        if not self._members:
            self.alone = prepared.alone
        elif prepared.alone or not self._fits(prepared):
            return False
        self._members += 1
        self.drafts.extend(prepared.proposal.drafts)
        self.writes.extend(prepared.proposal.writes)
        self._guards.update(dict.fromkeys(prepared.proposal.guards))
        self._guarded |= prepared.guarded
        self._written |= prepared.written
        self._bytes += prepared.weight
        if not prepared.alone:
            self._gets.update(dict.fromkeys(prepared.gets))
        return True

    def _fits(self, prepared: Prepared) -> bool:
        """Whether the batch stays within etcd's limits and no key is in conflict."""
        return (
            len(self.drafts) + len(prepared.proposal.drafts) <= SEGMENT_EVENTS_MAX
            and len(self.writes) + len(prepared.proposal.writes) <= WRITES_MAX
            and self._bytes + prepared.weight <= BATCH_BYTES_MAX
            and _fits_in(self._guards, prepared.proposal.guards, GUARDS_MAX)
            and _fits_in(self._gets, prepared.gets, GETS_MAX)
            and self._written.isdisjoint(prepared.written)
            and self._guarded.isdisjoint(prepared.written)
            and self._written.isdisjoint(prepared.guarded)
        )


def _fits_in(have: dict[K, V], new: Sequence[K], limit: int) -> bool:
    free = limit - len(have)
    return len(new) <= free or sum(one not in have for one in new) <= free


def sort_out(
    batch: TransactionBatch, members: Sequence[Prepared], result: TxnResult
) -> list[Lost | None]:
    """For each proposal: ``Lost`` if a guard of it failed, None if it can be retried unchanged."""
    if batch.alone:
        return [Lost(result.revision, {}, NO_READS)]
    return [_judge(member.proposal, result) for member in members]


def _judge(proposal: Proposal, result: TxnResult) -> Lost | None:
    current = {
        guard.key: _current(result.reads[_get_of(guard, proposal)], guard.key)
        for guard in proposal.guards
        if not isinstance(guard, NothingNewer)
    }
    if all(_holds(guard, current) for guard in proposal.guards):
        return None
    return Lost(result.revision, current, {get: result.reads[get] for get in proposal.reads})


def _get_of(guard: Absent | Unchanged, proposal: Proposal) -> Get:
    return next((get for get in proposal.reads if get.start == guard.key), Get(guard.key))


def _current(answer: RangeResult, key: bytes) -> KeyValue | None:
    kv = answer.first
    return kv if kv is not None and kv.key == key else None


def _holds(guard: Guard, current: dict[bytes, KeyValue | None]) -> bool:
    assert not isinstance(guard, NothingNewer)
    kv = current[guard.key]
    revision = kv.mod_revision if kv is not None else 0
    return revision == (guard.mod_revision if isinstance(guard, Unchanged) else 0)
