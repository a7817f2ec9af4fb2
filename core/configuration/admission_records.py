"""Pending admissions in etcd: admitted objects that the log may not have yet.

A review by the webhook reads all admissions and then writes one. The write fails with LostRace if
another admission was written in between, even by another replica.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final, NamedTuple

from core.domain.configuration.admissions import PendingAdmission, extent_of
from core.domain.model import Pool, Subnet
from core.errors import LogCorrupt, LostRace, NotReady
from core.eventstore.codec import POOL_CODEC, SUBNET_CODEC, KeyKind, StateCodec, check_pool
from core.eventstore.keys import Keys
from core.eventstore.kv import Delete, Get, KeyValueStore, NothingNewer, Put

KEY_PREFIX: Final = "admitted"
PENDING_MAX: Final = 10_000
"""Limit for a cluster. Admissions accumulate while no controller is leader."""


def _check(admission: PendingAdmission) -> None:
    if (admission.pool is None) == (admission.subnet is None):
        raise ValueError("the admission must have exactly one of pool and subnet")
    check_pool(admission.value)


def _admission_key(keys: Keys, admission: PendingAdmission) -> bytes:
    return keys.admitted(admission.kind, admission.value.name, admission.review)


ADMISSION_CODEC: Final = StateCodec(PendingAdmission, _check)
ADMISSION_KEYS: Final[KeyKind[PendingAdmission]] = KeyKind(
    name="pending admission",
    prefix=KEY_PREFIX,
    decode=ADMISSION_CODEC.decode,
    readers=("controller",),
    remedy="delete the key; of two overlapping pools that are admitted then, the log refuses the"
    " later one",
    key_of=_admission_key,
)
_log: Final = logging.getLogger(__name__)


class AdmissionSnapshot(NamedTuple):
    """All pending admissions at ``revision``."""

    admissions: tuple[PendingAdmission, ...]
    revision: int


class AdmissionStore:
    """The pending admissions of one cluster."""

    def __init__(self, store: KeyValueStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys

    async def read(self) -> AdmissionSnapshot:
        """Read all pending admissions. Raises StoreError."""
        result = await self._store.read([Get(*self._keys.range_of(KEY_PREFIX))])
        admissions = []
        for kv in result.ranges[0].kvs:
            try:
                admissions.append(ADMISSION_KEYS.decode(self._keys, kv.key, kv.value))
            except LogCorrupt as error:
                _log.warning("pending admission ignored: %s; %s", error.message, error.remedy)
        return AdmissionSnapshot(tuple(admissions), result.revision)

    async def add(self, admission: PendingAdmission, since: AdmissionSnapshot) -> None:
        """Write an admission.

        Raises LostRace if another admission was written after ``since``, NotReady if
        ``PENDING_MAX`` admissions are pending, StoreError.
        """
        if len(since.admissions) >= PENDING_MAX:
            raise NotReady(
                f"{PENDING_MAX} admitted objects have not been written to the log yet",
                remedy="check that a controller is running and is leader",
            )
        guard = NothingNewer(*self._keys.range_of(KEY_PREFIX), since.revision)
        write = Put(_admission_key(self._keys, admission), ADMISSION_CODEC.encode(admission))
        if not (await self._store.commit([guard], [write])).succeeded:
            raise LostRace(
                "another object was admitted since the pending admissions were read",
                subject=f"{admission.kind}/{admission.value.name}",
                remedy="apply the object again",
            )

    async def remove(self, admission: PendingAdmission) -> None:
        """Delete an admission if it exists. Raises StoreError."""
        await self._store.commit([], [Delete(_admission_key(self._keys, admission))])

    async def remove_written(self, value: Pool | Subnet) -> None:
        """Delete the admissions of an object if the log has their addresses.

        Raises StoreError.
        """
        kind = "pool" if isinstance(value, Pool) else "subnet"
        result = await self._store.read([Get(*self._keys.range_of(KEY_PREFIX, kind, value.name))])
        for kv in result.ranges[0].kvs:
            try:
                admitted_value = ADMISSION_KEYS.decode(self._keys, kv.key, kv.value).value
            except LogCorrupt:
                continue
            if extent_of(admitted_value) == extent_of(value):
                await self._store.commit([], [Delete(kv.key)])

    async def in_log(self, admissions: Sequence[PendingAdmission]) -> list[PendingAdmission]:
        """The admissions whose object is in the log with the admitted addresses.

        Raises StoreError, LogCorrupt.
        """
        logged_admissions = []
        for admission in admissions:
            stored = await self._stored(admission)
            if stored is not None and extent_of(stored) == extent_of(admission.value):
                logged_admissions.append(admission)
        return logged_admissions

    async def _stored(self, admission: PendingAdmission) -> Pool | Subnet | None:
        name = admission.value.name
        key = self._keys.pool(name) if admission.pool is not None else self._keys.subnet(name)
        kv = (await self._store.read([Get(key)])).ranges[0].first
        if kv is None:
            return None
        stored: Pool | Subnet = (POOL_CODEC if admission.pool is not None else SUBNET_CODEC).decode(
            kv.value
        )
        return stored
