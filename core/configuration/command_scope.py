"""Reads the objects that one command is decided on: by name, by CIDR, by address range.

The cost of a command depends on the objects it affects: the named one, and those that it may
overlap. A malformed command is decided on all objects. All reads are at one revision.
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
from core.domain.autopools.names import ApplicationKey, pool_name
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
from core.domain.names import SUBDOMAIN_CHARS_MAX, is_name
from core.domain.subnets.subnet_model import owner_of
from core.domain.validation.normalization import normalise_pool
from core.eventstore.index import COMPLETE, FAMILIES, TOPICS, Index, IndexIncomplete, Topic
from core.eventstore.keys import Keys
from core.eventstore.kv import TXN_OPERATIONS_MAX, Get, KeyValueStore, RangeResult
from core.eventstore.state import read_configuration, take_in

INDEXES: Final = tuple(product(TOPICS, FAMILIES))
"""Every (topic, family) that has an index."""


class Scope(NamedTuple):
    """What was read at ``position``.

    ``indexed``: guard keys of topics whose index is complete. ``unread``: keys that cannot be read
    (``Ledger.undecodable``).
    """

    position: int
    configuration: Configuration
    indexed: frozenset[bytes]
    unread: frozenset[str]


class _TooMuch(Exception):
    """The command is malformed, so its objects are unknown: decide it on all objects."""


class ScopeReader:
    """Reads scopes."""

    def __init__(
        self, store: KeyValueStore, keys: Keys, switches: FeatureSwitches = FeatureSwitches()
    ) -> None:
        self._store = store
        self._keys = keys
        self._switches = switches

    async def read(self, command: Command, *, may_write: bool = True) -> Scope:
        """The scope of a command. ``may_write`` False: with an incomplete index, read everything.

        Raises StoreUnavailable, OutcomeUnknown, LostRace.
        """
        return await self._scope(lambda loading: loading.load(command), may_write=may_write)

    async def read_around(self, address: Address) -> Configuration:
        """The pools and the subnet that may have an address. Raises StoreUnavailable."""
        scope = await self._scope(lambda loading: loading.around(address), may_write=False)
        return scope.configuration

    async def read_application(
        self, application: ApplicationKey, subnets: Iterable[str]
    ) -> Configuration:
        """An application's automatic pools, and what more may be planned in these subnets with.

        Raises as ``read`` does.
        """
        names = tuple(subnets)
        scope = await self._scope(lambda loading: loading.of_application(application, names))
        return scope.configuration

    async def _scope(
        self, load: Callable[[_Loading], Awaitable[None]], *, may_write: bool = True
    ) -> Scope:
        while True:
            loading = _Loading(self._store, self._keys)
            try:
                await load(loading)
            except _TooMuch:
                await loading.everything()
            except IndexIncomplete as missing:
                if may_write:
                    await build_index(self._store, self._keys, missing.topic, missing.family)
                    continue
                await loading.everything()
            return Scope(
                loading.ledger.position,
                Configuration.of(loading.ledger, self._switches),
                frozenset(loading.indexed),
                frozenset(loading.ledger.undecodable),
            )


class _Loading:
    """One scope while it is read; the first read sets the revision of all."""

    def __init__(self, store: KeyValueStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self.ledger = Ledger()
        self.indexed: set[bytes] = set()

    async def load(self, command: Command) -> None:
        """Read what the command needs. Raises _TooMuch, IndexIncomplete."""
        match command:
            case ApplyPool(pool):
                await self._around_pool(pool)
            case ApplySubnet(subnet):
                await self._around_subnet(subnet)
            case ApplyAutoPool(desired):
                await self._around_desired(desired)
            case RetireSubnet(name) | DeleteSubnet(name) | AdvanceRetirement("subnet", name):
                await self._subnet_with_pools(name)
            case Reinstate("pool", name):
                await self._read(*self._named("pool", name))
                if name in self.ledger.pools:
                    await self._read(*self._named("subnet", owner_of(self.ledger.pools[name])))
            case Reinstate("subnet", name):
                await self._read(*self._named("subnet", name))
            case _:
                await self._read(*self._one(command))

    async def everything(self) -> None:
        """The whole configuration, at the revision of the first read."""
        if not self.ledger.position:
            await self._read()
        await read_configuration(
            self._store, self._keys, self.ledger, revision=self.ledger.position
        )

    def _one(self, command: Command) -> Iterator[Get]:
        """The key of a command that is about one object alone."""
        keys = self._keys
        match command:
            case RetirePool(name) | DeletePool(name) | DropAutoPool(name):
                yield from self._named("pool", name)
            case AdvanceRetirement(_, name):
                yield from self._named("pool", name)
            case DeleteReservation(name):
                yield from self._named("reservation", name)
            case ApplyReservation(reservation):
                yield from self._named("reservation", reservation.name)
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
                    return  # refused by its text
            case _:
                raise _TooMuch

    async def _around_pool(self, desired: Pool) -> None:
        """The pool of this name, the subnet of its CIDR, and the pools that it may overlap."""
        pool, cidr = _read_well(desired)
        pools, subnets = self._index("pools", pool.family), self._index("subnets", pool.family)
        own = pool_addresses(pool)
        around = [*pools.overlapping(cidr), *pools.owners(own, cidr)]
        at_cidr, *answers = await self._read(
            subnets.named(cidr), *around, *self._named("pool", pool.name)
        )
        self._require(pools, subnets)
        await self._objects("subnet", subnets.names_in(at_cidr))
        await self._objects("pool", pools.names_in(*answers[: len(around)]))

    async def _around_subnet(self, desired: Subnet) -> None:
        """The subnet of this name, and what its CIDR overlaps."""
        cidr = _cidr_of(desired)
        pools, subnets = (
            self._index("pools", desired.family),
            self._index("subnets", desired.family),
        )
        in_pools, in_subnets = (
            [one.named(cidr), *one.overlapping(cidr)] for one in (pools, subnets)
        )
        answers = await self._read(*in_pools, *in_subnets, *self._named("subnet", desired.name))
        self._require(pools, subnets)
        await self._objects("pool", pools.names_in(*answers[: len(in_pools)]))
        others = answers[len(in_pools) :][: len(in_subnets)]
        await self._objects("subnet", subnets.names_in(*others))

    async def _around_desired(self, desired: DesiredPool) -> None:
        """The subnet of an automatic pool with its pools, reservations and quarantine."""
        scope, keys = desired.scope, self._keys
        tried = (pool_name(scope, desired.uid, n) for n in range(1, NAMES_TRIED_MAX + 1))
        await self._read(
            *self._named("subnet", scope.subnet),
            *chain.from_iterable(self._named("pool", name) for name in tried),
            Get(*keys.range_of("reservation")),
        )
        subnet = self.ledger.subnets.get(scope.subnet)
        if subnet is not None:
            await self._all_in(subnet)

    async def around(self, address: Address) -> None:
        """The pools that may have the address, and the subnets around it."""
        family, value = address
        pools, subnets = self._index("pools", family), self._index("subnets", family)
        owner_gets = pools.owners(AddressSet.from_values((value,), family))
        answers = await self._read(*owner_gets, *subnets.containing(value))
        self._require(pools, subnets)
        await self._objects("pool", pools.names_in(*answers[: len(owner_gets)]))
        await self._objects("subnet", subnets.names_in(*answers[len(owner_gets) :]))

    async def of_application(self, application: ApplicationKey, subnets: Sequence[str]) -> None:
        """Its automatic pools, these subnets with all their pools, reservations and quarantine."""
        both = self._index("pools", 4), self._index("pools", 6)
        answers = await self._read(
            *(pools.of_application(application) for pools in both),
            Get(*self._keys.range_of("reservation")),
            *chain.from_iterable(self._named("subnet", name) for name in subnets),
        )
        self._require(*both)
        for pools, names in zip(both, answers, strict=False):
            await self._objects("pool", pools.names_in(names))
        for subnet in list(self.ledger.subnets.values()):
            await self._all_in(subnet)

    async def _all_in(self, subnet: Subnet) -> None:
        """Every pool that its CIDR overlaps, and the quarantine there."""
        cidr, pools = _cidr_of(subnet), self._index("pools", subnet.family)
        self._require(pools)
        *answers, _ = await self._read(
            pools.named(cidr),
            *pools.overlapping(cidr),
            Get(
                self._keys.quarantine(subnet.family, cidr.first),
                self._keys.quarantine(subnet.family, cidr.last) + b"\0",
            ),
        )
        await self._objects("pool", pools.names_in(*answers))

    async def _subnet_with_pools(self, name: str) -> None:
        """A subnet and the pools that belong to it: those of its CIDR."""
        await self._read(*self._named("subnet", name))
        subnet = self.ledger.subnets.get(name)
        if subnet is None:
            return
        pools = self._index("pools", subnet.family)
        self._require(pools)
        found = await self._read(pools.named(_cidr_of(subnet)))
        await self._objects("pool", pools.names_in(*found))

    async def _objects(self, prefix: str, names: Iterable[str]) -> None:
        await self._read(*chain.from_iterable(self._named(prefix, name) for name in names))

    def _named(self, prefix: str, name: str) -> Iterator[Get]:
        """The key of an object; none for a name that nothing can have."""
        if name and _can_be_keys(name):
            yield Get(self._keys.range_of(prefix)[0] + name.encode())

    def _index(self, topic: Topic, family: Family) -> Index:
        return Index(self._keys, topic, family)

    def _require(self, *indexes: Index) -> None:
        """Raises IndexIncomplete."""
        for one in indexes:
            if self._keys.guard(one.topic, one.family) not in self.indexed:
                raise IndexIncomplete(one.topic, one.family)

    async def _read(self, *gets: Get) -> list[RangeResult]:
        """Read all ranges at one revision, and add the configuration among them."""
        if self.ledger.position:
            answers = await self._read_all(gets)
        else:
            guarded = [self._keys.guard(*topic) for topic in INDEXES]
            answers = await self._read_all([*gets, *map(Get, guarded)])
            for key, answer in zip(guarded, answers[len(gets) :], strict=True):
                # Without the key there never was anything that the index could lack.
                if answer.first is None or answer.first.value == COMPLETE:
                    self.indexed.add(key)
        for answer in answers[: len(gets)]:
            take_in(self._keys, self.ledger, answer.kvs)
        return answers[: len(gets)]

    async def _read_all(self, gets: Sequence[Get]) -> list[RangeResult]:
        answers: list[RangeResult] = []
        for start in range(0, len(gets), TXN_OPERATIONS_MAX):
            some = gets[start : start + TXN_OPERATIONS_MAX]
            found = await self._store.read(some, revision=self.ledger.position)
            self.ledger.position = found.revision
            answers += found.ranges
        return answers


def _read_well(desired: Pool) -> tuple[Pool, Cidr]:
    """The pool as it is to be stored, and its CIDR. Raises _TooMuch for an unparsable text."""
    pool = normalise_pool(desired)
    try:
        pool_addresses(pool)
    except AddressSyntaxError:
        raise _TooMuch from None
    return pool, _cidr_of(pool)


def _cidr_of(value: Pool | Subnet) -> Cidr:
    """Its canonical CIDR. Raises _TooMuch."""
    try:
        cidr = parse_cidr(value.subnet)
    except AddressSyntaxError:
        raise _TooMuch from None
    if (cidr.family, str(cidr)) != (value.family, value.subnet):
        raise _TooMuch
    return cidr


def _can_be_keys(*texts: str) -> bool:
    """Whether an object may have these names; a namespace may be empty."""
    return all(len(text) <= SUBDOMAIN_CHARS_MAX and is_name(text) for text in texts if text)
