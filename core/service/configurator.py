"""Commands about pools, reservations, quarantine and records: read, decide, commit under guards.

The read, the decision and the commit are one optimistic step. A pool or reservation changes the
guard key of its topic and family, so two overlapping pools can never be created at once; addresses
that a command gives up are guarded as a range of keys that may not have been touched since the read
(I2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from core.domain.address_set import AddressSet
from core.domain.addresses import Family, format_address
from core.domain.commands import Command
from core.domain.configuration import Configuration
from core.domain.decisions import decide, given_up
from core.domain.events import (
    AddressQuarantined,
    Cause,
    Event,
    PoolDefined,
    PoolDeleted,
    PoolRetired,
    QuarantineLifted,
    RecordDefined,
    RecordDeleted,
    ReservationDefined,
    ReservationDeleted,
)
from core.domain.evolution import Ledger, evolve_pool
from core.domain.model import Claim
from core.errors import LostRace
from core.store.batch import Lost, Proposal
from core.store.codec import CLAIM, POOL, QUARANTINE, RECORD, RESERVATION, Draft
from core.store.keys import Keys
from core.store.kv import Delete, Get, Guard, KeyValueStore, NothingNewer, Put, Write
from core.store.retrying import racing
from core.store.state import read_configuration
from core.store.writer import Writer

RANGE_GUARDS_MAX = 64
"""Intervals guarded one by one; more of them are guarded as one hull."""


class Applied(NamedTuple):
    """The events of a command; none: everything was so already."""

    events: tuple[Event, ...]
    revision: int


class _Effect(NamedTuple):
    """What one event writes: its own key, and the topic and family whose guard key it changes."""

    write: Write
    topic: str = ""
    family: Family = 4


class Configurator:
    """Applies commands."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        writer: Writer,
        *,
        ipv4_enabled: bool = True,
        ipv6_enabled: bool = True,
    ) -> None:
        self._store = store
        self._keys = keys
        self._writer = writer
        self._enabled = (ipv4_enabled, ipv6_enabled)

    async def apply(self, command: Command, cause: Cause) -> Applied:
        """Decide and commit. Raises Refused, StoreUnavailable, OutcomeUnknown, LostRace."""
        return await racing()(self._once, command, cause)

    async def dry_run(self, command: Command) -> tuple[Event, ...]:
        """The events the command would cause now; writes nothing. Raises Refused."""
        ledger, configuration = await self._read()
        claimed = await self._claimed(given_up(configuration, command), ledger.position)
        return decide(configuration, command, claimed)

    async def _once(self, command: Command, cause: Cause) -> Applied:
        ledger, configuration = await self._read()
        at = ledger.position
        leaving = given_up(configuration, command)
        events = decide(configuration, command, await self._claimed(leaving, at))
        if not events:
            return Applied((), at)
        effects = [self._effect(event, configuration) for event in events]
        guards: dict[Guard, None] = {}
        writes: dict[bytes, Write] = {}
        for effect in effects:
            key = effect.write.start if isinstance(effect.write, Delete) else effect.write.key
            writes[key] = effect.write
            guards[NothingNewer(key, key + b"\0", at)] = None
            if effect.topic:
                topic = self._keys.guard(effect.topic, effect.family)
                guards[NothingNewer(topic, topic + b"\0", at)] = None
                writes[topic] = Put(topic, b"")
        guards.update(dict.fromkeys(self._range_guards(leaving, at)))
        drafts = tuple(Draft(self._writer.event_id(), cause, event) for event in events)
        proposal = Proposal(drafts, tuple(guards), tuple(writes.values()))
        outcome = await self._writer.append(proposal)
        if isinstance(outcome, Lost):
            raise LostRace("the configuration changed meanwhile", subject=type(command).__name__)
        return Applied(events, outcome.revision)

    async def _read(self) -> tuple[Ledger, Configuration]:
        ledger = Ledger()
        await read_configuration(self._store, self._keys, ledger)
        configuration = Configuration(
            ledger.pools, ledger.reservations, ledger.quarantine, ledger.records, *self._enabled
        )
        return ledger, configuration

    async def _claimed(self, leaving: AddressSet | None, at: int) -> Mapping[str, Claim]:
        """Claims of the addresses that a command gives up."""
        if not leaving:
            return {}
        family = leaving.family
        get = Get(
            self._keys.ip(family, leaving.first()), self._keys.ip(family, leaving.last()) + b"\0"
        )
        found = (await self._store.read([get], revision=at)).ranges[0].kvs
        claims = {}
        for kv in found:
            value = self._keys.address_in(kv.key).value
            if value in leaving:
                claims[format_address(family, value)] = CLAIM.decode(kv.value)
        return claims

    def _range_guards(self, leaving: AddressSet | None, at: int) -> list[Guard]:
        if not leaving:
            return []
        intervals = list(leaving)
        if len(intervals) > RANGE_GUARDS_MAX:
            intervals = [(leaving.first(), leaving.last())]
        key = self._keys.ip
        family = leaving.family
        return [
            NothingNewer(key(family, first), key(family, last) + b"\0", at)
            for first, last in intervals
        ]

    def _effect(self, event: Event, configuration: Configuration) -> _Effect:
        keys = self._keys
        match event:
            case PoolDefined(pool):
                return _Effect(Put(keys.pool(pool.name), POOL.encode(pool)), "pools", pool.family)
            case PoolRetired(name):
                retired = evolve_pool(configuration.pools[name], event)
                assert retired is not None
                return _Effect(Put(keys.pool(name), POOL.encode(retired)), "pools", retired.family)
            case PoolDeleted(name):
                family = configuration.pools[name].family
                return _Effect(Delete(keys.pool(name)), "pools", family)
            case ReservationDefined(reservation):
                write = Put(keys.reservation(reservation.name), RESERVATION.encode(reservation))
                return _Effect(write, "reservations", reservation.family)
            case ReservationDeleted(name):
                family = configuration.reservations[name].family
                return _Effect(Delete(keys.reservation(name)), "reservations", family)
            case AddressQuarantined(quarantine):
                return _Effect(
                    Put(keys.quarantine_of(quarantine.address), QUARANTINE.encode(quarantine))
                )
            case QuarantineLifted(address):
                return _Effect(Delete(keys.quarantine_of(address)))
            case RecordDefined(kind, namespace, name):
                write = Put(keys.record(kind, namespace, name), RECORD.encode(event))
                return _Effect(write, "records")
            case RecordDeleted(kind, namespace, name):
                return _Effect(Delete(keys.record(kind, namespace, name)), "records")
            case _:
                raise AssertionError(f"not a configuration event: {type(event).__name__}")
