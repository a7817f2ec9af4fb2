"""One transaction made of several proposals, and who lost when it failed.

A proposal brings its events, the guards they were decided on, the state they make, and the reads
whose answers it wants if it loses. A batch joins proposals that do not touch each other's keys and
stays within etcd's bounds. Pure: nothing here talks to the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from core.store.codec import SEGMENT_EVENTS_MAX, Draft
from core.store.kv import (
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

GUARDS_MAX = TXN_OPERATIONS_MAX - 1
WRITES_MAX = TXN_OPERATIONS_MAX - 2
GETS_MAX = TXN_OPERATIONS_MAX - 1
BATCH_BYTES_MAX = REQUEST_BYTES_MAX // 2
"""Events are in the request twice (segment and state), so half of what etcd takes."""


class Proposal(NamedTuple):
    """Events with their guards and effects. ``reads`` are answered by ``Lost`` in the same order.

    A read that starts at a guarded key serves as that guard's truth too.
    """

    drafts: tuple[Draft, ...]
    guards: tuple[Guard, ...]
    writes: tuple[Write, ...]
    reads: tuple[Get, ...] = ()


class Lost(NamedTuple):
    """A guard did not hold.

    ``truth``: guarded key -> what is there; ``reads``: the proposal's own reads. All of it as of
    ``revision``; empty when the proposal could not be read for (range guards).
    """

    revision: int
    truth: dict[bytes, KeyValue | None]
    reads: tuple[RangeResult, ...]


class Batch:
    """Proposals that fit into one transaction, in order of arrival."""

    __slots__ = (
        "_bytes",
        "_get_index",
        "_guards",
        "_touched",
        "_written",
        "drafts",
        "exclusive",
        "writes",
    )

    def __init__(self) -> None:
        self.drafts: list[Draft] = []
        self.writes: list[Write] = []
        self.exclusive = False
        self._guards: dict[Guard, None] = {}
        self._get_index: dict[Get, int] = {}
        self._written: set[bytes] = set()
        self._touched: set[bytes] = set()
        self._bytes = 0

    @property
    def full(self) -> bool:
        """Nothing more can be added."""
        return self.exclusive or len(self.drafts) >= SEGMENT_EVENTS_MAX

    @property
    def guards(self) -> list[Guard]:
        """Every guard once."""
        return list(self._guards)

    @property
    def gets(self) -> list[Get]:
        """The failure reads, every one once."""
        return list(self._get_index)

    def add(self, proposal: Proposal) -> bool:
        """Join the proposal, unless it does not fit with those already in."""
        alone = _is_exclusive(proposal)
        if not self.drafts:
            self.exclusive = alone
        elif alone or not self._fits(proposal):
            return False
        self.drafts.extend(proposal.drafts)
        self.writes.extend(proposal.writes)
        self._bytes += _weight(proposal)
        for guard in proposal.guards:
            self._guards[guard] = None
            if not isinstance(guard, NothingNewer):
                self._touched.add(guard.key)
        self._written.update(_written_keys(proposal))
        if not alone:
            for get in wanted_gets(proposal):
                self._get_index.setdefault(get, len(self._get_index))
        return True

    def answers(self, proposal: Proposal, result: TxnResult) -> dict[Get, RangeResult]:
        """What the failed transaction read for this proposal."""
        return {get: result.reads[self._get_index[get]] for get in wanted_gets(proposal)}

    def _fits(self, proposal: Proposal) -> bool:
        written = _written_keys(proposal)
        guarded = [g.key for g in proposal.guards if not isinstance(g, NothingNewer)]
        new_gets = [get for get in wanted_gets(proposal) if get not in self._get_index]
        new_guards = [guard for guard in proposal.guards if guard not in self._guards]
        return (
            len(self.drafts) + len(proposal.drafts) <= SEGMENT_EVENTS_MAX
            and len(self._guards) + len(new_guards) <= GUARDS_MAX
            and len(self.writes) + len(proposal.writes) <= WRITES_MAX
            and len(self._get_index) + len(new_gets) <= GETS_MAX
            and self._bytes + _weight(proposal) <= BATCH_BYTES_MAX
            and self._written.isdisjoint(written)
            and self._touched.isdisjoint(written)
            and self._written.isdisjoint(guarded)
        )


def sort_out(batch: Batch, proposals: Sequence[Proposal], result: TxnResult) -> list[Lost | None]:
    """Per proposal: what it lost to, or None when it may try again as it is."""
    if batch.exclusive:
        return [Lost(result.revision, {}, ())]
    return [_judge(proposal, batch.answers(proposal, result), result) for proposal in proposals]


def _judge(proposal: Proposal, answers: dict[Get, RangeResult], result: TxnResult) -> Lost | None:
    truth = {
        guard.key: _truth(answers[_get_of(guard, proposal)], guard.key)
        for guard in proposal.guards
        if not isinstance(guard, NothingNewer)
    }
    if all(_holds(guard, truth) for guard in proposal.guards):
        return None
    return Lost(result.revision, truth, tuple(answers[get] for get in proposal.reads))


def wanted_gets(proposal: Proposal) -> list[Get]:
    """The proposal's reads, and one read for each guard that none of them covers."""
    starts = {get.start for get in proposal.reads}
    return [
        *proposal.reads,
        *(
            Get(guard.key)
            for guard in proposal.guards
            if not isinstance(guard, NothingNewer) and guard.key not in starts
        ),
    ]


def _is_exclusive(proposal: Proposal) -> bool:
    return any(isinstance(guard, NothingNewer) for guard in proposal.guards) or any(
        isinstance(write, Delete) and write.end for write in proposal.writes
    )


def _get_of(guard: Absent | Unchanged, proposal: Proposal) -> Get:
    return next((get for get in proposal.reads if get.start == guard.key), Get(guard.key))


def _truth(answer: RangeResult, key: bytes) -> KeyValue | None:
    return answer.kvs[0] if answer.kvs and answer.kvs[0].key == key else None


def _holds(guard: Guard, truth: dict[bytes, KeyValue | None]) -> bool:
    assert not isinstance(guard, NothingNewer)
    found = truth[guard.key]
    revision = found.mod_revision if found is not None else 0
    return revision == (guard.mod_revision if isinstance(guard, Unchanged) else 0)


def _written_keys(proposal: Proposal) -> set[bytes]:
    return {write.start if isinstance(write, Delete) else write.key for write in proposal.writes}


def _weight(proposal: Proposal) -> int:
    values = sum(len(w.value) for w in proposal.writes if not isinstance(w, Delete))
    return 2 * values + 128 * (len(proposal.writes) + len(proposal.guards))
