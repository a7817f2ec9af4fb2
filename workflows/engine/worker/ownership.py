"""Ownership of shards: a worker claims an equal share, and releases shards above the share.

``wake/worker/<name>`` exists while a worker runs. ``wake/owner/<shard>`` names the owner of the
shard. Both keys are under the worker's lease: when a worker dies, etcd deletes its keys in one
revision, and other workers claim its shards. An owner writes the shard's key once, so the revision
of that key guards every write for the shard. An owner key without a lease counts as absent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import NamedTuple

from core.eventstore.codec import StateCodec
from core.eventstore.group_commit import Committed
from core.eventstore.kv import Absent, Delete, KeyChange, KeyValue, Put, Unchanged
from workflows.engine.store.keys import SHARD_COUNT, WorkflowKeys
from workflows.engine.store.session import Committer, WorkerSession
from workflows.engine.store.unusable_values import DECODING_ERRORS, WorkerFaults


class OwnerRecord(NamedTuple):
    """The value of an owner key or worker key: the name of the worker's session."""

    session: str


OWNER_RECORD = StateCodec(OwnerRecord)

FAULT_KINDS = {"owner": "shard owner", "worker": "worker"}
"""First part of a key under ``wake/`` -> what a fault calls the key."""

UNREADABLE_OWNER = "?"
"""Stands for the owner of a shard whose owner key cannot be read. No worker has this name."""

OWNER_REMEDY = "if a process of a newer version wrote it, stop that process; else delete the key"

StartShard = Callable[[int, Unchanged], Awaitable[None]]
"""Loads a claimed shard. The fence guards all writes for the shard."""

StopShard = Callable[[int], Awaitable[None]]
"""Stops a shard, and returns when its work has ended."""


class ShardPlan(NamedTuple):
    """The shards that a worker should claim and release."""

    claim: tuple[int, ...]
    release: tuple[int, ...]


def plan(owners: Mapping[int, str], workers: Iterable[str], name: str) -> ShardPlan:
    """A worker's plan: claim vacant shards up to its share, release shards above its share."""
    names = sorted({*workers, name})
    rank = names.index(name)
    share = SHARD_COUNT // len(names) + (rank < SHARD_COUNT % len(names))
    owned = sorted(shard for shard, owner in owners.items() if owner == name)
    vacant = [shard for shard in range(SHARD_COUNT) if shard not in owners]
    # Each worker starts at a different shard, so that two workers rarely claim the same shard.
    start = rank * SHARD_COUNT // len(names)
    vacant.sort(key=lambda shard: (shard - start) % SHARD_COUNT)
    return ShardPlan(tuple(vacant[: max(share - len(owned), 0)]), tuple(owned[share:]))


class Ownership:
    """The owners of all shards, as one worker sees them.

    ``epochs``: shard -> the revision of the owner key that this worker has written.
    """

    def __init__(
        self,
        keys: WorkflowKeys,
        session: WorkerSession,
        committer: Committer,
        faults: WorkerFaults,
        *,
        start_shard: StartShard,
        stop_shard: StopShard,
    ) -> None:
        self._keys = keys
        self._session = session
        self._committer = committer
        self._faults = faults
        self._start_shard = start_shard
        self._stop_shard = stop_shard
        self._owners: dict[int, str] = {}
        self._workers: set[str] = set()
        self._unleased: dict[int, int] = {}
        """Shard -> the revision of an owner key without a lease."""

        self.epochs: dict[int, int] = {}

    async def register(self) -> None:
        """Write the key of this worker. Raises SessionLost."""
        key = self._keys.worker(self._session.name)
        value = OWNER_RECORD.encode(OwnerRecord(self._session.name))
        await self._committer.propose([Absent(key)], [Put(key, value, self._session.lease)])

    def load(self, stored: Iterable[KeyValue]) -> None:
        """Set owners and workers from the stored keys that have a lease."""
        self._owners.clear()
        self._workers.clear()
        self._unleased.clear()
        for kv in stored:
            self._set(kv.key, kv.value)
            if not kv.lease:
                self._ignore_unleased(kv)

    def apply_change(self, change: KeyChange) -> bool:
        """Apply a change of a key. Returns whether an owner or a worker has changed."""
        before = dict(self._owners), set(self._workers)
        self._set(change.key, change.value)
        return before != (self._owners, self._workers)

    async def balance(self, stored: Iterable[KeyValue]) -> None:
        """Claim and release shards by ``plan``; ``stored``: all owner keys and worker keys.

        Raises SessionLost, and the errors of ``start_shard``.
        """
        self.load(stored)
        while True:
            steps = plan(self._owners, self._workers, self._session.name)
            if not (steps.claim or steps.release):
                return
            for shard in steps.release:
                await self._release(shard)
            await self._claim(steps.claim)

    def _ignore_unleased(self, kv: KeyValue) -> None:
        kind, name = self._keys.wake_parts(kv.key)
        remedy = "delete the key: processes write such keys under a lease"
        self._faults.note(
            FAULT_KINDS.get(kind, kind), kv.key, "it has no lease, so no process owns it", remedy
        )
        if kind == "worker":
            self._workers.discard(name)
        for shard in [shard for shard in self._owners if self._keys.owner(shard) == kv.key]:
            del self._owners[shard]
            self._unleased[shard] = kv.mod_revision

    def _set(self, key: bytes, value: bytes | None) -> None:
        kind, name = self._keys.wake_parts(key)
        self._faults.clear(key)
        try:
            if kind == "owner":
                self._set_owner(int(name, 16), value)
            elif value is None:
                self._workers.discard(name)
            elif OWNER_RECORD.decode(value).session == name:
                self._workers.add(name)
            else:
                raise ValueError("the value contains the name of another worker")
        except DECODING_ERRORS as error:
            self._faults.note(FAULT_KINDS.get(kind, kind), key, error, OWNER_REMEDY)

    def _set_owner(self, shard: int, value: bytes | None) -> None:
        if not 0 <= shard < SHARD_COUNT:
            raise ValueError(f"shard {shard:#x} does not exist: there are {SHARD_COUNT} shards")
        self._unleased.pop(shard, None)
        if value is None:
            self._owners.pop(shard, None)
            return
        self._owners[shard] = UNREADABLE_OWNER  # stays if the value cannot be decoded
        self._owners[shard] = OWNER_RECORD.decode(value).session or UNREADABLE_OWNER

    async def _claim(self, shards: Iterable[int]) -> None:
        value = OWNER_RECORD.encode(OwnerRecord(self._session.name))
        proposals = []
        for shard in shards:
            key = self._keys.owner(shard)
            unleased_revision = self._unleased.get(shard)
            guard = Absent(key) if unleased_revision is None else Unchanged(key, unleased_revision)
            put = Put(key, value, self._session.lease)
            proposals.append((shard, self._committer.propose([guard], [put])))
        for shard, proposal in proposals:
            outcome = await proposal
            key = self._keys.owner(shard)
            if isinstance(outcome, Committed):
                self._owners[shard] = self._session.name
                self.epochs[shard] = outcome.revision
                self._faults.clear(key)
                await self._start_shard(shard, Unchanged(key, outcome.revision))
                continue
            stored = outcome.current[key]
            self._owners.pop(shard, None)
            self._set(key, stored.value if stored is not None else None)

    async def _release(self, shard: int) -> None:
        key = self._keys.owner(shard)
        await self._stop_shard(shard)
        fence = Unchanged(key, self.epochs.pop(shard))
        await self._committer.propose([fence], [Delete(key)])
        self._owners.pop(shard, None)
