"""The key-value protocol: the operations of a store that the event log uses.

One contract suite tests both stores, etcd (``core.eventstore.etcd``) and ``memory_store``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

TXN_OPERATIONS_MAX = 128
"""Limit of each list (guards, writes, reads) of a transaction; etcd's default ``--max-txn-ops``."""

REQUEST_BYTES_MAX = 1_500_000
"""Just under etcd's default ``--max-request-bytes`` (1.5 MiB)."""

WATCH_PROGRESS_S = 7.0
"""Without changes for this time, a watch yields an empty batch."""

WATCH_SILENT_S_MAX = 15.0
"""Without a batch for this time, a watch's connection counts as dead."""

FROM_NOW: Final = -1
"""The value of ``after`` that starts a watch at the newest revision of the connected etcd member.

The first batch has this revision and no changes; the caller then reads the current state. This
is faster than a watch from an older revision, which etcd delays by up to 100 ms.
"""


class KeyValue(NamedTuple):
    """One key at one revision; ``lease`` 0: none."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int = 0


class Absent(NamedTuple):
    """Guard: the key does not exist."""

    key: bytes


class Unchanged(NamedTuple):
    """Guard: the key was last changed at ``mod_revision``; 0: the key does not exist."""

    key: bytes
    mod_revision: int


class NothingNewer(NamedTuple):
    """Guard: no existing key in [start, end) was written after ``revision``."""

    start: bytes
    end: bytes
    revision: int


Guard = Absent | Unchanged | NothingNewer


class Put(NamedTuple):
    """Write one key; with a ``lease``, etcd deletes the key when the lease ends."""

    key: bytes
    value: bytes
    lease: int = 0


class Delete(NamedTuple):
    """Delete one key, or with ``end`` every key in [start, end)."""

    start: bytes
    end: bytes = b""


Write = Put | Delete


class Get(NamedTuple):
    """Read one key, or with ``end`` the keys in [start, end), at most ``limit`` (0: all).

    The result is in key order; ``oldest_first`` sorts the whole range by ``mod_revision`` before
    ``limit`` applies.
    """

    start: bytes
    end: bytes = b""
    limit: int = 0
    keys_only: bool = False
    count_only: bool = False
    oldest_first: bool = False


class RangeResult(NamedTuple):
    """The answer of one ``Get``. ``count`` includes keys beyond ``limit``."""

    kvs: tuple[KeyValue, ...]
    count: int  # type: ignore[assignment]  # hides tuple.count, which is not called here
    more: bool

    @property
    def first(self) -> KeyValue | None:
        """The first key; None if there is no key."""
        return self.kvs[0] if self.kvs else None


class TxnResult(NamedTuple):
    """The result of a transaction.

    ``reads``: the answers to the reads ``otherwise``; empty after success.
    """

    succeeded: bool
    revision: int
    reads: Mapping[Get, RangeResult]


NO_READS: Final[Mapping[Get, RangeResult]] = MappingProxyType({})


class ReadResult(NamedTuple):
    """All ranges of one read, at one revision."""

    revision: int
    ranges: tuple[RangeResult, ...]


class KeyChange(NamedTuple):
    """One change of a key; ``value`` is None after a deletion."""

    key: bytes
    value: bytes | None
    mod_revision: int


class WatchBatch(NamedTuple):
    """Changes in order. After this batch the watch is complete up to ``revision``.

    A batch without changes reports progress. A batch may also contain newer revisions
    that ``is_whole`` accepted.
    """

    revision: int
    changes: tuple[KeyChange, ...]


IsWhole = Callable[[Sequence[KeyChange]], bool]
"""Whether these are all changes of their revision."""


class KeyValueStore(Protocol):
    """The store. Every call has a deadline. No call retries a write."""

    async def commit(
        self, guards: Sequence[Guard], writes: Sequence[Write], otherwise: Sequence[Get] = ()
    ) -> TxnResult:
        """Atomically apply all writes if all guards hold, else do the reads ``otherwise``.

        Raises OutcomeUnknown, StoreRejected; StoreUnavailable or StoreFull if nothing was written.
        """
        ...

    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        """Read all ranges at one revision; 0: the newest (linearizable).

        Raises StoreUnavailable, Compacted, StoreRejected.
        """
        ...

    def watch(
        self,
        ranges: Sequence[tuple[bytes, bytes]],
        *,
        after: int,
        is_whole: IsWhole | None = None,
    ) -> AsyncIterator[WatchBatch]:
        """Yield every change of the ranges after revision ``after``; resumes after a disconnect.

        etcd watches each range separately, so a revision is yielded only after etcd has confirmed
        that all its changes arrived. A revision that ``is_whole`` accepts is yielded at once,
        perhaps before older revisions of other ranges. Each range stays in order.

        Raises WatchTooFarBehind, and Compacted if changes after ``after`` were compacted.
        """
        ...

    async def grant_lease(self, ttl_s: int) -> int:
        """Grant a lease and return its id."""
        ...

    async def keep_lease(self, lease: int) -> int:
        """Renew the lease; return its remaining seconds, 0 if it has ended."""
        ...

    async def lease_left_s(self, lease: int) -> int:
        """The remaining seconds of the lease, without renewal; 0 if it has ended."""
        ...

    async def revoke_lease(self, lease: int) -> None:
        """End the lease, if it has not ended, and delete its keys."""
        ...

    async def compact(self, revision: int) -> None:
        """Discard the history before ``revision``; may be repeated."""
        ...

    async def alarms(self) -> tuple[str, ...]:
        """The alarms that prevent writes, such as NOSPACE. Raises StoreUnavailable."""
        ...

    async def close(self) -> None:
        """Close all connections; later calls raise StoreUnavailable."""
        ...


async def watch_value(store: KeyValueStore, key: bytes) -> AsyncGenerator[bytes | None, None]:
    """Yield the value of a key now and after each change; None for a missing key.

    Raises Compacted.
    """
    # The watch may start at an older revision than the read: skip changes that the read has.
    batches = store.watch([(key, key + b"\0")], after=FROM_NOW)
    await anext(batches)
    result = await store.read([Get(key)])
    stored = result.ranges[0].first
    yield stored.value if stored is not None else None
    async for batch in batches:
        for change in batch.changes:
            if change.mod_revision > result.revision:
                yield change.value
