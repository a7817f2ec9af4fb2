"""The kinds of state keys, such as pools and claims; ``core.kinds`` has the table of all kinds."""

from __future__ import annotations

from typing import Final

from core.domain.events import RecordDefined
from core.domain.model import Claim, Endpoint, Pool, Quarantine, Reservation, Subnet
from core.domain.sriov.model import GuidClaim, NodeGuids
from core.eventstore.codec import (
    CLAIM_CODEC,
    ENDPOINT_CODEC,
    GUID_CLAIM_CODEC,
    HEAD_CODEC,
    NODE_GUIDS_CODEC,
    POOL_CODEC,
    QUARANTINE_CODEC,
    RECORD_CODEC,
    RESERVATION_CODEC,
    STATE_REMEDY,
    SUBNET_CODEC,
    KeyKind,
    WriterHead,
)
from core.eventstore.keys import Keys
from core.eventstore.pool_index import COMPLETE_INDEX, check_entry, read_entry

RESERVATION_REMEDY: Final = (
    f"{STATE_REMEDY}; until then no address is allocated that this reservation may contain"
    " (docs/contributing/decisions/0022)"
)
POOL_REMEDY: Final = f"{STATE_REMEDY}; until then no address of the pool is allocated"
QUARANTINE_REMEDY: Final = f"{STATE_REMEDY}; until then the address is not allocated"


def _guard_value(value: bytes) -> bytes:
    if value not in (b"", COMPLETE_INDEX):
        raise ValueError(f"the value of a guard key must be empty or `indexed`, not {value[:32]!r}")
    return value


POOL_KEYS: Final[KeyKind[Pool]] = KeyKind(
    name="pool",
    prefix="pool",
    decode=POOL_CODEC.decode,
    remedy=POOL_REMEDY,
    key_of=lambda keys, pool: keys.pool(pool.name),
)
SUBNET_KEYS: Final[KeyKind[Subnet]] = KeyKind(
    name="subnet",
    prefix="subnet",
    decode=SUBNET_CODEC.decode,
    key_of=lambda keys, subnet: keys.subnet(subnet.name),
)
RESERVATION_KEYS: Final[KeyKind[Reservation]] = KeyKind(
    name="reservation",
    prefix="reservation",
    decode=RESERVATION_CODEC.decode,
    remedy=RESERVATION_REMEDY,
    key_of=lambda keys, reservation: keys.reservation(reservation.name),
)
QUARANTINE_KEYS: Final[KeyKind[Quarantine]] = KeyKind(
    name="quarantine",
    prefix="quarantine",
    decode=QUARANTINE_CODEC.decode,
    remedy=QUARANTINE_REMEDY,
    key_of=lambda keys, quarantine: keys.quarantine_of(quarantine.address),
)
RECORD_KEYS: Final[KeyKind[RecordDefined]] = KeyKind(
    name="record",
    prefix="record",
    decode=RECORD_CODEC.decode,
    key_of=lambda keys, record: keys.record(record.kind, record.namespace, record.name),
)
CLAIM_KEYS: Final[KeyKind[Claim]] = KeyKind(
    name="claim",
    prefix="ip",
    decode=CLAIM_CODEC.decode,
    check_key=lambda keys, key: keys.check_address(key, "ip"),
)
ENDPOINT_KEYS: Final[KeyKind[Endpoint]] = KeyKind(
    name="endpoint",
    prefix="endpoint",
    decode=ENDPOINT_CODEC.decode,
    key_of=lambda keys, endpoint: keys.endpoint(*endpoint.key),
)
GUID_CLAIM_KEYS: Final[KeyKind[GuidClaim]] = KeyKind(
    name="GUID claim",
    prefix="guid",
    decode=GUID_CLAIM_CODEC.decode,
    check_key=Keys.check_guid,
)
NODE_GUIDS_KEYS: Final[KeyKind[NodeGuids]] = KeyKind(
    name="GUIDs of node",
    prefix="node-guids",
    decode=NODE_GUIDS_CODEC.decode,
    readers=("agent", "worker", "orbctl"),
    remedy=STATE_REMEDY,
    key_of=lambda keys, guids: keys.node_guids(guids.node),
)
GUARD_KEYS: Final[KeyKind[bytes]] = KeyKind(
    name="guard",
    prefix="guard",
    decode=_guard_value,
    remedy="no action is needed: the next change of the topic overwrites the key",
    check_key=Keys.check_guard,
)
INDEX_KEYS: Final[KeyKind[bytes]] = KeyKind(
    name="index entry",
    prefix="index",
    decode=read_entry,
    readers=("controller", "worker", "orbctl"),
    remedy="no action is needed: the next command that reads the entry rebuilds the index",
    check_key=check_entry,
)
HEAD_KEYS: Final[KeyKind[WriterHead]] = KeyKind(
    name="writer head",
    prefix="head",
    decode=HEAD_CODEC.decode,
    remedy="run `orbctl verify --repair`, which restores it from the log, or restart the writer's"
    " process",
    check_key=Keys.check_head,
)
CONFIGURATION_KINDS: Final = (
    POOL_KEYS,
    SUBNET_KEYS,
    RESERVATION_KEYS,
    QUARANTINE_KEYS,
    RECORD_KEYS,
)
