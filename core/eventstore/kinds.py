"""What lies under a key: one row for each kind of key, and the one guarded way to read a value.

A row says where the keys of a kind lie, how a value is read, which processes read it, and what to
do about one that cannot be read. ``KeyKind.decode`` is the only way from a stored value to a domain
value for readers of more than one object: whatever is wrong with key or value becomes LogCorrupt,
which names the key. ``core.kinds`` has the table of all rows; the rows of state keys are here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, Literal, TypeVar

from core.domain.events import RecordDefined
from core.domain.model import Claim, Endpoint, Pool, Quarantine, Reservation, Subnet
from core.errors import LogCorrupt
from core.eventstore.codec import (
    CLAIM,
    ENDPOINT,
    HEAD,
    POOL,
    QUARANTINE,
    RECORD,
    RESERVATION,
    SUBNET,
    UNREADABLE,
    WriterHead,
    words_of,
)
from core.eventstore.index import COMPLETE, check_entry, read_entry
from core.eventstore.keys import Keys

T = TypeVar("T")
Reader = Literal["agent", "controller", "worker", "orbctl"]

STATE_REMEDY: Final = (
    "`orbctl verify --repair` writes it as the log says;"
    " if a newer version wrote it, upgrade this process"
)
RESERVATION_REMEDY: Final = (
    "`orbctl verify --repair` writes it as the log says; if a newer version wrote it, upgrade this"
    " process; until then no new address is handed out where it may reserve one"
    " (docs/contributing/decisions/0022)"
)
POOL_REMEDY: Final = f"{STATE_REMEDY}; until then Pods get no new address of it"
QUARANTINE_REMEDY: Final = f"{STATE_REMEDY}; until then its address stays set aside"


class KeyKind(Generic[T]):
    """One kind of key: ``room`` below the cluster's root, ``readers`` of its values.

    ``key_of`` makes the key under which a value must lie; a value that lies elsewhere cannot be
    read. ``check_key`` raises ValueError for a key that nothing could have written.
    """

    __slots__ = ("_check_key", "_decode", "_key_of", "name", "readers", "remedy", "room")

    def __init__(
        self,
        name: str,
        room: str,
        decode: Callable[[bytes], T],
        readers: tuple[Reader, ...],
        remedy: str,
        *,
        key_of: Callable[[Keys, T], bytes] | None = None,
        check_key: Callable[[Keys, bytes], object] | None = None,
    ) -> None:
        self.name = name
        self.room = room
        self.readers = readers
        self.remedy = remedy
        self._decode = decode
        self._key_of = key_of
        self._check_key = check_key

    def decode(self, keys: Keys, key: bytes, value: bytes) -> T:
        """What the key says. Raises LogCorrupt, with the key as its subject."""
        try:
            if self._check_key is not None:
                self._check_key(keys, key)
            found = self._decode(value)
            if self._key_of is not None and self._key_of(keys, found) != key:
                raise ValueError("its value belongs to another key")
        except LogCorrupt as error:
            raise self._error(keys, key, error.message) from error
        except UNREADABLE as error:
            raise self._error(keys, key, words_of(error)) from error
        return found

    def range(self, keys: Keys) -> tuple[bytes, bytes]:
        """[start, end) of all keys of the kind: its room, or its only key."""
        if self.room.startswith("meta/"):
            key = keys.root + self.room.encode()
            return key, key + b"\0"
        return keys.room(*self.room.split("/"))

    def _error(self, keys: Keys, key: bytes, why: str) -> LogCorrupt:
        name = key_text(keys, key)
        return LogCorrupt(
            f"{self.name} {name} cannot be read: {why}", subject=name, remedy=self.remedy
        )


def key_text(keys: Keys, key: bytes) -> str:
    """A key below the cluster's root as people read it, whatever its bytes are."""
    return key.removeprefix(keys.root).decode(errors="backslashreplace")


def _guard_value(value: bytes) -> bytes:
    if value not in (b"", COMPLETE):
        raise ValueError("a guard has another value")
    return value


EVERYBODY: Final[tuple[Reader, ...]] = ("agent", "controller", "worker", "orbctl")

POOLS: Final[KeyKind[Pool]] = KeyKind(
    *("pool", "pool", POOL.decode, EVERYBODY, POOL_REMEDY),
    key_of=lambda keys, pool: keys.pool(pool.name),
)
SUBNETS: Final[KeyKind[Subnet]] = KeyKind(
    *("subnet", "subnet", SUBNET.decode, EVERYBODY, STATE_REMEDY),
    key_of=lambda keys, subnet: keys.subnet(subnet.name),
)
RESERVATIONS: Final[KeyKind[Reservation]] = KeyKind(
    *("reservation", "reservation", RESERVATION.decode, EVERYBODY, RESERVATION_REMEDY),
    key_of=lambda keys, one: keys.reservation(one.name),
)
QUARANTINES: Final[KeyKind[Quarantine]] = KeyKind(
    *("quarantine", "quarantine", QUARANTINE.decode, EVERYBODY, QUARANTINE_REMEDY),
    key_of=lambda keys, one: keys.quarantine_of(one.address),
)
RECORDS: Final[KeyKind[RecordDefined]] = KeyKind(
    *("record", "record", RECORD.decode, EVERYBODY, STATE_REMEDY),
    key_of=lambda keys, one: keys.record(one.kind, one.namespace, one.name),
)
CLAIMS: Final[KeyKind[Claim]] = KeyKind(
    *("claim", "ip", CLAIM.decode, EVERYBODY, STATE_REMEDY),
    check_key=lambda keys, key: keys.check_address(key, "ip"),
)
ENDPOINTS: Final[KeyKind[Endpoint]] = KeyKind(
    *("endpoint", "endpoint", ENDPOINT.decode, EVERYBODY, STATE_REMEDY),
    key_of=lambda keys, endpoint: keys.endpoint(*endpoint.key),
)
GUARDS: Final[KeyKind[bytes]] = KeyKind(
    *("guard", "guard", _guard_value, EVERYBODY),
    "nothing: the next command of its topic writes it",
    check_key=lambda keys, key: keys.check_guard(key),
)
INDEXES: Final[KeyKind[bytes]] = KeyKind(
    *("index entry", "index", read_entry, ("controller", "worker", "orbctl")),
    "nothing: the next command that meets it builds the index anew",
    check_key=check_entry,
)
HEADS: Final[KeyKind[WriterHead]] = KeyKind(
    *("writer head", "head", HEAD.decode, EVERYBODY),
    "`orbctl verify --repair` writes it as the log says; so does its own process at a restart",
    check_key=lambda keys, key: keys.check_parts(key, 2),
)
CONFIGURATION_KINDS: Final = (POOLS, SUBNETS, RESERVATIONS, QUARANTINES, RECORDS)
