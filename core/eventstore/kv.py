"""The key-value protocol: what the event log needs of its store, and no more.

Two stores speak it, etcd (``core.eventstore.etcd``) and memory (``core.eventstore.memory``); one
contract suite runs over both. Everything is plain data so that a transaction can be inspected,
logged and compared. This module never talks to anything.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

TXN_OPERATIONS_MAX = 128
"""etcd's default ``--max-txn-ops``: the bound of guards, of writes and of failure reads alike."""

REQUEST_BYTES_MAX = 1_500_000
"""Just under etcd's default ``--max-request-bytes`` (1.5 MiB)."""


WATCH_PROGRESS_S = 7.0
"""An idle watch yields a batch without changes this often, so that its reader knows its age."""

WATCH_SILENT_S_MAX = 15.0
"""A watch that yields nothing for this long is stale: its connection is dead or half open."""


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
    """Guard: no key in [start, end) was written after ``revision``; true for an empty range."""

    start: bytes
    end: bytes
    revision: int


Guard = Absent | Unchanged | NothingNewer


class Put(NamedTuple):
    """Write one key; with a lease the key vanishes when the lease ends."""

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
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls here
    more: bool

    @property
    def first(self) -> KeyValue | None:
        """The key that was asked for, or the first of a range; None if there is none."""
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
    """Whole revisions up to ``revision``, in order; no changes means progress only.

    With ``is_whole`` changes may be newer than ``revision``, up to which nothing is missing.
    """

    revision: int
    changes: tuple[KeyChange, ...]


IsWhole = Callable[[Sequence[KeyChange]], bool]
"""Whether these changes of one revision, as far as they are known, are all that it has."""


class KeyValueStore(Protocol):
    """The store. Every call has a deadline of its own; none retries a write."""

    async def commit(
        self, guards: Sequence[Guard], writes: Sequence[Write], otherwise: Sequence[Get] = ()
    ) -> TxnResult:
        """Apply all writes if all guards hold, else answer ``otherwise``: one atomic step.

        Raises StoreUnavailable (nothing was written), OutcomeUnknown, StoreRejected.
        """
        ...

    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        """Read all ranges at one revision, the newest (linearizable) unless one is named.

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

        Yields a batch without changes every ``WATCH_PROGRESS_S`` while nothing changes.
        ``is_whole`` saves a question to the store for each revision: a revision that it accepts may
        come before older ones of other ranges, in a batch whose ``revision`` is an older one.
        Raises Compacted when ``after`` is too old to resume from.
        """
        ...

    async def grant_lease(self, ttl_s: int) -> int:
        """Make a lease of ``ttl_s`` seconds and return its id."""
        ...

    async def keep_lease(self, lease: int) -> int:
        """Renew the lease once; returns the seconds it now has, 0 when it is gone."""
        ...

    async def revoke_lease(self, lease: int) -> None:
        """End the lease and delete its keys; a lease that is gone already is fine."""
        ...

    async def compact(self, revision: int) -> None:
        """Forget history before ``revision``; compacting again is fine."""
        ...

    async def alarms(self) -> tuple[str, ...]:
        """The names of alarms that keep the store from working, as NOSPACE.

        Raises StoreUnavailable.
        """
        ...

    async def close(self) -> None:
        """Release connections; calls after it raise StoreUnavailable."""
        ...
