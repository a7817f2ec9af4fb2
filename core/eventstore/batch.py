"""A transaction of several proposals, and which proposals lost when it failed.

A proposal has events, the guards that they were decided on, the state that they write, and the
reads whose results it gets if it loses. A batch joins proposals that do not touch each other's keys
and stays within etcd's limits. The guarded keys of a failed transaction are read after it (decision
30), so that a successful transaction has no reads. Pure: nothing here calls the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from core.eventstore.codec import SEGMENT_EVENTS_MAX, EventDraft
from core.eventstore.kv import (
    NO_READS,
    REQUEST_BYTES_MAX,
    TXN_OPERATIONS_MAX,
    Delete,
    Get,
    Guard,
    KeyValue,
    NothingNewer,
    Put,
    RangeResult,
    TxnResult,
    Unchanged,
    Write,
)

GUARDS_MAX = TXN_OPERATIONS_MAX - 1
WRITES_MAX = TXN_OPERATIONS_MAX - 2
BATCH_BYTES_MAX = REQUEST_BYTES_MAX // 2
"""Half of etcd's limit, because events are in the request twice (segment and state)."""

OPERATION_BYTES = 128
"""Rough size of a key and its operation in a request."""


Reads = Callable[[], Sequence[Get]]
"""The reads of a proposal that has lost; each starts at a key that the proposal guards."""

NO_PROPOSAL_READS: Final[Reads] = tuple


class Proposal(NamedTuple):
    """Events with their guards and writes. If a guard fails, ``Lost`` has the results of ``reads``.

    A read also shows whether the guard of its first key failed.
    """

    drafts: tuple[EventDraft, ...]
    guards: tuple[Guard, ...]
    writes: tuple[Write, ...]
    reads: Reads = NO_PROPOSAL_READS


class Lost(NamedTuple):
    """A guard failed.

    ``current``: the value of each guarded key; ``reads``: the results of the proposal's own reads.
    Both are as of ``revision``, and empty for a proposal with a range guard.
    """

    revision: int
    current: dict[bytes, KeyValue | None]
    reads: Mapping[Get, RangeResult]


class TransactionBatch:
    """Proposals that fit into one transaction, in order of arrival.

    ``alone``: its proposal has a range of keys, so that no other one is added.
    """

    __slots__ = (
        "_bytes",
        "_guarded",
        "_guards",
        "_written",
        "alone",
        "drafts",
        "members",
        "writes",
    )

    def __init__(self) -> None:
        self.drafts: list[EventDraft] = []
        self.writes: list[Write] = []
        self.alone = False
        self.members: list[Proposal] = []
        self._guards: dict[Guard, None] = {}
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

    def gets(self) -> list[Get]:
        """What to read after a failure: the proposals' reads and their other guarded keys."""
        if self.alone:
            return []
        gets: dict[Get, None] = {}
        for proposal in self.members:
            reads = {get.start: get for get in proposal.reads()}
            gets.update(dict.fromkeys(reads.values()))
            gets.update({_get_of(guard, reads): None for guard in proposal.guards})
        return list(gets)

    def add(self, proposal: Proposal) -> bool:
        """Add the proposal; False if it does not fit with those already in the batch."""
        drafts, guards, writes, _ = proposal
        guarded = {guard[0] for guard in guards}
        written = {write[0] for write in writes}
        value_bytes = sum([len(write.value) for write in writes if isinstance(write, Put)])
        weight = 2 * value_bytes + OPERATION_BYTES * (len(writes) + len(guards))
        if not self.members:
            self.alone = _has_range(proposal)
        elif not (
            len(self.drafts) + len(drafts) <= SEGMENT_EVENTS_MAX
            and len(self.writes) + len(writes) <= WRITES_MAX
            and self._bytes + weight <= BATCH_BYTES_MAX
            and self._has_room_for(guards)
            and self._written.isdisjoint(written)
            and self._guarded.isdisjoint(written)
            and self._written.isdisjoint(guarded)
            and not _has_range(proposal)
        ):
            return False
        self.members.append(proposal)
        self.drafts += drafts
        self.writes += writes
        self._guards.update(dict.fromkeys(guards))
        self._guarded |= guarded
        self._written |= written
        self._bytes += weight
        return True

    def _has_room_for(self, guards: Sequence[Guard]) -> bool:
        free = GUARDS_MAX - len(self._guards)
        return len(guards) <= free or sum(guard not in self._guards for guard in guards) <= free


def _has_range(proposal: Proposal) -> bool:
    """Whether it guards or deletes a range of keys, which is compared with no other proposal."""
    return NothingNewer in map(type, proposal.guards) or any(
        isinstance(write, Delete) and write.end for write in proposal.writes
    )


def lost_proposals(batch: TransactionBatch, result: TxnResult) -> list[Lost | None]:
    """For each proposal, ``Lost`` if its guard failed, or None if it can be retried unchanged.

    ``result`` has the results of the batch's ``gets``.
    """
    if batch.alone:
        return [Lost(result.revision, {}, NO_READS)]
    return [_lost_or_none(proposal, result) for proposal in batch.members]


def _lost_or_none(proposal: Proposal, result: TxnResult) -> Lost | None:
    reads = {get.start: get for get in proposal.reads()}
    current = {
        guard[0]: _current(result.reads[_get_of(guard, reads)], guard[0])
        for guard in proposal.guards
    }
    if all(_holds(guard, current) for guard in proposal.guards):
        return None
    answers = {get: result.reads[get] for get in reads.values()}
    return Lost(result.revision, current, answers)


def _get_of(guard: Guard, reads: Mapping[bytes, Get]) -> Get:
    return reads.get(guard[0]) or Get(guard[0])


def _current(answer: RangeResult, key: bytes) -> KeyValue | None:
    kv = answer.first
    return kv if kv is not None and kv.key == key else None


def _holds(guard: Guard, current: dict[bytes, KeyValue | None]) -> bool:
    assert not isinstance(guard, NothingNewer)
    kv = current[guard.key]
    revision = kv.mod_revision if kv is not None else 0
    return revision == (guard.mod_revision if isinstance(guard, Unchanged) else 0)
