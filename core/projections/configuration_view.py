"""An agent's view of the configuration, updated by a watch.

The view has no claims; else every allocation would go to thousands of agents. The view
may be stale. A decision's transaction checks the revisions of its
``ConfigurationSnapshot``, so a stale view causes a second try, not a wrong claim (invariant I2,
docs/contributing/architecture.md).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from typing import Final, NamedTuple, TypeVar

from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import Family
from core.domain.configuration.configuration_state import claimable_addresses
from core.domain.events import RecordDefined
from core.domain.model import Pool, Quarantine, Reservation, Subnet
from core.domain.selection.pool_catalog import PoolCatalog
from core.errors import Compacted, LogCorrupt, NotReady, OrbweaverError
from core.eventstore.keys import Keys, key_text
from core.eventstore.kinds import (
    GUARD_KEYS,
    POOL_KEYS,
    QUARANTINE_KEYS,
    RECORD_KEYS,
    RESERVATION_KEYS,
    SUBNET_KEYS,
)
from core.eventstore.kv import (
    WATCH_SILENT_S_MAX,
    Get,
    Guard,
    KeyChange,
    KeyValueStore,
    WatchBatch,
)
from core.eventstore.undecodable_values import ContainedFault, Faults
from core.process.retry import Backoff
from core.process.supervision import Supervisor, TaskSpec

K = TypeVar("K")
V = TypeVar("V")

PREFIXES = ("pool", "subnet", "reservation", "quarantine", "record", "guard")
"""The watched keys.

A command writes objects and the guard key of their topic, such as ``guard/pools/4``, in one
transaction. So the revision of the guard key is the revision of the topic's last command.
"""

GUARDED_PREFIXES: Final = {
    "pools": "pool",
    "subnets": "subnet",
    "reservations": "reservation",
    "quarantine": "quarantine",
    "records": "record",
}
"""Topic of a guard key -> the prefix of the topic's objects."""

CATCH_UP_S_MAX = 5.0
"""The longest wait of a request until the view has reached the revision of etcd."""

VIEW_TASK: Final = "configuration-view"

RELOAD_PAUSE_S = 0.5

_log: Final = logging.getLogger(__name__)


class StoredPool(NamedTuple):
    """A pool, and the revision of its key. The revision guards every claim in the pool."""

    pool: Pool
    revision: int


class UndecodableKey(NamedTuple):
    """A key whose value cannot be decoded, and its revision."""

    fault: ContainedFault
    revision: int


class ConfigurationSnapshot:
    """The configuration at one revision. Once published, it gets only a newer ``revision``.

    ``undecodable``: the keys whose values cannot be decoded, without the cluster's prefix.
    ``unknown_reservations``: undecodable reservations, which may reserve any address. While there
    is one, no address is allocated (I2, docs/contributing/decisions/0022).
    """

    def __init__(self) -> None:
        self.revision = 0
        self.pools: dict[str, StoredPool] = {}
        self.subnets: dict[str, Subnet] = {}
        self.reservations: dict[str, Reservation] = {}
        self.quarantine: dict[str, Quarantine] = {}
        self.records: dict[tuple[str, str, str], RecordDefined] = {}
        self.guards: dict[bytes, int] = {}
        self.undecodable: dict[str, UndecodableKey] = {}
        self.unknown_reservations: dict[str, ContainedFault] = {}
        self._usable: dict[str, AddressSet] = {}
        self.pool_guards: dict[tuple[str, Family], tuple[Guard, Guard]] = {}
        """(pool, family) -> the guards of every claim in the pool; filled by the allocator."""

    @cached_property
    def catalog(self) -> PoolCatalog:
        """The pools to select from; built on first use, because most snapshots are not used."""
        unreadable = {
            key.partition("/")[2]: undecodable.fault.why
            for key, undecodable in self.undecodable.items()
            if undecodable.fault.kind == POOL_KEYS.name
        }
        return PoolCatalog({name: stored.pool for name, stored in self.pools.items()}, unreadable)

    @property
    def newest_guard_revision(self) -> int:
        """The revision of the newest guard key."""
        return max(self.guards.values(), default=0)

    def usable(self, name: str) -> AddressSet:
        """The addresses of the pool that are not excluded, reserved or quarantined.

        Raises LogCorrupt while the reserved addresses are unknown.
        """
        fault = next(iter(self.unknown_reservations.values()), None)
        if fault is not None:
            raise LogCorrupt(
                f"IPPool {name} allocates no address: {fault.why}",
                subject=fault.key,
                remedy=fault.remedy,
            )
        usable = self._usable.get(name)
        if usable is None:
            pool = self.pools[name].pool
            usable = claimable_addresses(pool, self.reservations, self.quarantine)
            self._usable[name] = usable
        return usable

    def successor(self) -> ConfigurationSnapshot:
        """A copy that may be changed until it is published."""
        copy = ConfigurationSnapshot()
        copy.revision = self.revision
        copy.pools = dict(self.pools)
        copy.subnets = dict(self.subnets)
        copy.reservations = dict(self.reservations)
        copy.quarantine = dict(self.quarantine)
        copy.records = dict(self.records)
        copy.guards = dict(self.guards)
        copy.undecodable = dict(self.undecodable)
        copy.unknown_reservations = dict(self.unknown_reservations)
        return copy


class ConfigurationView:
    """Watches the configuration; ``current`` is the newest snapshot."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        supervisor: Supervisor | None = None,
        faults: Faults | None = None,
    ) -> None:
        self._store = store
        self._keys = keys
        self.faults = Faults() if faults is None else faults
        self._changes = _ChangeApplier(keys, self.faults)
        self._changed = asyncio.Condition()
        self._supervisor = supervisor or Supervisor()
        self._last_response = -math.inf
        self._loaded_revision = 0
        """The view has every change up to this revision."""

        self.current = ConfigurationSnapshot()
        self.ready = False

    async def start(self) -> None:
        """Load once, then start the watch in the background. Raises StoreUnavailable."""
        await self._load()
        spec = TaskSpec(VIEW_TASK, self._follow, age_s=self.age_s, stale_s=WATCH_SILENT_S_MAX)
        self._supervisor.start(spec)

    async def close(self) -> None:
        """End the watch."""
        await self._supervisor.end(VIEW_TASK)

    def age_s(self) -> float:
        """Seconds since the last response of etcd."""
        return time.monotonic() - self._last_response

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition`` holds. Raises NotReady after ``CATCH_UP_S_MAX``."""
        try:
            async with asyncio.timeout(CATCH_UP_S_MAX), self._changed:
                await self._changed.wait_for(condition)
        except TimeoutError:
            raise NotReady(
                f"the configuration of this agent is still older than in etcd after"
                f" {CATCH_UP_S_MAX:g} s: it is at revision {self.current.revision}",
                subject="configuration view",
                remedy="check the connection to etcd",
            ) from None

    async def next_snapshot(self, snapshot: ConfigurationSnapshot) -> ConfigurationSnapshot:
        """Wait without a time limit until ``current`` replaces ``snapshot``; return ``current``."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.current is not snapshot)
        return self.current

    async def freshen(self) -> bool:
        """Wait until the view has caught up with etcd; return whether it was behind.

        Call before a refusal: a newer configuration may allow the request. Raises NotReady,
        StoreUnavailable.
        """
        kvs = (await self._store.read([Get(*self._keys.range_of("guard"))])).ranges[0].kvs
        newest_revisions = {kv.key: kv.mod_revision for kv in kvs}

        def is_behind() -> bool:
            return any(
                self.current.guards.get(key, 0) < newest_revisions[key] for key in newest_revisions
            )

        if not is_behind():
            return False
        await self.wait_for(lambda: not is_behind())
        return True

    async def _load(self) -> None:
        result = await self._store.read([Get(*self._keys.range_of(prefix)) for prefix in PREFIXES])
        snapshot = ConfigurationSnapshot()
        # Reversed: guards are last in PREFIXES, and ``put`` reads the guards.
        for answer in reversed(result.ranges):
            for kv in answer.kvs:
                is_first_version = kv.create_revision == kv.mod_revision
                self._changes.put(
                    snapshot,
                    KeyChange(kv.key, kv.value, kv.mod_revision),
                    knows_previous=is_first_version,
                )
        snapshot.revision = self._loaded_revision = result.revision
        self._last_response = time.monotonic()
        await self._publish(snapshot)
        self.ready = True

    async def _follow(self) -> None:
        ranges = [self._keys.range_of(prefix) for prefix in PREFIXES]
        is_whole = partial(is_whole_command, self._keys)
        while True:
            try:
                batches = self._store.watch(ranges, after=self._loaded_revision, is_whole=is_whole)
                async for batch in batches:
                    await self._advance(batch)
            except Compacted:
                self.ready = False
            except OrbweaverError as error:
                self._note_failure(error)
            await self._reload()

    async def _advance(self, batch: WatchBatch) -> None:
        self._last_response = time.monotonic()
        self._loaded_revision = batch.revision
        if not batch.changes:
            self.current.revision = max(self.current.revision, batch.revision)
            return
        successor = self.current.successor()
        for change in self._changes.guards_first(batch.changes):
            self._changes.put(successor, change)
        successor.revision = max(batch.revision, batch.changes[-1].mod_revision)
        await self._publish(successor)

    async def _reload(self) -> None:
        """Load again until this succeeds; meanwhile the agent is not ready.

        Errors that only an administrator can correct are retried too: a view that has stopped would
        look like a configuration that does not change.
        """
        backoff = Backoff(RELOAD_PAUSE_S)
        while not self.ready:
            try:
                await self._load()
            except OrbweaverError as error:
                self._note_failure(error)
                await backoff.wait()

    def _note_failure(self, error: OrbweaverError) -> None:
        self.ready = False
        _log.warning("the watch of the configuration failed; the view may be stale: %s", error)

    async def _publish(self, snapshot: ConfigurationSnapshot) -> None:
        async with self._changed:
            self.current = snapshot
            self._changed.notify_all()


def is_whole_command(keys: Keys, changes: Iterable[KeyChange]) -> bool:
    """Whether ``changes`` are all changes of their revision under ``PREFIXES``.

    The changes under one prefix arrive together. A command changes both objects and their guard
    key, so if one is missing, further changes follow, or the change is manual.
    """
    changed_prefixes: set[str] = set()
    guarded_prefixes: set[str] = set()
    for change in changes:
        prefix, _, name = change.key[len(keys.root) :].partition(b"/")
        if prefix == b"guard":
            topic = name.partition(b"/")[0].decode("utf-8", "replace")
            guarded_prefixes.add(GUARDED_PREFIXES.get(topic, ""))
        else:
            changed_prefixes.add(prefix.decode("utf-8", "replace"))
    return changed_prefixes == guarded_prefixes


class _ChangeApplier:
    """Applies changes to a snapshot; leaves out and reports values that cannot be decoded."""

    def __init__(self, keys: Keys, faults: Faults) -> None:
        self._keys = keys
        self._faults = faults
        self._guards = keys.prefix("guard")

    def guards_first(self, changes: Sequence[KeyChange]) -> list[KeyChange]:
        """The changes with the guards first, because ``put`` reads the guards."""
        return sorted(changes, key=lambda change: not change.key.startswith(self._guards))

    def put(
        self, snapshot: ConfigurationSnapshot, change: KeyChange, *, knows_previous: bool = True
    ) -> None:
        """Apply one change.

        ``knows_previous``: false if the key has a previous value that the snapshot lacks.
        """
        key, value, revision = change
        text = key_text(self._keys, key)
        snapshot.undecodable.pop(text, None)
        was_unknown_reservation = snapshot.unknown_reservations.pop(text, None) is not None
        if value is None:
            self._faults.clear(text)
            self._remove(snapshot, key, text)
            return
        fault = self._decode_and_store(snapshot, key, value, revision)
        if fault is None:
            return
        snapshot.undecodable[text] = UndecodableKey(fault, revision)
        # An undecodable value of a manual change reserves no address; the previous value is kept.
        may_reserve = (
            was_unknown_reservation
            or not knows_previous
            or self._may_be_of_command(snapshot, revision)
        )
        if fault.kind == RESERVATION_KEYS.name and may_reserve:
            snapshot.unknown_reservations[text] = fault

    def _decode_and_store(
        self, snapshot: ConfigurationSnapshot, key: bytes, value: bytes, revision: int
    ) -> ContainedFault | None:
        """Store the decoded value, or return the fault of a value that cannot be decoded."""
        keys, faults = self._keys, self._faults
        text = key_text(keys, key)
        prefix, _, name = text.partition("/")
        match prefix:
            case "pool":
                pool = POOL_KEYS.read(keys, key, value, faults)
                _set_or_remove(snapshot.pools, name, pool and StoredPool(pool, revision))
            case "subnet":
                _set_or_remove(snapshot.subnets, name, SUBNET_KEYS.read(keys, key, value, faults))
            case "reservation":
                reservation = RESERVATION_KEYS.read(keys, key, value, faults)
                if reservation is not None:  # else the previous addresses stay reserved
                    snapshot.reservations[name] = reservation
            case "quarantine":
                self._store_quarantine(
                    snapshot, key, QUARANTINE_KEYS.read(keys, key, value, faults)
                )
            case "record":
                record = RECORD_KEYS.read(keys, key, value, faults)
                _set_or_remove(snapshot.records, _record_path(name), record)
            case "guard":
                snapshot.guards[key] = revision
                GUARD_KEYS.read(keys, key, value, faults)
        return faults.by_key.get(text)

    def _store_quarantine(
        self, snapshot: ConfigurationSnapshot, key: bytes, quarantine: Quarantine | None
    ) -> None:
        """Store a quarantine; if its value cannot be decoded, the address in the key is enough."""
        for address in self._keys.addresses_in([key], "quarantine"):
            text = str(address)
            snapshot.quarantine[text] = quarantine or Quarantine(
                text, address.family, reason="cannot be read"
            )

    def _remove(self, snapshot: ConfigurationSnapshot, key: bytes, text: str) -> None:
        prefix, _, name = text.partition("/")
        match prefix:
            case "pool":
                snapshot.pools.pop(name, None)
            case "subnet":
                snapshot.subnets.pop(name, None)
            case "reservation":
                snapshot.reservations.pop(name, None)
            case "quarantine":
                for address in self._keys.addresses_in([key], "quarantine"):
                    snapshot.quarantine.pop(str(address), None)
            case "record":
                snapshot.records.pop(_record_path(name), None)
            case "guard":
                snapshot.guards.pop(key, None)

    def _may_be_of_command(self, snapshot: ConfigurationSnapshot, revision: int) -> bool:
        """Whether a command, which also changes a guard key, may have written the reservation."""
        guards = (self._keys.guard("reservations", 4), self._keys.guard("reservations", 6))
        return any(snapshot.guards.get(guard, 0) >= revision for guard in guards)


def _record_path(key_suffix: str) -> tuple[str, str, str]:
    """Kind, namespace and name; the key has "-" for no namespace."""
    kind, _, path = key_suffix.partition("/")
    namespace, _, name = path.partition("/")
    return kind, "" if namespace == "-" else namespace, name


def _set_or_remove(target: dict[K, V], key: K, value: V | None) -> None:
    if value is None:
        target.pop(key, None)
    else:
        target[key] = value
