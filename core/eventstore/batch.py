"""One transaction made of several proposals, and who lost when it failed.

A proposal brings its events, the guards they were decided on, the state they make, and the reads
whose answers it wants if it loses. A batch joins proposals that do not touch each other's keys and
stays within etcd's bounds. Pure: nothing here talks to the store.
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
"""Events are in the request twice (segment and state), so half of what etcd takes."""

OPERATION_BYTES = 128
"""What a key and its frame weigh in a request, roughly."""


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

    ``truth``: the current value of each guarded key; ``reads``: the answers of the proposal's own
    reads. Both as of ``revision``, and empty for a proposal with a range guard.
    """

    revision: int
    truth: dict[bytes, KeyValue | None]
    reads: Mapping[Get, RangeResult]


class Prepared(NamedTuple):
    """A proposal with what batching asks of it, worked out once."""

    proposal: Proposal
    gets: tuple[Get, ...]
    guarded: set[bytes]
    written: set[bytes]
    weight: int
    alone: bool


def prepare(proposal: Proposal) -> Prepared:
    """Work out which keys a proposal touches, what it reads if it loses, and how much it weighs."""
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
        """Nothing more can be added."""
        return (
            self.alone or len(self.drafts) >= SEGMENT_EVENTS_MAX or len(self.writes) >= WRITES_MAX
        )

    @property
    def guards(self) -> list[Guard]:
        """Every guard once."""
        return list(self._guards)

    @property
    def gets(self) -> list[Get]:
        """The failure reads, every one once."""
        return list(self._gets)

    def add(self, one: Prepared) -> bool:
        """Join the proposal, unless it does not fit with those already in."""
        if not self._members:
            self.alone = one.alone
        elif one.alone or not self._fits(one):
            return False
        self._members += 1
        self.drafts.extend(one.proposal.drafts)
        self.writes.extend(one.proposal.writes)
        self._guards.update(dict.fromkeys(one.proposal.guards))
        self._guarded |= one.guarded
        self._written |= one.written
        self._bytes += one.weight
        if not one.alone:
            self._gets.update(dict.fromkeys(one.gets))
        return True

    def _fits(self, one: Prepared) -> bool:
        """Within etcd's bounds even if no guard and no read is shared, or by exact count if not."""
        return (
            len(self.drafts) + len(one.proposal.drafts) <= SEGMENT_EVENTS_MAX
            and len(self.writes) + len(one.proposal.writes) <= WRITES_MAX
            and self._bytes + one.weight <= BATCH_BYTES_MAX
            and _fits_in(self._guards, one.proposal.guards, GUARDS_MAX)
            and _fits_in(self._gets, one.gets, GETS_MAX)
            and self._written.isdisjoint(one.written)
            and self._guarded.isdisjoint(one.written)
            and self._written.isdisjoint(one.guarded)
        )


def _fits_in(have: dict[K, V], new: Sequence[K], limit: int) -> bool:
    room = limit - len(have)
    return len(new) <= room or sum(one not in have for one in new) <= room


def sort_out(
    batch: TransactionBatch, members: Sequence[Prepared], result: TxnResult
) -> list[Lost | None]:
    """Per proposal: what it lost to, or None when it may try again as it is."""
    if batch.alone:
        return [Lost(result.revision, {}, NO_READS)]
    return [_judge(one.proposal, result) for one in members]


def _judge(proposal: Proposal, result: TxnResult) -> Lost | None:
    truth = {
        guard.key: _truth(result.reads[_get_of(guard, proposal)], guard.key)
        for guard in proposal.guards
        if not isinstance(guard, NothingNewer)
    }
    if all(_holds(guard, truth) for guard in proposal.guards):
        return None
    return Lost(result.revision, truth, {get: result.reads[get] for get in proposal.reads})


def _get_of(guard: Absent | Unchanged, proposal: Proposal) -> Get:
    return next((get for get in proposal.reads if get.start == guard.key), Get(guard.key))


def _truth(answer: RangeResult, key: bytes) -> KeyValue | None:
    found = answer.first
    return found if found is not None and found.key == key else None


def _holds(guard: Guard, truth: dict[bytes, KeyValue | None]) -> bool:
    assert not isinstance(guard, NothingNewer)
    found = truth[guard.key]
    revision = found.mod_revision if found is not None else 0
    return revision == (guard.mod_revision if isinstance(guard, Unchanged) else 0)
