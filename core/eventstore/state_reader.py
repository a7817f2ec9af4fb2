"""Read the state keys of etcd into a ledger, at one revision.

The events of the log up to that revision must produce the same ledger (I5,
docs/contributing/architecture.md); ``orbctl verify`` checks this.

Undecodable keys and values are skipped, reported to ``faults`` and listed in
``Ledger.undecodable``. Check this set before you treat an object as missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Final, TypeVar

from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import format_address
from core.domain.evolution import EndpointKey, Ledger, RevisedClaim
from core.domain.fixed.fixed_address_owners import STATEFUL_SET, replica_of
from core.domain.model import Claim, Quarantine
from core.eventstore.codec import CLAIM_CODEC, ENDPOINT_CODEC, RECORD_CODEC, KeyKind
from core.eventstore.keys import Keys, key_text
from core.eventstore.kinds import (
    CLAIM_KEYS,
    CONFIGURATION_KINDS,
    ENDPOINT_KEYS,
    GUID_CLAIM_KEYS,
    POOL_KEYS,
    QUARANTINE_KEYS,
    RECORD_KEYS,
    RESERVATION_KEYS,
    SUBNET_KEYS,
)
from core.eventstore.kv import Get, KeyValue, KeyValueStore
from core.eventstore.undecodable_values import Faults
from core.process.python_garbage_collector import gc_paused

T = TypeVar("T")

STATE_KINDS = (*CONFIGURATION_KINDS, CLAIM_KEYS, ENDPOINT_KEYS, GUID_CLAIM_KEYS)

DECODED_AT_ONCE_MAX: Final = 2_000
"""After so many values (about 10 ms) other tasks run, such as lease renewals."""


async def read_configuration(
    store: KeyValueStore,
    keys: Keys,
    ledger: Ledger,
    *,
    revision: int = 0,
    faults: Faults | None = None,
) -> int:
    """Read the ``CONFIGURATION_KINDS`` into the ledger; return the revision."""
    gets = [Get(*kind.range(keys)) for kind in CONFIGURATION_KINDS]
    result = await store.read(gets, revision=revision)
    for answer in result.ranges:
        async for kvs in _parts(answer.kvs):
            add_configuration(keys, ledger, kvs, faults)
    ledger.position = result.revision
    return result.revision


def add_configuration(
    keys: Keys, ledger: Ledger, kvs: Sequence[KeyValue], faults: Faults | None = None
) -> None:
    """Add these keys to the ledger; ignore other kinds of keys."""
    decoder = _Decoder(keys, ledger, faults)
    ranges: dict[str, list[KeyValue]] = {kind.prefix: [] for kind in CONFIGURATION_KINDS}
    for kv in kvs:
        ranges.get(keys.prefix_of(kv.key), []).append(kv)
    ledger.pools.update(
        (pool.name, pool) for pool in decoder.all(POOL_KEYS, ranges[POOL_KEYS.prefix])
    )
    ledger.subnets.update(
        (subnet.name, subnet) for subnet in decoder.all(SUBNET_KEYS, ranges[SUBNET_KEYS.prefix])
    )
    for reservation in decoder.all(RESERVATION_KEYS, ranges[RESERVATION_KEYS.prefix]):
        ledger.reservations[reservation.name] = reservation
    for record in decoder.all(RECORD_KEYS, ranges[RECORD_KEYS.prefix]):
        ledger.records[record.kind, record.namespace, record.name] = record
    _keep_quarantined(keys, ledger, ranges[QUARANTINE_KEYS.prefix])
    for quarantine in decoder.all(QUARANTINE_KEYS, ranges[QUARANTINE_KEYS.prefix]):
        ledger.quarantine[quarantine.address] = quarantine


def _keep_quarantined(keys: Keys, ledger: Ledger, kvs: Iterable[KeyValue]) -> None:
    """Quarantine the address of each key, even if the value cannot be decoded."""
    for address in keys.addresses_in((kv.key for kv in kvs), "quarantine"):
        text = str(address)
        ledger.quarantine[text] = Quarantine(text, address.family, reason="cannot be read")


class _Decoder:
    def __init__(self, keys: Keys, ledger: Ledger, faults: Faults | None) -> None:
        self._keys = keys
        self._ledger = ledger
        self._faults = Faults(logged=False) if faults is None else faults

    def value(self, kind: KeyKind[T], kv: KeyValue) -> T | None:
        decoded = kind.read(self._keys, kv.key, kv.value, self._faults)
        if decoded is None:
            self._ledger.undecodable.add(key_text(self._keys, kv.key))
        return decoded

    def all(self, kind: KeyKind[T], kvs: Iterable[KeyValue]) -> Iterator[T]:
        for kv in kvs:
            decoded = self.value(kind, kv)
            if decoded is not None:
                yield decoded


async def read_claims(
    store: KeyValueStore, keys: Keys, addresses: AddressSet, *, revision: int = 0
) -> dict[str, Claim]:
    """The claims of these addresses, at one revision.

    Raises StoreUnavailable, Compacted. Raises LogCorrupt for an undecodable claim, because it still
    holds its address.
    """
    if not addresses:
        return {}
    family = addresses.family
    get = Get(keys.ip(family, addresses.first()), keys.ip(family, addresses.last()) + b"\0")
    kvs = (await store.read([get], revision=revision)).ranges[0].kvs
    claims = {}
    for kv in kvs:
        for _, value in keys.addresses_in([kv.key], "ip"):
            if value in addresses:
                claims[format_address(family, value)] = CLAIM_KEYS.decode(keys, kv.key, kv.value)
    return claims


async def read_ledger(
    store: KeyValueStore, keys: Keys, *, revision: int = 0, faults: Faults | None = None
) -> Ledger:
    """Read all state keys at one revision; 0: the newest. Raises Compacted."""
    ledger = Ledger()
    if faults is not None:
        faults.clear_kinds(*(kind.name for kind in STATE_KINDS))
    with gc_paused():
        at = await read_configuration(store, keys, ledger, revision=revision, faults=faults)
        # Concurrent reads: etcd reads one range while another answer is decoded.
        claims, endpoints, guids = await asyncio.gather(
            *(
                store.read([Get(*kind.range(keys))], revision=at)
                for kind in (CLAIM_KEYS, ENDPOINT_KEYS, GUID_CLAIM_KEYS)
            )
        )
        decoder = _Decoder(keys, ledger, faults)
        async for kvs in _parts(claims.ranges[0].kvs):
            for kv in kvs:
                claim = decoder.value(CLAIM_KEYS, kv)
                if claim is not None:
                    ledger.claims[keys.address_text_in(kv.key)] = RevisedClaim(
                        claim, kv.mod_revision
                    )
        async for kvs in _parts(endpoints.ranges[0].kvs):
            for endpoint in decoder.all(ENDPOINT_KEYS, kvs):
                ledger.endpoints[endpoint.key] = endpoint
        async for kvs in _parts(guids.ranges[0].kvs):
            for kv in kvs:
                if (holder := decoder.value(GUID_CLAIM_KEYS, kv)) is not None:
                    ledger.guids[keys.check_guid(kv.key)] = holder
    return ledger


async def _parts(kvs: Sequence[KeyValue]) -> AsyncIterator[Sequence[KeyValue]]:
    """Split keys into parts; other tasks run before each part."""
    for first in range(0, len(kvs), DECODED_AT_ONCE_MAX):
        await asyncio.sleep(0)
        yield kvs[first : first + DECODED_AT_ONCE_MAX]


async def read_endpoint(store: KeyValueStore, keys: Keys, key: EndpointKey) -> Ledger:
    """Read one endpoint with its claims and the records of its Pod, StatefulSet and node.

    The claims may be newer than the endpoint, so a release must name the claims' revisions (I3).
    Raises StoreUnavailable, and LogCorrupt if a value cannot be decoded.
    """
    ledger = Ledger()
    result = await store.read([Get(keys.endpoint(*key)), Get(keys.record("Pod", *key))])
    ledger.position = result.revision
    if not result.ranges[0].kvs:
        return ledger
    endpoint = ENDPOINT_CODEC.decode(result.ranges[0].kvs[0].value)
    ledger.endpoints[endpoint.key] = endpoint
    addresses = [address for address, _ in endpoint.addresses()]
    records = [Get(keys.record("Node", namespace="", name=endpoint.node))]
    replica = replica_of(endpoint.name)
    if replica is not None:
        records.append(Get(keys.record(STATEFUL_SET, endpoint.namespace, replica.stateful_set)))
    more = await store.read([*records, *(Get(keys.ip_of(address)) for address in addresses)])
    for answer in (result.ranges[1], *more.ranges[: len(records)]):
        for kv in answer.kvs:
            record = RECORD_CODEC.decode(kv.value)
            ledger.records[record.kind, record.namespace, record.name] = record
    for address, answer in zip(addresses, more.ranges[len(records) :], strict=True):
        for kv in answer.kvs:
            ledger.claims[address] = RevisedClaim(CLAIM_CODEC.decode(kv.value), kv.mod_revision)
    return ledger
