"""The key-value store on etcd (``core.eventstore.kv`` describes its guarantees).

A write is sent once, a read is linearizable, a watch loses no change.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence

from core.errors import OutcomeUnknown, StoreRejected, StoreUnavailable
from core.eventstore.etcd import message_conversion, messages, reads
from core.eventstore.etcd.calls import CallObserver, Calls
from core.eventstore.etcd.failures import CallFailed, CallState, read_error
from core.eventstore.etcd.settings import EtcdSettings
from core.eventstore.etcd.txn_encoder import encode_txn
from core.eventstore.etcd.watch import watch
from core.eventstore.full_etcd import store_full
from core.eventstore.kv import (
    Absent,
    Get,
    Guard,
    IsWhole,
    Put,
    ReadResult,
    TxnResult,
    Unchanged,
    WatchBatch,
    Write,
)

_LEASE_ID_BITS = 63  # etcd's lease ids are positive signed 64-bit integers


class EtcdStore:
    """A ``KeyValueStore``. Create the store inside its event loop. The first call connects."""

    def __init__(self, settings: EtcdSettings, observer: CallObserver | None = None) -> None:
        self._calls = Calls(settings, observer)

    @property
    def endpoint(self) -> str:
        """The current endpoint, ``host:port``."""
        return self._calls.endpoint

    async def commit(
        self, guards: Sequence[Guard], writes: Sequence[Write], otherwise: Sequence[Get] = ()
    ) -> TxnResult:
        """The transaction is sent once."""
        message_conversion.check_operations(guards, writes, otherwise)
        request = encode_txn(guards, writes, otherwise)
        try:
            return message_conversion.txn_result(await self._calls.once("txn", request), otherwise)
        except OutcomeUnknown as unknown:
            if unknown.is_full and await self._is_unwritten(guards, writes):
                raise store_full(self.endpoint) from unknown
            raise

    async def _is_unwritten(self, guards: Sequence[Guard], writes: Sequence[Write]) -> bool:
        """Whether etcd, which reported a full database, certainly did not apply the transaction.

        etcd may apply the transaction that fills the database, and still return an error. If a key
        that the transaction guards and writes is unchanged, the transaction was not applied.
        """
        written = {write.key for write in writes if isinstance(write, Put)}
        for guard in guards:
            if isinstance(guard, Absent | Unchanged) and guard.key in written:
                try:
                    stored = (await self.read([Get(guard.key)])).ranges[0].first
                except StoreUnavailable:
                    return False  # a failed read proves nothing
                expected = guard.mod_revision if isinstance(guard, Unchanged) else 0
                return (stored.mod_revision if stored is not None else 0) == expected
        return False

    async def alarms(self) -> tuple[str, ...]:
        """The names of active alarms, such as NOSPACE. Raises StoreUnavailable."""
        return message_conversion.alarm_names(
            await self._calls.repeat("status", messages.StatusRequest())
        )

    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        """Read all ranges at one revision; revision 0 means the newest."""
        return await reads.read(self._calls, gets, revision)

    def watch(
        self,
        ranges: Sequence[tuple[bytes, bytes]],
        *,
        after: int,
        is_whole: IsWhole | None = None,
    ) -> AsyncIterator[WatchBatch]:
        """See ``core.eventstore.etcd.watch``."""
        return watch(self._calls, ranges, after, is_whole)

    async def grant_lease(self, ttl_s: int) -> int:
        """The client chooses the id, so that the call can be repeated."""
        lease = secrets.randbits(_LEASE_ID_BITS) or 1
        request = messages.LeaseGrantRequest(TTL=ttl_s, ID=lease)
        try:
            await self._calls.repeat("grant", request)
        except StoreRejected as error:
            # An earlier attempt has granted the lease, but the answer was lost.
            if "lease already exists" not in error.message:
                raise
        return lease

    async def keep_lease(self, lease: int) -> int:
        """Renew the lease. Returns the remaining seconds; 0 if expired."""
        answer = await self._calls.repeat("keep", messages.LeaseKeepAliveRequest(ID=lease))
        remaining_s: int = answer.TTL
        return remaining_s

    async def lease_left_s(self, lease: int) -> int:
        """The remaining seconds of the lease; 0 if it has expired."""
        request = messages.LeaseTimeToLiveRequest(ID=lease)
        remaining_s: int = (await self._calls.repeat("time_to_live", request)).TTL
        return max(remaining_s, 0)

    async def revoke_lease(self, lease: int) -> None:
        """An expired lease is ignored."""
        try:
            await self._calls.repeat("revoke", messages.LeaseRevokeRequest(ID=lease))
        except StoreRejected as error:
            if "requested lease not found" not in error.message:
                raise

    async def compact(self, revision: int) -> None:
        """Discard the history before ``revision``, unless it is already discarded."""
        try:
            await self._calls.repeat("compact", messages.CompactionRequest(revision=revision))
        except CallFailed as failed:
            if failed.failure.state is not CallState.COMPACTED:
                raise read_error(failed.failure, self.endpoint) from failed

    async def close(self) -> None:
        """Calls in flight fail; later calls raise StoreUnavailable."""
        await self._calls.close()
