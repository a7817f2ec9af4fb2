"""Compares the state keys in etcd with a ledger: the state that the log implies.

An undecodable value or a malformed key is reported like any other difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from core.domain.addresses.ip_address import AddressSyntaxError
from core.domain.evolution import Ledger
from core.domain.sriov.guid_decisions import guids_by_node
from core.errors import LogCorrupt
from core.eventstore.codec import (
    CLAIM_CODEC,
    ENDPOINT_CODEC,
    GUID_CLAIM_CODEC,
    NODE_GUIDS_CODEC,
    POOL_CODEC,
    QUARANTINE_CODEC,
    RECORD_CODEC,
    RESERVATION_CODEC,
    SUBNET_CODEC,
    StateCodec,
)
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValue, KeyValueStore

STATE_CODECS: Final[Mapping[str, StateCodec[Any]]] = {
    "subnet": SUBNET_CODEC,
    "pool": POOL_CODEC,
    "reservation": RESERVATION_CODEC,
    "quarantine": QUARANTINE_CODEC,
    "record": RECORD_CODEC,
    "ip": CLAIM_CODEC,
    "endpoint": ENDPOINT_CODEC,
    "guid": GUID_CLAIM_CODEC,
    "node-guids": NODE_GUIDS_CODEC,
}
"""By the prefix of the state key. Differences are listed in this order."""


class Unreadable(NamedTuple):
    """A value that cannot be decoded, and the reason."""

    why: str

    def __str__(self) -> str:
        return f"a value that cannot be decoded ({self.why})"


class Expected(NamedTuple):
    """The value that the log implies for a key.

    ``revision``: the revision that the key of a claim must have; 0: any revision.
    """

    kind: str
    value: object
    revision: int = 0


class Difference(NamedTuple):
    """A key whose value or revision differs from the log; ``kind`` is the key's prefix.

    ``expected`` None: the log implies no key. ``found`` None: etcd has no key.
    ``expected_revision`` 0: any revision.
    """

    kind: str
    key: bytes
    name: str
    expected: object | None
    found: object | None
    expected_revision: int = 0
    found_revision: int = 0

    def __str__(self) -> str:
        if self.expected is None:
            return f"{self.kind} {self.name}: no event in the log, found {self.found}"
        if self.found is None:
            return f"{self.kind} {self.name}: missing, the log has {self.expected}"
        if self.expected == self.found:
            revisions = f"revision {self.found_revision}, the log has {self.expected_revision}"
            return f"{self.kind} {self.name}: was written again at {revisions}"
        return f"{self.kind} {self.name}: found {self.found}, the log has {self.expected}"


State = Mapping[bytes, KeyValue]


async def read_state(store: KeyValueStore, keys: Keys, revision: int) -> State:
    """Every state key as of a revision. Raises Compacted, StoreUnavailable."""
    kvs: dict[bytes, KeyValue] = {}
    for prefix in STATE_CODECS:
        result = await store.read([Get(*keys.range_of(prefix))], revision=revision)
        kvs.update((kv.key, kv) for kv in result.ranges[0].kvs)
    return kvs


def compare(ledger: Ledger, state: State, keys: Keys) -> list[Difference]:
    """Differences between state and ledger, ordered by prefix and key."""
    expected = dict(expected_state(ledger, keys))
    differences = [
        _difference(key, item, state.get(key), keys)
        for key, item in expected.items()
        if not _agrees(item, state.get(key))
    ]
    unexpected_kvs = [kv for key, kv in state.items() if key not in expected]
    differences += [_difference(kv.key, expected=None, kv=kv, keys=keys) for kv in unexpected_kvs]
    kinds = list(STATE_CODECS)
    differences.sort(key=lambda item: (kinds.index(item.kind), item.key))
    return differences


def expected_state(ledger: Ledger, keys: Keys) -> Iterator[tuple[bytes, Expected]]:
    """The state keys and values that the ledger implies."""
    for subnet in ledger.subnets.values():
        yield keys.subnet(subnet.name), Expected("subnet", subnet)
    for pool in ledger.pools.values():
        yield keys.pool(pool.name), Expected("pool", pool)
    for reservation in ledger.reservations.values():
        yield keys.reservation(reservation.name), Expected("reservation", reservation)
    for path, record in ledger.records.items():
        yield keys.record(*path), Expected("record", record)
    for endpoint in ledger.endpoints.values():
        yield keys.endpoint(*endpoint.key), Expected("endpoint", endpoint)
    for address, ledger_claim in ledger.claims.items():
        yield from _expected_of_address(
            address, Expected("ip", ledger_claim.claim, ledger_claim.revision), keys
        )
    for address, quarantine in ledger.quarantine.items():
        yield from _expected_of_address(address, Expected("quarantine", quarantine), keys)
    for guid, holder in ledger.guids.items():
        yield keys.guid(guid), Expected("guid", holder)
    for node in guids_by_node(ledger.guids):
        yield keys.node_guids(node.node), Expected("node-guids", node)


def _expected_of_address(
    address: str, expected: Expected, keys: Keys
) -> Iterator[tuple[bytes, Expected]]:
    try:
        key_of = keys.ip_of if expected.kind == "ip" else keys.quarantine_of
        yield key_of(address), expected
    except AddressSyntaxError:  # ``core.domain.log_checker`` reports such an address
        return


def _agrees(expected: Expected, kv: KeyValue | None) -> bool:
    if kv is None or expected.revision not in {0, kv.mod_revision}:
        return False
    codec = STATE_CODECS[expected.kind]
    if kv.value == codec.encode(expected.value):
        return True
    # An older version of Orbweaver may have encoded the same value with fewer fields.
    return bool(_decoded(expected.kind, kv) == expected.value)


def _difference(
    key: bytes, expected: Expected | None, kv: KeyValue | None, keys: Keys
) -> Difference:
    kind = key[len(keys.root) :].partition(b"/")[0].decode()
    return Difference(
        kind,
        key,
        _name(key, kind, keys),
        None if expected is None else expected.value,
        None if kv is None else _decoded(kind, kv),
        0 if expected is None else expected.revision,
        0 if kv is None else kv.mod_revision,
    )


def _decoded(kind: str, kv: KeyValue) -> object:
    try:
        return STATE_CODECS[kind].decode(kv.value)
    except LogCorrupt as error:
        return Unreadable(error.message)


def _name(key: bytes, kind: str, keys: Keys) -> str:
    tail = key[len(keys.prefix(kind)) :].decode(errors="replace")
    if kind not in {"ip", "quarantine"}:
        return tail
    try:
        return str(keys.address_in(key))
    except (ValueError, OverflowError):
        return tail
