"""The writes of a configuration event: the state key, the index, and the guard key.

``core.domain.evolution`` computes the values of pools and subnets, here and for readers of the log
(I5 of docs/contributing/architecture.md). Every change in a topic writes the topic's guard key, so
that one of two concurrent decisions fails.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from core.domain.addresses.ip_address import Family, parse_address
from core.domain.configuration.configuration_state import Configuration
from core.domain.events import (
    AddressQuarantined,
    Event,
    PoolDefined,
    PoolDeleted,
    PoolRetired,
    QuarantineLifted,
    RecordDefined,
    RecordDeleted,
    ReservationDefined,
    ReservationDeleted,
    SubnetDefined,
    SubnetDeleted,
    SubnetRetired,
)
from core.domain.evolution import evolve_pool, evolve_subnet
from core.domain.model import Pool, Subnet
from core.eventstore.codec import (
    POOL_CODEC,
    QUARANTINE_CODEC,
    RECORD_CODEC,
    RESERVATION_CODEC,
    SUBNET_CODEC,
)
from core.eventstore.keys import Keys
from core.eventstore.kv import Delete, Put, Write
from core.eventstore.pool_index import Index

PoolEvent = PoolDefined | PoolRetired | PoolDeleted
SubnetEvent = SubnetDefined | SubnetRetired | SubnetDeleted


class Effect(NamedTuple):
    """The writes of an event. ``write``: the write of the state key.

    ``topic`` and ``family`` name the guard key to write; topic "" means none. Records have no
    family, and use the guard key of family 4.
    """

    write: Write
    topic: str = ""
    family: Family = 4
    index_writes: tuple[Write, ...] = ()


def effect_of(event: Event, configuration: Configuration, keys: Keys) -> Effect:
    """The writes of one event. ``configuration``: the state on which the event was decided."""
    match event:
        case PoolDefined() | PoolRetired() | PoolDeleted():
            return _pool_effect(event, configuration, keys)
        case SubnetDefined() | SubnetRetired() | SubnetDeleted():
            return _subnet_effect(event, configuration, keys)
        case ReservationDefined(reservation):
            write = Put(keys.reservation(reservation.name), RESERVATION_CODEC.encode(reservation))
            return Effect(write, "reservations", reservation.family)
        case ReservationDeleted(name):
            family = configuration.reservations[name].family
            return Effect(Delete(keys.reservation(name)), "reservations", family)
        case AddressQuarantined(quarantine):
            key = keys.quarantine_of(quarantine.address)
            return Effect(
                Put(key, QUARANTINE_CODEC.encode(quarantine)), "quarantine", quarantine.family
            )
        case QuarantineLifted(address):
            family = parse_address(address).family
            return Effect(Delete(keys.quarantine_of(address)), "quarantine", family)
        case RecordDefined(kind, namespace, name):
            write = Put(keys.record(kind, namespace, name), RECORD_CODEC.encode(event))
            return Effect(write, "records")
        case RecordDeleted(kind, namespace, name):
            return Effect(Delete(keys.record(kind, namespace, name)), "records")
        case _:
            raise AssertionError(f"not a configuration event: {type(event).__name__}")


def _pool_effect(event: PoolEvent, configuration: Configuration, keys: Keys) -> Effect:
    name = event.pool.name if isinstance(event, PoolDefined) else event.name
    before = configuration.pools.get(name)
    after = evolve_pool(before, event)
    key = keys.pool(name)
    write = Delete(key) if after is None else Put(key, POOL_CODEC.encode(after))
    return _indexed(write, "pools", keys, before, after)


def _subnet_effect(event: SubnetEvent, configuration: Configuration, keys: Keys) -> Effect:
    name = event.subnet.name if isinstance(event, SubnetDefined) else event.name
    before = configuration.subnets.get(name)
    after = evolve_subnet(before, event)
    key = keys.subnet(name)
    write = Delete(key) if after is None else Put(key, SUBNET_CODEC.encode(after))
    return _indexed(write, "subnets", keys, before, after)


def _indexed(
    write: Write,
    topic: Literal["pools", "subnets"],
    keys: Keys,
    before: Pool | Subnet | None,
    after: Pool | Subnet | None,
) -> Effect:
    family = _family(after, before)
    index = Index(keys, topic, family)
    old, new = index.entries(before), index.entries(after)
    deletes = [Delete(key) for key in old if key not in new]
    puts = [Put(key, value) for key, value in new.items() if old.get(key) != value]
    return Effect(write, topic, family, (*deletes, *puts))


def _family(after: Pool | Subnet | None, before: Pool | Subnet | None) -> Family:
    value = after or before
    assert value is not None, "the object exists neither before nor after the event"
    return value.family
