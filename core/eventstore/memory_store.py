"""The key-value store in memory, for fast tests. One contract suite tests this store and etcd.

Each call first ends the expired leases; there is no timer.
"""

from __future__ import annotations

import asyncio
import math
import time
from bisect import bisect_left, bisect_right, insort
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from core.errors import Compacted, LeaseGone, StoreRejected, StoreUnavailable
from core.eventstore.kv import (
    FROM_NOW,
    NO_READS,
    REQUEST_BYTES_MAX,
    TXN_OPERATIONS_MAX,
    WATCH_PROGRESS_S,
    Absent,
    Delete,
    Get,
    Guard,
    IsWhole,
    KeyChange,
    KeyValue,
    NothingNewer,
    Put,
    RangeResult,
    ReadResult,
    TxnResult,
    Unchanged,
    WatchBatch,
    Write,
)

LEASE_TTL_S_MIN = 2
"""As in etcd with the default election timeout."""


class _Version(NamedTuple):
    """A key after a change; ``kv`` is None if the change deleted the key."""

    mod_revision: int
    kv: KeyValue | None


class _Lease:
    def __init__(self, ttl_s: int, ends_at: float) -> None:
        self.ttl_s = ttl_s
        self.ends_at = ends_at
        self.keys: set[bytes] = set()


class MemoryStore:
    """A ``KeyValueStore`` in memory. ``clock`` returns monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._revision = 1
        self._compacted = 1
        self._keys: list[bytes] = []
        self._versions: dict[bytes, list[_Version]] = {}
        self._log: list[WatchBatch] = []
        self._leases: dict[int, _Lease] = {}
        self._last_lease = 0
        self._watching: dict[asyncio.Event, int] = {}
        self._closed = False

    async def commit(
        self, guards: Sequence[Guard], writes: Sequence[Write], otherwise: Sequence[Get] = ()
    ) -> TxnResult:
        """See ``KeyValueStore``."""
        self._begin()
        _check_request(guards, writes, otherwise)
        if not all(self._holds(guard) for guard in guards):
            reads = {get: self._range(get, self._revision) for get in otherwise}
            return TxnResult(succeeded=False, revision=self._revision, reads=reads)
        for write in writes:
            if isinstance(write, Put) and write.lease and write.lease not in self._leases:
                raise LeaseGone(
                    "the store refuses the request: requested lease not found",
                    remedy="grant another lease and repeat the request with it",
                )
        self._apply(writes)
        return TxnResult(succeeded=True, revision=self._revision, reads=NO_READS)

    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        """See ``KeyValueStore``."""
        self._begin()
        _check_request((), (), gets)
        if revision > self._revision:
            raise _rejected("required revision is a future revision")
        if revision and revision < self._compacted:
            raise Compacted(self._compacted)
        at = revision or self._revision
        return ReadResult(at, tuple(self._range(get, at) for get in gets))

    async def watch(
        self,
        ranges: Sequence[tuple[bytes, bytes]],
        *,
        after: int,
        is_whole: IsWhole | None = None,  # unused: a batch always has all changes of its revision
    ) -> AsyncIterator[WatchBatch]:
        """Yield one batch per revision."""
        wake = asyncio.Event()
        position = self._revision if after == FROM_NOW else after
        if max(position, 1) < self._compacted:
            raise Compacted(self._compacted)
        try:
            if after == FROM_NOW:
                self._begin()
                self._watching[wake] = position
                yield WatchBatch(position, ())
            while True:
                self._begin()
                # As in etcd, ``compact`` keeps changes that an open watch has not delivered.
                self._watching[wake] = position
                wake.clear()
                newest = self._revision
                for batch in self._batches_after(position):
                    changes = tuple(
                        change for change in batch.changes if _within(change.key, ranges)
                    )
                    if changes:
                        position = batch.revision
                        self._watching[wake] = position
                        yield WatchBatch(position, changes)
                if newest > position:
                    position = newest
                    self._watching[wake] = position
                    yield WatchBatch(position, ())
                elif not await _woken(wake):
                    yield WatchBatch(position, ())
        finally:
            self._watching.pop(wake, None)

    async def grant_lease(self, ttl_s: int) -> int:
        """Grant a lease of at least ``LEASE_TTL_S_MIN`` seconds."""
        self._begin()
        ttl_s = max(ttl_s, LEASE_TTL_S_MIN)
        self._last_lease += 1
        self._leases[self._last_lease] = _Lease(ttl_s, self._clock() + ttl_s)
        return self._last_lease

    async def keep_lease(self, lease: int) -> int:
        """See ``KeyValueStore``."""
        self._begin()
        found_lease = self._leases.get(lease)
        if found_lease is None:
            return 0
        found_lease.ends_at = self._clock() + found_lease.ttl_s
        return found_lease.ttl_s

    async def lease_left_s(self, lease: int) -> int:
        """See ``KeyValueStore``."""
        self._begin()
        found_lease = self._leases.get(lease)
        return 0 if found_lease is None else max(int(found_lease.ends_at - self._clock()), 0)

    async def revoke_lease(self, lease: int) -> None:
        """See ``KeyValueStore``."""
        self._begin()
        self._end_lease(lease)

    async def compact(self, revision: int) -> None:
        """See ``KeyValueStore``."""
        self._begin()
        if revision > self._revision:
            raise _rejected("required revision is a future revision")
        if revision > self._compacted:
            self._compacted = revision
            self._delete_history()

    async def alarms(self) -> tuple[str, ...]:
        """Always empty."""
        self._begin()
        return ()

    @property
    def watches_are_current(self) -> bool:
        """Whether every open watch has returned all changes."""
        return all(position == self._revision for position in self._watching.values())

    async def close(self) -> None:
        """Later calls and open watches raise StoreUnavailable."""
        self._closed = True
        self._wake_watches()

    def expire(self) -> None:
        """End every expired lease, each in a separate revision."""
        now = self._clock()
        expired = [lease_id for lease_id, lease in self._leases.items() if lease.ends_at <= now]
        for lease_id in expired:
            self._end_lease(lease_id)

    def _begin(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store was closed", remedy="open a new store")
        self.expire()

    def _holds(self, guard: Guard) -> bool:
        match guard:
            case Absent(key):
                return self._at(key, self._revision) is None
            case Unchanged(key, mod_revision):
                kv = self._at(key, self._revision)
                return (kv.mod_revision if kv else 0) == mod_revision
            case NothingNewer(start, end, revision):
                return all(
                    kv.mod_revision <= revision for kv in self._live(start, end, self._revision)
                )

    def _at(self, key: bytes, revision: int) -> KeyValue | None:
        versions = self._versions.get(key, ())
        index = bisect_right(versions, revision, key=lambda version: version.mod_revision)
        return versions[index - 1].kv if index else None

    def _live(self, start: bytes, end: bytes, revision: int) -> Iterator[KeyValue]:
        first = bisect_left(self._keys, start)
        last = bisect_left(self._keys, end or start + b"\0")
        for key in self._keys[first:last]:
            kv = self._at(key, revision)
            if kv is not None:
                yield kv

    def _range(self, get: Get, revision: int) -> RangeResult:
        live = list(self._live(get.start, get.end, revision))
        if get.count_only:
            return RangeResult((), len(live), more=False)
        if get.oldest_first:
            live.sort(key=lambda kv: kv.mod_revision)
        kvs = live[: get.limit] if get.limit else live
        if get.keys_only:
            kvs = [kv._replace(value=b"") for kv in kvs]
        return RangeResult(tuple(kvs), len(live), more=len(kvs) < len(live))

    def _apply(self, writes: Sequence[Write]) -> None:
        revision = self._revision + 1
        changes: list[KeyChange] = []
        for write in writes:
            if isinstance(write, Put):
                changes.append(self._put(write, revision))
            else:
                found_kvs = list(self._live(write.start, write.end, self._revision))
                deleted = {change.key for change in changes}
                changes += [self._delete(kv, revision) for kv in found_kvs if kv.key not in deleted]
        if changes:
            self._revision = revision
            self._log.append(WatchBatch(revision, tuple(changes)))
            self._wake_watches()

    def _put(self, put: Put, revision: int) -> KeyChange:
        before = self._at(put.key, revision)
        created = before.create_revision if before else revision
        self._detach(before)
        if put.lease:
            self._leases[put.lease].keys.add(put.key)
        kv = KeyValue(put.key, put.value, created, revision, put.lease)
        if put.key not in self._versions:
            insort(self._keys, put.key)
        self._versions.setdefault(put.key, []).append(_Version(revision, kv))
        return KeyChange(put.key, put.value, revision)

    def _delete(self, kv: KeyValue, revision: int) -> KeyChange:
        self._detach(kv)
        self._versions[kv.key].append(_Version(revision, kv=None))
        return KeyChange(kv.key, value=None, mod_revision=revision)

    def _detach(self, kv: KeyValue | None) -> None:
        if kv is not None and kv.lease in self._leases:
            self._leases[kv.lease].keys.discard(kv.key)

    def _end_lease(self, lease: int) -> None:
        ended_lease = self._leases.pop(lease, None)
        if ended_lease is not None:
            self._apply([Delete(key) for key in sorted(ended_lease.keys)])

    def _batches_after(self, position: int) -> list[WatchBatch]:
        first = bisect_right(self._log, position, key=lambda batch: batch.revision)
        return self._log[first:]

    def _delete_history(self) -> None:
        watched = min(self._watching.values(), default=math.inf)
        deletable = bisect_right(
            self._log, min(watched, self._compacted), key=lambda entry: entry.revision
        )
        del self._log[:deletable]
        for key in list(self._versions):
            versions = self._versions[key]
            last = bisect_right(versions, self._compacted, key=lambda entry: entry.mod_revision) - 1
            if last >= 0 and versions[last].kv is None:
                last += 1
            del versions[: max(last, 0)]
            if not versions:
                del self._versions[key]
        self._keys = sorted(self._versions)

    def _wake_watches(self) -> None:
        for wake in self._watching:
            wake.set()


async def _woken(wake: asyncio.Event) -> bool:
    """Wait for a change; False after ``WATCH_PROGRESS_S`` without one."""
    try:
        async with asyncio.timeout(WATCH_PROGRESS_S):
            await wake.wait()
    except TimeoutError:
        return False
    return True


def _within(key: bytes, ranges: Sequence[tuple[bytes, bytes]]) -> bool:
    return any(start <= key < (end or start + b"\0") for start, end in ranges)


def _check_request(guards: Sequence[Guard], writes: Sequence[Write], gets: Sequence[Get]) -> None:
    longest = max(len(guards), len(writes), len(gets))
    if longest > TXN_OPERATIONS_MAX:
        raise _rejected(f"more than {TXN_OPERATIONS_MAX} operations of one kind: {longest}")
    size = sum(len(write.key) + len(write.value) for write in writes if isinstance(write, Put))
    if size > REQUEST_BYTES_MAX:
        raise _rejected(f"the request is too large: {size} bytes")
    keys = [guard.start if isinstance(guard, NothingNewer) else guard.key for guard in guards]
    keys += [write.key if isinstance(write, Put) else write.start for write in writes]
    if not all(keys) or not all(get.start for get in gets):
        raise _rejected("a key is empty")
    _check_puts(writes)


def _check_puts(writes: Sequence[Write]) -> None:
    puts = sorted(write.key for write in writes if isinstance(write, Put))
    ranges = [(write.start, write.end) for write in writes if isinstance(write, Delete)]
    twice = any(first == second for first, second in pairwise(puts))
    if twice or any(_within(key, ranges) for key in puts):
        raise _rejected("one key is written twice in a transaction")


def _rejected(reason: str) -> StoreRejected:
    return StoreRejected(
        f"the store refuses the request: {reason}",
        remedy="correct the request; a retry fails again",
    )
