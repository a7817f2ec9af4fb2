"""What an agent knows: the configuration, kept up to date by a watch.

Never claims: five thousand agents must not each receive every allocation. The view is a cache with
a known revision, and every decision made on it is guarded by the revisions of the keys it used, so
a stale view costs a second try and never a wrong claim (I2). ``ready`` is false until the first
load is done.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from core.domain.address_set import AddressSet
from core.domain.configuration import usable
from core.domain.events import RecordDefined
from core.domain.model import Pool, Quarantine, Reservation
from core.domain.selection.catalog import PoolCatalog
from core.errors import Compacted, NotReady, StoreUnavailable
from core.store.codec import POOL, QUARANTINE, RECORD, RESERVATION
from core.store.keys import Keys
from core.store.kv import Get, KeyValueStore
from core.store.retrying import waiting_for_store

K = TypeVar("K")
V = TypeVar("V")

ROOMS = ("pool", "reservation", "quarantine", "record", "guard")
CATCH_UP_S_MAX = 5.0
"""How long a request waits for the view to reach a revision that a lost race has shown."""


class HeldPool(NamedTuple):
    """A pool and the revision of its key: the guard of every claim in it."""

    pool: Pool
    revision: int


class ConfigurationView:
    """Watches the configuration; reads are plain attribute look-ups."""

    def __init__(self, store: KeyValueStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._usable: dict[str, AddressSet] = {}
        self._catalog: PoolCatalog | None = None
        self.revision = 0
        self.ready = False
        self.pools: dict[str, HeldPool] = {}
        self.reservations: dict[str, Reservation] = {}
        self.quarantine: dict[str, Quarantine] = {}
        self.records: dict[tuple[str, str, str], RecordDefined] = {}
        self.guards: dict[bytes, int] = {}

    async def start(self) -> None:
        """Load once, then follow in the background. Raises StoreUnavailable."""
        await self._load()
        self._task = asyncio.create_task(self._follow(), name="configuration-view")

    async def close(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    @property
    def catalog(self) -> PoolCatalog:
        """The pools as selection wants them; rebuilt only after a change."""
        if self._catalog is None:
            self._catalog = PoolCatalog({name: held.pool for name, held in self.pools.items()})
        return self._catalog

    def usable(self, name: str) -> AddressSet:
        """What may be handed out of the pool: not excluded, not reserved, not quarantined."""
        found = self._usable.get(name)
        if found is None:
            pool = self.pools[name].pool
            set_aside = [q.address for q in self.quarantine.values() if q.family == pool.family]
            found = usable(pool, self.reservations)
            found -= AddressSet.from_items(set_aside, pool.family)
            self._usable[name] = found
        return found

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Return once the view shows what a lost race has shown; raises NotReady in time."""
        try:
            async with asyncio.timeout(CATCH_UP_S_MAX), self._changed:
                await self._changed.wait_for(condition)
        except TimeoutError:
            raise NotReady(
                f"the view stays at revision {self.revision}, behind what etcd has",
                subject="configuration view",
                remedy="check that the watch reaches etcd",
            ) from None

    async def freshen(self) -> bool:
        """Catch up with what etcd has now; whether anything was new. Before saying no to anybody.

        Raises NotReady, StoreUnavailable.
        """
        found = (await self._store.read([Get(*self._keys.room("guard"))])).ranges[0].kvs
        newest = {kv.key: kv.mod_revision for kv in found}

        def behind() -> bool:
            return any(self.guards.get(key, 0) < newest[key] for key in newest)

        if not behind():
            return False
        await self.wait_for(lambda: not behind())
        return True

    async def _load(self) -> None:
        gets = [Get(*self._keys.room(room)) for room in ROOMS]
        result = await self._store.read(gets)
        self.pools, self.reservations = {}, {}
        self.quarantine, self.records, self.guards = {}, {}, {}
        for found in result.ranges:
            for kv in found.kvs:
                self._put(kv.key, kv.value, kv.mod_revision)
        await self._advance(result.revision, changed=True)
        self.ready = True

    async def _follow(self) -> None:
        while True:
            try:
                rooms = [self._keys.room(room) for room in ROOMS]
                async for batch in self._store.watch(rooms, after=self.revision):
                    for change in batch.changes:
                        self._put(change.key, change.value, change.mod_revision)
                    await self._advance(batch.revision, changed=bool(batch.changes))
            except (Compacted, StoreUnavailable):
                self.ready = False
                await self._reload()

    async def _reload(self) -> None:
        """Load again, however long it takes: the agent stays up, not ready, without etcd."""
        while not self.ready:
            with contextlib.suppress(StoreUnavailable):
                async for attempt in waiting_for_store():
                    with attempt:
                        await self._load()

    def _put(self, key: bytes, value: bytes | None, revision: int) -> None:
        room, _, name = key[len(self._keys.root) :].decode().partition("/")
        match room:
            case "pool":
                held = None if value is None else HeldPool(POOL.decode(value), revision)
                _set(self.pools, name, held)
            case "reservation":
                _set(self.reservations, name, None if value is None else RESERVATION.decode(value))
            case "quarantine":
                address = str(self._keys.address_in(key))
                _set(self.quarantine, address, None if value is None else QUARANTINE.decode(value))
            case "record":
                kind, namespace, record = name.split("/")
                path = (kind, "" if namespace == "-" else namespace, record)
                _set(self.records, path, None if value is None else RECORD.decode(value))
            case "guard":
                self.guards[key] = revision

    async def _advance(self, revision: int, *, changed: bool) -> None:
        if changed:
            self._usable.clear()
            self._catalog = None
        async with self._changed:
            self.revision = max(self.revision, revision)
            self._changed.notify_all()


def _set(target: dict[K, V], key: K, value: V | None) -> None:
    if value is None:
        target.pop(key, None)
    else:
        target[key] = value
