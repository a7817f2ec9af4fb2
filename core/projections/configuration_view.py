"""What an agent knows: the configuration, kept up to date by a watch.

Pools, subnets, reservations, quarantine and standalone records; never claims: five thousand agents
must not each receive every allocation. The view is a cache. Whoever decides takes one ``Snapshot``,
decides on it, and guards the decision with the revisions of that same snapshot, so that a stale
view costs a second try and never a wrong claim (I2). ``ready`` is false until the first
load is done.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from core.domain.address_set import AddressSet
from core.domain.configuration import offered
from core.domain.events import RecordDefined
from core.domain.model import Pool, Quarantine, Reservation, Subnet
from core.domain.selection.catalog import PoolCatalog
from core.errors import Compacted, NotReady, OrbweaverError
from core.store.codec import POOL, QUARANTINE, RECORD, RESERVATION, SUBNET
from core.store.keys import Keys
from core.store.kv import WATCH_SILENT_S_MAX, Get, KeyValueStore
from core.supervision import Supervisor, TaskSpec

K = TypeVar("K")
V = TypeVar("V")

ROOMS = ("pool", "subnet", "reservation", "quarantine", "record", "guard")
CATCH_UP_S_MAX = 5.0
"""How long a request waits for the view to see what a lost race has shown."""

TASK: Final = "configuration-view"
"""Its name at the supervisor."""

RELOAD_PAUSE_S = 0.5
"""Between two attempts to load again."""

_log: Final = logging.getLogger(__name__)


class HeldPool(NamedTuple):
    """A pool and the revision of its key: the guard of every claim in it."""

    pool: Pool
    revision: int


class Snapshot:
    """The configuration at one revision; its mappings never change once it is published."""

    __slots__ = (
        "_usable",
        "catalog",
        "guards",
        "pools",
        "quarantine",
        "records",
        "reservations",
        "revision",
        "subnets",
    )

    def __init__(self) -> None:
        self.revision = 0
        self.pools: dict[str, HeldPool] = {}
        self.subnets: dict[str, Subnet] = {}
        self.reservations: dict[str, Reservation] = {}
        self.quarantine: dict[str, Quarantine] = {}
        self.records: dict[tuple[str, str, str], RecordDefined] = {}
        self.guards: dict[bytes, int] = {}
        self.catalog = PoolCatalog({})
        self._usable: dict[str, AddressSet] = {}

    @property
    def changed_at(self) -> int:
        """The revision of the newest change of anything that has a guard key."""
        return max(self.guards.values(), default=0)

    def usable(self, name: str) -> AddressSet:
        """What may be handed out of the pool: not excluded, not reserved, not quarantined."""
        found = self._usable.get(name)
        if found is None:
            pool = self.pools[name].pool
            found = offered(pool, self.reservations, self.quarantine)
            self._usable[name] = found
        return found

    def successor(self) -> Snapshot:
        """A copy that may be changed until it is published."""
        copy = Snapshot()
        copy.revision = self.revision
        copy.pools = dict(self.pools)
        copy.subnets = dict(self.subnets)
        copy.reservations = dict(self.reservations)
        copy.quarantine = dict(self.quarantine)
        copy.records = dict(self.records)
        copy.guards = dict(self.guards)
        return copy


class ConfigurationView:
    """Watches the configuration; ``current`` is the newest snapshot.

    The task that follows runs under ``supervisor``, by default one of its own.
    """

    def __init__(
        self, store: KeyValueStore, keys: Keys, supervisor: Supervisor | None = None
    ) -> None:
        self._store = store
        self._keys = keys
        self._changed = asyncio.Condition()
        self._supervisor = supervisor or Supervisor()
        self._heard_at = -math.inf
        self.current = Snapshot()
        self.ready = False

    async def start(self) -> None:
        """Load once, then follow in the background. Raises StoreUnavailable."""
        await self._load()
        spec = TaskSpec(TASK, self._follow, age_s=self.age_s, stale_s=WATCH_SILENT_S_MAX)
        self._supervisor.start(spec)

    async def close(self) -> None:
        """Stop following."""
        await self._supervisor.end(TASK)

    def age_s(self) -> float:
        """Seconds since etcd last said how far it is."""
        return time.monotonic() - self._heard_at

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Return once ``condition`` holds for the newest snapshot; raises NotReady in time."""
        try:
            async with asyncio.timeout(CATCH_UP_S_MAX), self._changed:
                await self._changed.wait_for(condition)
        except TimeoutError:
            raise NotReady(
                f"the view stays at revision {self.current.revision}, behind what etcd has",
                subject="configuration view",
                remedy="check that the watch reaches etcd",
            ) from None

    async def beyond(self, snapshot: Snapshot) -> Snapshot:
        """Wait for another snapshot than this one, however long it takes."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.current is not snapshot)
        return self.current

    async def freshen(self) -> bool:
        """Catch up with what etcd has now; whether anything was new. Before saying no to anybody.

        Raises NotReady, StoreUnavailable.
        """
        found = (await self._store.read([Get(*self._keys.room("guard"))])).ranges[0].kvs
        newest = {kv.key: kv.mod_revision for kv in found}

        def is_behind() -> bool:
            return any(self.current.guards.get(key, 0) < newest[key] for key in newest)

        if not is_behind():
            return False
        await self.wait_for(lambda: not is_behind())
        return True

    async def _load(self) -> None:
        result = await self._store.read([Get(*self._keys.room(room)) for room in ROOMS])
        loaded = Snapshot()
        for found in result.ranges:
            for kv in found.kvs:
                self._put(loaded, kv.key, kv.value, kv.mod_revision)
        loaded.revision = result.revision
        self._heard_at = time.monotonic()
        await self._publish(loaded)
        self.ready = True

    async def _follow(self) -> None:
        rooms = [self._keys.room(room) for room in ROOMS]
        while True:
            try:
                async for batch in self._store.watch(rooms, after=self.current.revision):
                    self._heard_at = time.monotonic()
                    if not batch.changes:
                        self.current.revision = max(self.current.revision, batch.revision)
                        continue
                    following = self.current.successor()
                    for change in batch.changes:
                        self._put(following, change.key, change.value, change.mod_revision)
                    following.revision = batch.revision
                    await self._publish(following)
            except Compacted:
                self.ready = False
            except OrbweaverError as error:
                self._fail(error)
            await self._reload()

    async def _reload(self) -> None:
        """Load again, however long it takes: the agent stays up, not ready, without etcd.

        Nor does what only a person can mend end it (a right that was taken away, a value of a newer
        version): a view that has stopped would look like one of which nothing changes.
        """
        while not self.ready:
            try:
                await self._load()
            except OrbweaverError as error:
                self._fail(error)
                await asyncio.sleep(RELOAD_PAUSE_S)

    def _fail(self, error: OrbweaverError) -> None:
        self.ready = False
        _log.warning("the configuration is not followed: %s", error)

    def _put(self, into: Snapshot, key: bytes, value: bytes | None, revision: int) -> None:
        room, _, name = key[len(self._keys.root) :].decode().partition("/")
        match room:
            case "pool":
                held = None if value is None else HeldPool(POOL.decode(value), revision)
                _set(into.pools, name, held)
            case "subnet":
                _set(into.subnets, name, None if value is None else SUBNET.decode(value))
            case "reservation":
                _set(into.reservations, name, None if value is None else RESERVATION.decode(value))
            case "quarantine":
                address = str(self._keys.address_in(key))
                _set(into.quarantine, address, None if value is None else QUARANTINE.decode(value))
            case "record":
                path = self._keys.record_path(key)
                _set(into.records, path, None if value is None else RECORD.decode(value))
            case "guard":
                into.guards[key] = revision

    async def _publish(self, snapshot: Snapshot) -> None:
        snapshot.catalog = PoolCatalog({name: held.pool for name, held in snapshot.pools.items()})
        async with self._changed:
            self.current = snapshot
            self._changed.notify_all()


def _set(target: dict[K, V], key: K, value: V | None) -> None:
    if value is None:
        target.pop(key, None)
    else:
        target[key] = value
