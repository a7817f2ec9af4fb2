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

from core.store.codec import StateCodec
from core.store.kv import Absent, Change, Delete, KeyValue, Put, Unchanged
from core.store.pump import Committed
from workflows.engine.committer import Committer
from workflows.engine.keys import SHARDS, WorkflowKeys
from workflows.engine.session import Session


class Holder(NamedTuple):
    """Value of an owner's or worker's key."""

    session: str


HOLDER = StateCodec(Holder)


class Shards(Protocol):
    """What gains and loses shards."""

    async def gain(self, shard: int, fence: Unchanged) -> None:
        """The shard is ours: load it and go on."""
        ...

    async def give_up(self, shard: int) -> None:
        """Stop all work of the shard; when this returns nothing of it is in flight."""
        ...


class Plan(NamedTuple):
    """What a worker should do now."""

    claim: tuple[int, ...]
    release: tuple[int, ...]


def plan(owners: Mapping[int, str], workers: Iterable[str], me: str) -> Plan:
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
    return Plan(tuple(vacant[: max(share - len(mine), 0)]), tuple(mine[share:]))


class Ownership:
    """One worker's view of all owners, fed by its watch."""

    def __init__(
        self, keys: WorkflowKeys, session: Session, committer: Committer, shards: Shards
    ) -> None:
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
        value = HOLDER.encode(Holder(self._session.name))
        await self._committer.propose([Absent(key)], [Put(key, value, self._session.lease)])

    def learn(self, found: Iterable[KeyValue]) -> None:
        """The keys that are there at the beginning."""
        for kv in found:
            self._note(kv.key, kv.value)

    def observe(self, change: Change) -> bool:
        """A change of an owner's or worker's key; whether anything is different now."""
        before = dict(self._owners), set(self._workers)
        self._note(change.key, change.value)
        return before != (self._owners, self._workers)

    async def balance(self) -> None:
        """Claim and give up until the plan is empty. Raises SessionLost, what loading raises."""
        while True:
            wanted = plan(self._owners, self._workers, self._session.name)
            if not (wanted.claim or wanted.release):
                return
            for shard in wanted.release:
                await self._release(shard)
            await self._claim(wanted.claim)

    def _note(self, key: bytes, value: bytes | None) -> None:
        kind, rest = self._keys.tail(key)
        holder = HOLDER.decode(value).session if value is not None else ""
        if kind == "owner" and holder:
            self._owners[int(rest, 16)] = holder
        elif kind == "owner":
            self._owners.pop(int(rest, 16), None)
        elif kind == "worker" and holder:
            self._workers.add(holder)
        elif kind == "worker":
            self._workers.discard(rest)

    async def _claim(self, wanted: Iterable[int]) -> None:
        value = HOLDER.encode(Holder(self._session.name))
        asked = [
            (
                shard,
                self._committer.propose(
                    [Absent(self._keys.owner(shard))],
                    [Put(self._keys.owner(shard), value, self._session.lease)],
                ),
            )
            for shard in wanted
        ]
        for shard, answer in asked:
            outcome = await answer
            key = self._keys.owner(shard)
            if isinstance(outcome, Committed):
                self._owners[shard] = self._session.name
                self.epochs[shard] = outcome.revision
                await self._shards.gain(shard, Unchanged(key, outcome.revision))
                continue
            found = outcome.truth[key]
            assert found is not None, "the guard was that nobody owns it"
            self._owners[shard] = HOLDER.decode(found.value).session

    async def _release(self, shard: int) -> None:
        key = self._keys.owner(shard)
        await self._shards.give_up(shard)
        fence = Unchanged(key, self.epochs.pop(shard))
        await self._committer.propose([fence], [Delete(key)])
        self._owners.pop(shard, None)
