"""Which worker owns which shard: fair shares, takeover, and giving up what is too much.

``wake/worker/<name>`` says who is there and ``wake/owner/<shard>`` who owns, both under the
worker's lease: when a worker dies they vanish in one revision, and the others share its shards.
An owner's key is written once a term, so its revision is the term's epoch and a guard in every
write for the shard. Only an absent key is ever taken.
This module never touches an execution.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from core.eventstore.codec import StateCodec
from core.eventstore.group_commit import Committed
from core.eventstore.kv import Absent, Delete, KeyChange, KeyValue, Put, Unchanged
from workflows.engine.store.committer import Committer
from workflows.engine.store.faults import UNREADABLE, WorkerFaults
from workflows.engine.store.keys import SHARDS, WorkflowKeys
from workflows.engine.store.session import WorkerSession


class OwnerRecord(NamedTuple):
    """Value of an owner's or worker's key."""

    session: str


HOLDER = StateCodec(OwnerRecord)

KINDS = {"owner": "shard owner", "worker": "worker"}
"""Kinds of keys, as ``workflows.engine.store.kinds`` names them."""

UNREADABLE_OWNER = "?"
"""Stands for an owner whose key cannot be read."""

HOLDER_REMEDY = "end the process of a newer version that wrote it, or delete the key"


class Shards(Protocol):
    """What gains and loses shards."""

    async def gain(self, shard: int, fence: Unchanged) -> None:
        """The shard is ours: load it and go on."""
        ...

    async def give_up(self, shard: int) -> None:
        """Stop all work of the shard; when this returns nothing of it is in flight."""
        ...


class ShardPlan(NamedTuple):
    """What a worker should do now."""

    claim: tuple[int, ...]
    release: tuple[int, ...]


def plan(owners: Mapping[int, str], workers: Iterable[str], me: str) -> ShardPlan:
    """Take what is vacant up to a fair share, give up what is above it.

    The shares of all workers together are all shards, so none stays vacant.
    """
    there = sorted({*workers, me})
    rank = there.index(me)
    share = SHARDS // len(there) + (rank < SHARDS % len(there))
    mine = sorted(shard for shard, owner in owners.items() if owner == me)
    vacant = [shard for shard in range(SHARDS) if shard not in owners]
    # Every worker begins at another place, so that two rarely reach for the same shard.
    start = rank * SHARDS // len(there)
    vacant.sort(key=lambda shard: (shard - start) % SHARDS)
    return ShardPlan(tuple(vacant[: max(share - len(mine), 0)]), tuple(mine[share:]))


class Ownership:
    """One worker's view of all owners, fed by its watch."""

    def __init__(
        self,
        keys: WorkflowKeys,
        session: WorkerSession,
        committer: Committer,
        shards: Shards,
        faults: WorkerFaults,
    ) -> None:
        self._faults = faults
        self._left_over: dict[int, int] = {}
        self._keys = keys
        self._session = session
        self._committer = committer
        self._shards = shards
        self._owners: dict[int, str] = {}
        self._workers: set[str] = set()
        self.epochs: dict[int, int] = {}

    async def join(self) -> None:
        """Say that this worker is there. Raises SessionLost."""
        key = self._keys.worker(self._session.name)
        value = HOLDER.encode(OwnerRecord(self._session.name))
        await self._committer.propose([Absent(key)], [Put(key, value, self._session.lease)])

    def learn(self, found: Iterable[KeyValue]) -> None:
        """All keys that are there. One without a lease is no process's: it counts for nothing."""
        self._owners.clear()
        self._workers.clear()
        self._left_over.clear()
        for kv in found:
            self._note(kv.key, kv.value)
            if not kv.lease:
                self._leave_out(kv)

    def observe(self, change: KeyChange) -> bool:
        """A change of an owner's or worker's key; whether anything is different now."""
        before = dict(self._owners), set(self._workers)
        self._note(change.key, change.value)
        return before != (self._owners, self._workers)

    async def balance(self, found: Iterable[KeyValue]) -> None:
        """Claim and give up until the plan is empty; ``found``: the keys that are there now.

        Raises SessionLost, what loading raises.
        """
        self.learn(found)
        while True:
            wanted = plan(self._owners, self._workers, self._session.name)
            if not (wanted.claim or wanted.release):
                return
            for shard in wanted.release:
                await self._release(shard)
            await self._claim(wanted.claim)

    def _leave_out(self, kv: KeyValue) -> None:
        """An owner's or worker's key that no process holds; an owner's may be taken over."""
        kind, rest = self._keys.tail(kv.key)
        remedy = "delete the key: processes write theirs under a lease"
        self._faults.note(KINDS.get(kind, kind), kv.key, "it is held by no process", remedy)
        if kind == "worker":
            self._workers.discard(rest)
        for shard in [shard for shard in self._owners if self._keys.owner(shard) == kv.key]:
            del self._owners[shard]
            self._left_over[shard] = kv.mod_revision

    def _note(self, key: bytes, value: bytes | None) -> None:
        kind, rest = self._keys.tail(key)
        self._faults.clear(key)
        try:
            if kind == "owner":
                self._note_owner(int(rest, 16), value)
            elif value is None:
                self._workers.discard(rest)
            elif HOLDER.decode(value).session == rest:
                self._workers.add(rest)
            else:
                raise ValueError("it names another worker than its key")
        except UNREADABLE as error:
            self._faults.note(KINDS.get(kind, kind), key, error, HOLDER_REMEDY)

    def _note_owner(self, shard: int, value: bytes | None) -> None:
        """An owner that cannot be read may be of a newer version: its shard is left to it."""
        if not 0 <= shard < SHARDS:
            raise ValueError(f"there are {SHARDS} shards")
        self._left_over.pop(shard, None)
        if value is None:
            self._owners.pop(shard, None)
            return
        self._owners[shard] = UNREADABLE_OWNER
        self._owners[shard] = HOLDER.decode(value).session or UNREADABLE_OWNER

    async def _claim(self, wanted: Iterable[int]) -> None:
        value = HOLDER.encode(OwnerRecord(self._session.name))
        asked = []
        for shard in wanted:
            key = self._keys.owner(shard)
            left_over = self._left_over.get(shard)
            free = Absent(key) if left_over is None else Unchanged(key, left_over)
            put = Put(key, value, self._session.lease)
            asked.append((shard, self._committer.propose([free], [put])))
        for shard, answer in asked:
            outcome = await answer
            key = self._keys.owner(shard)
            if isinstance(outcome, Committed):
                self._owners[shard] = self._session.name
                self.epochs[shard] = outcome.revision
                self._faults.clear(key)
                await self._shards.gain(shard, Unchanged(key, outcome.revision))
                continue
            found = outcome.truth[key]
            self._owners.pop(shard, None)
            self._note(key, found.value if found is not None else None)

    async def _release(self, shard: int) -> None:
        key = self._keys.owner(shard)
        await self._shards.give_up(shard)
        fence = Unchanged(key, self.epochs.pop(shard))
        await self._committer.propose([fence], [Delete(key)])
        self._owners.pop(shard, None)
