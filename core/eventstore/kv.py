"""The key-value protocol: the operations of a store that the event log uses.

Two stores implement it, etcd (``core.eventstore.etcd``) and memory (``core.eventstore.memory``);
one contract suite tests both. Everything is plain data so that a transaction can be inspected,
logged and compared.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

TXN_OPERATIONS_MAX = 128
"""etcd's default ``--max-txn-ops``, the limit of guards, of writes and of failure reads each."""

REQUEST_BYTES_MAX = 1_500_000
"""Just under etcd's default ``--max-request-bytes`` (1.5 MiB)."""


WATCH_PROGRESS_S = 7.0
"""An idle watch yields a batch without changes this often, to show that it is alive."""

WATCH_SILENT_S_MAX = 15.0
"""A watch that yields nothing for this long is stale: its connection is dead or half open."""


FROM_NOW: Final = -1
"""Starts a watch at the newest revision, which the first batch has, without changes: what was
written up to it is to be read afterwards. It is the newest revision of the member of etcd that
serves the watch, which may be behind. etcd serves such a watch at once. A watch that starts at an
older revision waits for etcd's next pass over watches that are behind, up to 100 ms."""


class KeyValue(NamedTuple):
    """One key at one revision; ``lease`` 0 means none."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int = 0


class Absent(NamedTuple):
    """Guard: the key does not exist."""

    key: bytes


class Unchanged(NamedTuple):
    """Guard: the key's last change is exactly ``mod_revision``."""

    key: bytes
    mod_revision: int


class NothingNewer(NamedTuple):
    """Guard: no key in [start, end) was written after ``revision``; holds for an empty range."""

    start: bytes
    end: bytes
    revision: int


Guard = Absent | Unchanged | NothingNewer


class Put(NamedTuple):
    """Write one key; with a lease, etcd deletes the key when the lease ends."""

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

    In the order of the keys, or with ``oldest_first`` of their last changes; the limit then counts
    in that order. The store sorts the whole range for it.
    """

    start: bytes
    end: bytes = b""
    limit: int = 0
    keys_only: bool = False
    count_only: bool = False
    oldest_first: bool = False


class RangeResult(NamedTuple):
    """Answer of one ``Get``: ``count`` counts the whole range, also past ``limit``."""

    kvs: tuple[KeyValue, ...]
    count: int  # type: ignore[assignment]  # hides tuple.count, which is not called here
    more: bool

    @property
    def first(self) -> KeyValue | None:
        """The requested key, or the first of a range; None if it does not exist."""
        return self.kvs[0] if self.kvs else None


class TxnResult(NamedTuple):
    """``reads``: the answers of the failure branch, by their ``Get``; empty after success."""

    succeeded: bool
    revision: int
    reads: Mapping[Get, RangeResult]


NO_READS: Final[Mapping[Get, RangeResult]] = MappingProxyType({})


class ReadResult(NamedTuple):
    """All ranges of one read, at one ``revision``."""

    revision: int
    ranges: tuple[RangeResult, ...]


class KeyChange(NamedTuple):
    """One change of a watched key; ``value`` None means deleted."""

    key: bytes
    value: bytes | None
    mod_revision: int


class WatchBatch(NamedTuple):
    """Whole revisions up to ``revision``, in order; without changes it reports progress only.

    With ``is_whole``, changes may be newer than ``revision``, up to which the watch is complete.
    """

    revision: int
    changes: tuple[KeyChange, ...]


IsWhole = Callable[[Sequence[KeyChange]], bool]
"""Returns whether these changes of one revision are all changes of that revision."""


class KeyValueStore(Protocol):
    """The store. Every call has its own deadline; none retries a write."""

    async def commit(
        self, guards: Sequence[Guard], writes: Sequence[Write], otherwise: Sequence[Get] = ()
    ) -> TxnResult:
        """Apply all writes if all guards hold, else answer the reads ``otherwise``, atomically.

        Raises StoreUnavailable (nothing was written), OutcomeUnknown, StoreRejected.
        """
        ...

    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        """Read all ranges at one revision, the newest (linearizable) by default.

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

        ``after`` may be ``FROM_NOW``. Yields a batch without changes every ``WATCH_PROGRESS_S``
        while nothing changes.
        ``is_whole`` saves a request to the store for each revision: a revision that it accepts may
        be yielded before older ones of other ranges, in a batch with an older ``revision``. Raises
        Compacted when ``after`` is too old to resume from.
        """
        ...

    async def grant_lease(self, ttl_s: int) -> int:
        """Grant a lease of ``ttl_s`` seconds and return its id."""
        ...

    async def keep_lease(self, lease: int) -> int:
        """Renew the lease once; returns its remaining seconds, 0 if it has ended."""
        ...

    async def lease_left_s(self, lease: int) -> int:
        """The remaining seconds of a lease, which is not renewed; 0 if it has ended."""
        ...

    async def revoke_lease(self, lease: int) -> None:
        """End the lease and delete its keys; no error if it has ended already."""
        ...

    async def compact(self, revision: int) -> None:
        """Discard the history before ``revision``; no error if it was compacted already."""
        ...

    async def alarms(self) -> tuple[str, ...]:
        """The names of active alarms that prevent writes, such as NOSPACE.

        Raises StoreUnavailable.
        """
        ...

    async def close(self) -> None:
        """Release connections; calls after it raise StoreUnavailable."""
        ...


async def values(store: KeyValueStore, key: bytes) -> AsyncGenerator[bytes | None, None]:
    """The value of a key, then that of each change; None: it does not exist. Raises Compacted.

    A member of etcd that is behind starts the watch at an older revision than that of the read: its
    changes up to the read are left out.
    """
    batches = store.watch([(key, key + b"\0")], after=FROM_NOW)
    await anext(batches)
    result = await store.read([Get(key)])
    stored = result.ranges[0].first
    yield stored.value if stored is not None else None
    async for batch in batches:
        for change in batch.changes:
            if change.mod_revision > result.revision:
                yield change.value
