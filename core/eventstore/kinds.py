"""The kinds of keys: for each the range of its keys, its decoder, its readers and its remedy.

Readers of more than one object decode values with ``KeyKind.decode``: it raises LogCorrupt, which
names the key, for a malformed key or value. ``core.kinds`` has the table of all kinds; this module
has those of state keys.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, Literal, TypeVar, get_args

from core.domain.events import RecordDefined
from core.domain.model import Claim, Endpoint, Pool, Quarantine, Reservation, Subnet
from core.domain.sriov.model import GuidClaim, NodeGuids
from core.errors import LogCorrupt
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
    SUBNET,
    UNREADABLE,
    WriterHead,
    error_text,
)
from core.eventstore.index import COMPLETE, check_entry, read_entry
from core.eventstore.keys import Keys

T = TypeVar("T")
Reader = Literal["agent", "controller", "worker", "orbctl"]
ALL_PROCESSES: Final[tuple[Reader, ...]] = get_args(Reader)

STATE_REMEDY: Final = (
    "if a newer version wrote it, upgrade this process;"
    " else run `orbctl verify --repair`, which restores it from the log"
)
RESERVATION_REMEDY: Final = (
    f"{STATE_REMEDY}; until then no address is allocated that it may reserve"
    " (docs/contributing/decisions/0022)"
)
POOL_REMEDY: Final = f"{STATE_REMEDY}; until then no address of it is allocated"
QUARANTINE_REMEDY: Final = f"{STATE_REMEDY}; until then its address is not allocated"


class KeyKind(Generic[T]):
    """One kind of key: ``prefix`` below the cluster's root, ``readers``: processes that read it.

    ``readers`` and ``remedy`` default to those of state keys. ``key_of`` builds the key of a value;
    a value under another key is a fault. ``check_key`` raises ValueError for a key that no version
    writes.
    """

    __slots__ = ("_check_key", "_decode", "_key_of", "name", "prefix", "readers", "remedy")

    def __init__(
        self,
        name: str,
        prefix: str,
        decode: Callable[[bytes], T],
        readers: tuple[Reader, ...] = ALL_PROCESSES,
        remedy: str = STATE_REMEDY,
        *,
        key_of: Callable[[Keys, T], bytes] | None = None,
        check_key: Callable[[Keys, bytes], object] | None = None,
    ) -> None:
        self.name = name
        self.prefix = prefix
        self.readers = readers
        self.remedy = remedy
        self._decode = decode
        self._key_of = key_of
        self._check_key = check_key

    def decode(self, keys: Keys, key: bytes, value: bytes) -> T:
        """Decode the value of a key. Raises LogCorrupt with the key as its subject."""
        try:
            if self._check_key is not None:
                self._check_key(keys, key)
            decoded = self._decode(value)
            if self._key_of is not None and self._key_of(keys, decoded) != key:
                raise ValueError("the value contains the name of another object")
        except LogCorrupt as error:
            raise self._error(keys, key, error.message) from error
        except UNREADABLE as error:
            raise self._error(keys, key, error_text(error)) from error
        return decoded

    def range(self, keys: Keys) -> tuple[bytes, bytes]:
        """[start, end) of all keys of the kind, or of its only key."""
        if self.prefix.startswith("meta/"):
            key = keys.root + self.prefix.encode()
            return key, key + b"\0"
        return keys.range_of(*self.prefix.split("/"))

    def _error(self, keys: Keys, key: bytes, why: str) -> LogCorrupt:
        name = key_text(keys, key)
        return LogCorrupt(
            f"{self.name} {name} cannot be decoded: {why}", subject=name, remedy=self.remedy
        )


def key_text(keys: Keys, key: bytes) -> str:
    """A key below the cluster's root as text; bytes that are not UTF-8 are escaped."""
    return key.removeprefix(keys.root).decode(errors="backslashreplace")


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
    check_key=lambda keys, key: keys.check_guid(key),
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
    check_key=lambda keys, key: keys.check_guard(key),
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
    check_key=lambda keys, key: keys.check_parts(key, 2),
)
CONFIGURATION_KINDS: Final = (POOLS, SUBNETS, RESERVATIONS, QUARANTINES, RECORDS)
