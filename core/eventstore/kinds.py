"""The kinds of state keys: for each the range of its keys, its decoder, its readers and its remedy.

``core.kinds`` has the table of all kinds.
"""

from __future__ import annotations

from typing import Final

from core.domain.events import RecordDefined
from core.domain.model import Claim, Endpoint, Pool, Quarantine, Reservation, Subnet
from core.domain.sriov.model import GuidClaim, NodeGuids
from core.eventstore.codec import (
    CLAIM,
    ENDPOINT,
    GUID_CLAIM,
    HEAD,
    NODE_GUIDS,
    POOL,
    QUARANTINE,
    RECORD,
    RESERVATION,
    STATE_REMEDY,
    SUBNET,
    KeyKind,
    WriterHead,
)
from core.eventstore.index import COMPLETE, check_entry, read_entry
from core.eventstore.keys import Keys

RESERVATION_REMEDY: Final = (
    f"{STATE_REMEDY}; until then no address is allocated that it may reserve"
    " (docs/contributing/decisions/0022)"
)
POOL_REMEDY: Final = f"{STATE_REMEDY}; until then no address of the pool is allocated"
QUARANTINE_REMEDY: Final = f"{STATE_REMEDY}; until then the address is not allocated"


def _guard_value(value: bytes) -> bytes:
    if value not in (b"", COMPLETE):
        raise ValueError("the value is not that of a guard key")
    return value


POOLS: Final[KeyKind[Pool]] = KeyKind(
    "pool",
    "pool",
    POOL.decode,
    remedy=POOL_REMEDY,
    key_of=lambda keys, pool: keys.pool(pool.name),
)
SUBNETS: Final[KeyKind[Subnet]] = KeyKind(
    "subnet",
    "subnet",
    SUBNET.decode,
    key_of=lambda keys, subnet: keys.subnet(subnet.name),
)
RESERVATIONS: Final[KeyKind[Reservation]] = KeyKind(
    "reservation",
    "reservation",
    RESERVATION.decode,
    remedy=RESERVATION_REMEDY,
    key_of=lambda keys, reservation: keys.reservation(reservation.name),
)
QUARANTINES: Final[KeyKind[Quarantine]] = KeyKind(
    "quarantine",
    "quarantine",
    QUARANTINE.decode,
    remedy=QUARANTINE_REMEDY,
    key_of=lambda keys, quarantine: keys.quarantine_of(quarantine.address),
)
RECORDS: Final[KeyKind[RecordDefined]] = KeyKind(
    "record",
    "record",
    RECORD.decode,
    key_of=lambda keys, record: keys.record(record.kind, record.namespace, record.name),
)
CLAIMS: Final[KeyKind[Claim]] = KeyKind(
    "claim",
    "ip",
    CLAIM.decode,
    check_key=lambda keys, key: keys.check_address(key, "ip"),
)
ENDPOINTS: Final[KeyKind[Endpoint]] = KeyKind(
    "endpoint",
    "endpoint",
    ENDPOINT.decode,
    key_of=lambda keys, endpoint: keys.endpoint(*endpoint.key),
)
GUID_CLAIMS: Final[KeyKind[GuidClaim]] = KeyKind(
    "GUID claim",
    "guid",
    GUID_CLAIM.decode,
    check_key=Keys.check_guid,
)
GUIDS_OF_NODES: Final[KeyKind[NodeGuids]] = KeyKind(
    "GUIDs of node",
    "node-guids",
    NODE_GUIDS.decode,
    ("agent", "worker", "orbctl"),
    STATE_REMEDY,
    key_of=lambda keys, guids: keys.node_guids(guids.node),
)
GUARDS: Final[KeyKind[bytes]] = KeyKind(
    "guard",
    "guard",
    _guard_value,
    remedy="none needed: the next change of an object of its kind writes it",
    check_key=Keys.check_guard,
)
INDEXES: Final[KeyKind[bytes]] = KeyKind(
    "index entry",
    "index",
    read_entry,
    ("controller", "worker", "orbctl"),
    "none needed: the next command that reads it rebuilds the index",
    check_key=check_entry,
)
HEADS: Final[KeyKind[WriterHead]] = KeyKind(
    "writer head",
    "head",
    HEAD.decode,
    remedy="run `orbctl verify --repair`, which restores it from the log, or restart the writer's"
    " process",
    check_key=Keys.check_head,
)
CONFIGURATION_KINDS: Final = (POOLS, SUBNETS, RESERVATIONS, QUARANTINES, RECORDS)
