"""Reads the objects that are needed to decide a command, all at one revision.

For most commands, these are the named object and the objects that may overlap it. For a malformed
command, all objects are read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import chain, product
from typing import Final, NamedTuple

from core.configuration.indexer import build_index
from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import (
    Address,
    AddressSyntaxError,
    Cidr,
    Family,
    parse_address,
    parse_cidr,
)
from core.domain.autopools.pool_names import ApplicationKey, pool_name
from core.domain.autopools.pool_plan import NAMES_TRIED_MAX, DesiredPool
from core.domain.configuration.commands import (
    AdvanceRetirement,
    ApplyAutoPool,
    ApplyPool,
    ApplyRecord,
    ApplyReservation,
    ApplySubnet,
    Command,
    DeletePool,
    DeleteRecord,
    DeleteReservation,
    DeleteSubnet,
    DropAutoPool,
    LiftQuarantine,
    QuarantineAddress,
    Reinstate,
    RetirePool,
    RetireSubnet,
    ReturnAddress,
)
from core.domain.configuration.configuration_state import (
    Configuration,
    FeatureSwitches,
    pool_addresses,
)
from core.domain.evolution import Ledger
from core.domain.model import Pool, Subnet
from core.domain.name_syntax import SUBDOMAIN_CHARS_MAX, is_name
from core.domain.subnets.subnet_model import owner_subnet_name
from core.domain.validation.normalization import normalise_network
from core.eventstore.keys import Keys
from core.eventstore.kv import TXN_OPERATIONS_MAX, Get, KeyValueStore, RangeResult
from core.eventstore.pool_index import (
    COMPLETE_INDEX,
    FAMILIES,
    TOPICS,
    Index,
    IndexIncomplete,
    Topic,
)
from core.eventstore.state_reader import add_configuration, read_configuration

ALL_INDEXES: Final = tuple(product(TOPICS, FAMILIES))


class Scope(NamedTuple):
    """The objects that were read at ``position``.

    ``indexed``: the guard keys of the topics (pools or subnets) whose index is complete.
    ``undecodable``: keys whose values cannot be decoded.
    """

    position: int
    configuration: Configuration
    indexed: frozenset[bytes]
    undecodable: frozenset[str]


class _UnknownScope(Exception):
    """The command is malformed: all objects must be read."""


class ScopeReader:
    """Reads the scopes of commands."""

    def __init__(
        self, store: KeyValueStore, keys: Keys, switches: FeatureSwitches = FeatureSwitches()
    ) -> None:
        self._store = store
        self._keys = keys
        self._switches = switches

    async def read(self, command: Command, *, may_write: bool = True) -> Scope:
        """The scope of a command. Raises StoreUnavailable, OutcomeUnknown, LostRace.

        If an index is incomplete, it is built first; if ``may_write`` is False, all objects are
        read instead.
        """
        return await self._scope(lambda load: load.for_command(command), may_write=may_write)

    async def read_around(self, address: Address) -> Configuration:
        """The pools and subnets that may contain the address. Raises StoreUnavailable."""
        scope = await self._scope(lambda load: load.for_address(address), may_write=False)
        return scope.configuration

    async def read_application(
        self, application: ApplicationKey, subnets: Iterable[str]
    ) -> Configuration:
        """The application's automatic pools, and the objects for planning pools in ``subnets``.

        Raises the errors of ``read``.
        """
        names = tuple(subnets)
        scope = await self._scope(lambda load: load.for_application(application, names))
        return scope.configuration

    async def _scope(
        self, read: Callable[[_ScopeLoad], Awaitable[None]], *, may_write: bool = True
    ) -> Scope:
        while True:
            load = _ScopeLoad(self._store, self._keys)
            try:
                await read(load)
            except _UnknownScope:
                await load.all_objects()
            except IndexIncomplete as error:
                if may_write:
                    await build_index(self._store, self._keys, error.topic, error.family)
                    continue
                await load.all_objects()
            return Scope(
                load.ledger.position,
                Configuration.of(load.ledger, self._switches),
                frozenset(load.indexed),
                frozenset(load.ledger.undecodable),
            )


class _ScopeLoad:
    """Reads the objects of one scope, all at the revision of the first read."""

    def __init__(self, store: KeyValueStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self.ledger = Ledger()
        self.indexed: set[bytes] = set()

    async def for_command(self, command: Command) -> None:
        """Raises _UnknownScope, IndexIncomplete."""
        match command:
            case ApplyPool(pool):
                await self._for_pool(pool)
            case ApplySubnet(subnet):
                await self._for_subnet(subnet)
            case ApplyAutoPool(desired):
                await self._for_auto_pool(desired)
            case RetireSubnet(name) | DeleteSubnet(name) | AdvanceRetirement("subnet", name):
                await self._read_subnet_with_pools(name)
            case Reinstate("pool", name):
                await self._read(*self._get("pool", name))
                if name in self.ledger.pools:
                    await self._read(
                        *self._get("subnet", owner_subnet_name(self.ledger.pools[name]))
                    )
            case Reinstate("subnet", name):
                await self._read(*self._get("subnet", name))
            case _:
                await self._read(*self._get_object_of(command))

    async def all_objects(self) -> None:
        if not self.ledger.position:
            await self._read()
        await read_configuration(
            self._store, self._keys, self.ledger, revision=self.ledger.position
        )

    def _get_object_of(self, command: Command) -> Iterator[Get]:
        keys = self._keys
        match command:
            case RetirePool(name) | DeletePool(name) | DropAutoPool(name):
                yield from self._get("pool", name)
            case AdvanceRetirement(_, name):  # ``for_command`` handles subnets
                yield from self._get("pool", name)
            case DeleteReservation(name):
                yield from self._get("reservation", name)
            case ApplyReservation(reservation):
                yield from self._get("reservation", reservation.name)
            case ApplyRecord(record):
                if _can_be_keys(record.kind, record.namespace, record.name):
                    yield Get(keys.record(record.kind, record.namespace, record.name))
            case DeleteRecord(kind, namespace, name):
                if _can_be_keys(kind, namespace, name):
                    yield Get(keys.record(kind, namespace, name))
            case QuarantineAddress() | LiftQuarantine() | ReturnAddress():
                try:
                    yield Get(keys.quarantine(*parse_address(command.address)))
                except AddressSyntaxError:
                    return  # the decision refuses a malformed address
            case _:
                raise _UnknownScope

    async def _for_pool(self, desired: Pool) -> None:
        pool, cidr = _parsed_pool(desired)
        pools, subnets = self._index("pools", pool.family), self._index("subnets", pool.family)
        pool_gets = [*pools.overlapping(cidr), *pools.owners(pool_addresses(pool), cidr)]
        subnet_result, *results = await self._read(
            subnets.with_cidr(cidr), *pool_gets, *self._get("pool", pool.name)
        )
        self._require_complete(pools, subnets)
        await self._read_objects("subnet", subnets.names_in(subnet_result))
        await self._read_objects("pool", pools.names_in(*results[: len(pool_gets)]))

    async def _for_subnet(self, desired: Subnet) -> None:
        cidr, family = _cidr_of(desired), desired.family
        pools, subnets = self._index("pools", family), self._index("subnets", family)
        pool_gets = [pools.with_cidr(cidr), *pools.overlapping(cidr)]
        subnet_gets = [subnets.with_cidr(cidr), *subnets.overlapping(cidr)]
        results = await self._read(*pool_gets, *subnet_gets, *self._get("subnet", desired.name))
        self._require_complete(pools, subnets)
        await self._read_objects("pool", pools.names_in(*results[: len(pool_gets)]))
        subnet_results = results[len(pool_gets) :][: len(subnet_gets)]
        await self._read_objects("subnet", subnets.names_in(*subnet_results))

    async def _for_auto_pool(self, desired: DesiredPool) -> None:
        scope, keys = desired.scope, self._keys
        names = (
            pool_name(scope, desired.uid, attempt) for attempt in range(1, NAMES_TRIED_MAX + 1)
        )
        await self._read(
            *self._get("subnet", scope.subnet),
            *chain.from_iterable(self._get("pool", name) for name in names),
            Get(*keys.range_of("reservation")),
        )
        subnet = self.ledger.subnets.get(scope.subnet)
        if subnet is not None:
            await self._read_pools_and_quarantine(subnet)

    async def for_address(self, address: Address) -> None:
        family, value = address
        pools, subnets = self._index("pools", family), self._index("subnets", family)
        pool_gets = pools.owners(AddressSet.from_values((value,), family))
        results = await self._read(*pool_gets, *subnets.containing(value))
        self._require_complete(pools, subnets)
        await self._read_objects("pool", pools.names_in(*results[: len(pool_gets)]))
        await self._read_objects("subnet", subnets.names_in(*results[len(pool_gets) :]))

    async def for_application(self, application: ApplicationKey, subnets: Sequence[str]) -> None:
        indexes = self._index("pools", 4), self._index("pools", 6)
        results = await self._read(
            *(index.of_application(application) for index in indexes),
            Get(*self._keys.range_of("reservation")),
            *chain.from_iterable(self._get("subnet", name) for name in subnets),
        )
        self._require_complete(*indexes)
        for index, result in zip(indexes, results, strict=False):
            await self._read_objects("pool", index.names_in(result))
        for subnet in list(self.ledger.subnets.values()):
            await self._read_pools_and_quarantine(subnet)

    async def _read_pools_and_quarantine(self, subnet: Subnet) -> None:
        cidr, pools = _cidr_of(subnet), self._index("pools", subnet.family)
        self._require_complete(pools)
        *results, _ = await self._read(
            pools.with_cidr(cidr),
            *pools.overlapping(cidr),
            Get(
                self._keys.quarantine(subnet.family, cidr.first),
                self._keys.quarantine(subnet.family, cidr.last) + b"\0",
            ),
        )
        await self._read_objects("pool", pools.names_in(*results))

    async def _read_subnet_with_pools(self, name: str) -> None:
        await self._read(*self._get("subnet", name))
        subnet = self.ledger.subnets.get(name)
        if subnet is None:
            return
        pools = self._index("pools", subnet.family)
        self._require_complete(pools)
        results = await self._read(pools.with_cidr(_cidr_of(subnet)))
        await self._read_objects("pool", pools.names_in(*results))

    async def _read_objects(self, prefix: str, names: Iterable[str]) -> None:
        await self._read(*chain.from_iterable(self._get(prefix, name) for name in names))

    def _get(self, prefix: str, name: str) -> Iterator[Get]:
        if name and _can_be_keys(name):
            yield Get(self._keys.range_of(prefix)[0] + name.encode())

    def _index(self, topic: Topic, family: Family) -> Index:
        return Index(self._keys, topic, family)

    def _require_complete(self, *indexes: Index) -> None:
        for index in indexes:
            if self._keys.guard(index.topic, index.family) not in self.indexed:
                raise IndexIncomplete(index.topic, index.family)

    async def _read(self, *gets: Get) -> list[RangeResult]:
        """Add the objects to the ledger; the first read also finds the complete indexes."""
        if self.ledger.position:
            results = await self._read_ranges(gets)
        else:
            guard_keys = [self._keys.guard(*topic) for topic in ALL_INDEXES]
            results = await self._read_ranges([*gets, *map(Get, guard_keys)])
            for key, result in zip(guard_keys, results[len(gets) :], strict=True):
                # If the guard key does not exist, no object of the topic was ever written.
                if result.first is None or result.first.value == COMPLETE_INDEX:
                    self.indexed.add(key)
        for result in results[: len(gets)]:
            add_configuration(self._keys, self.ledger, result.kvs)
        return results[: len(gets)]

    async def _read_ranges(self, gets: Sequence[Get]) -> list[RangeResult]:
        results: list[RangeResult] = []
        for start in range(0, len(gets), TXN_OPERATIONS_MAX):
            batch = gets[start : start + TXN_OPERATIONS_MAX]
            response = await self._store.read(batch, revision=self.ledger.position)
            self.ledger.position = response.revision
            results += response.ranges
        return results


def _parsed_pool(desired: Pool) -> tuple[Pool, Cidr]:
    """The pool as it will be stored, and its CIDR. Raises _UnknownScope."""
    pool = normalise_network(desired)
    try:
        pool_addresses(pool)
    except AddressSyntaxError:
        raise _UnknownScope from None
    return pool, _cidr_of(pool)


def _cidr_of(value: Pool | Subnet) -> Cidr:
    """Raises _UnknownScope if the CIDR is not canonical."""
    try:
        cidr = parse_cidr(value.subnet)
    except AddressSyntaxError:
        raise _UnknownScope from None
    if (cidr.family, str(cidr)) != (value.family, value.subnet):
        raise _UnknownScope
    return cidr


def _can_be_keys(*texts: str) -> bool:
    return all(len(text) <= SUBDOMAIN_CHARS_MAX and is_name(text) for text in texts if text)
