"""The state keys as a ledger: what etcd says is true, at one revision.

By I5 this equals the fold of the log up to that revision; ``orbctl verify`` compares the two. A
projection starts from here and then follows the log. This module only reads.
"""

from __future__ import annotations

import asyncio

from core.domain.address_set import AddressSet
from core.domain.addresses import format_address
from core.domain.evolution import EndpointKey, Held, Ledger
from core.domain.fixed.kinds import STATEFUL_SET, replica_of
from core.domain.model import Claim
from core.store.codec import CLAIM, ENDPOINT, POOL, QUARANTINE, RECORD, RESERVATION, SUBNET
from core.store.collector import collector_paused
from core.store.keys import Keys
from core.store.kv import Get, KeyValueStore


async def read_configuration(
    store: KeyValueStore, keys: Keys, ledger: Ledger, *, revision: int = 0
) -> int:
    """Fill in everything but claims and endpoints; returns the revision read at."""
    rooms = ("pool", "reservation", "quarantine", "record", "subnet")
    result = await store.read([Get(*keys.room(room)) for room in rooms], revision=revision)
    pools, reservations, quarantines, records, subnets = (found.kvs for found in result.ranges)
    for kv in pools:
        pool = POOL.decode(kv.value)
        ledger.pools[pool.name] = pool
    for kv in reservations:
        reservation = RESERVATION.decode(kv.value)
        ledger.reservations[reservation.name] = reservation
    for kv in quarantines:
        quarantine = QUARANTINE.decode(kv.value)
        ledger.quarantine[quarantine.address] = quarantine
    for kv in records:
        record = RECORD.decode(kv.value)
        ledger.records[record.kind, record.namespace, record.name] = record
    for kv in subnets:
        subnet = SUBNET.decode(kv.value)
        ledger.subnets[subnet.name] = subnet
    ledger.position = result.revision
    return result.revision


async def read_claims(
    store: KeyValueStore, keys: Keys, addresses: AddressSet, *, revision: int = 0
) -> dict[str, Claim]:
    """The claims of these addresses, at one revision. Raises StoreUnavailable, Compacted."""
    if not addresses:
        return {}
    family = addresses.family
    get = Get(keys.ip(family, addresses.first()), keys.ip(family, addresses.last()) + b"\0")
    found = (await store.read([get], revision=revision)).ranges[0].kvs
    claims = {}
    for kv in found:
        value = keys.address_in(kv.key).value
        if value in addresses:
            claims[format_address(family, value)] = CLAIM.decode(kv.value)
    return claims


async def read_ledger(store: KeyValueStore, keys: Keys, *, revision: int = 0) -> Ledger:
    """Everything, at one revision (the newest unless one is named). Raises Compacted."""
    ledger = Ledger()
    with collector_paused():
        at = await read_configuration(store, keys, ledger, revision=revision)
        # Both at once: while one is decoded, etcd reads the other.
        claims, endpoints = await asyncio.gather(
            *(store.read([Get(*keys.room(room))], revision=at) for room in ("ip", "endpoint"))
        )
        for kv in claims.ranges[0].kvs:
            held = Held(CLAIM.decode(kv.value), kv.mod_revision)
            ledger.claims[keys.address_text_in(kv.key)] = held
        for kv in endpoints.ranges[0].kvs:
            endpoint = ENDPOINT.decode(kv.value)
            ledger.endpoints[endpoint.key] = endpoint
    return ledger


async def read_endpoint(store: KeyValueStore, keys: Keys, key: EndpointKey) -> Ledger:
    """One endpoint, with its claims and the records of its Pod, owner and node; else nothing.

    The claims may be newer than the endpoint: whoever acts on them names their revisions (I3).
    Raises StoreUnavailable.
    """
    ledger = Ledger()
    found = await store.read([Get(keys.endpoint(*key)), Get(keys.record("Pod", *key))])
    ledger.position = found.revision
    if not found.ranges[0].kvs:
        return ledger
    endpoint = ENDPOINT.decode(found.ranges[0].kvs[0].value)
    ledger.endpoints[endpoint.key] = endpoint
    addresses = [address for address, _ in endpoint.addresses()]
    records = [Get(keys.record("Node", "", endpoint.node))]
    replica = replica_of(endpoint.name)
    if replica is not None:
        records.append(Get(keys.record(STATEFUL_SET, endpoint.namespace, replica.stateful_set)))
    more = await store.read([*records, *(Get(keys.ip_of(address)) for address in addresses)])
    for one in (found.ranges[1], *more.ranges[: len(records)]):
        for kv in one.kvs:
            record = RECORD.decode(kv.value)
            ledger.records[record.kind, record.namespace, record.name] = record
    for address, one in zip(addresses, more.ranges[len(records) :], strict=True):
        for kv in one.kvs:
            ledger.claims[address] = Held(CLAIM.decode(kv.value), kv.mod_revision)
    return ledger
