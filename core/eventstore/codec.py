"""Encoding of all stored values: msgpack arrays that begin with a schema version.

    segment      [version, recorded_at_ms, [record, ...]]
    record       [event_id, type, schema_version, cause, body]
    cause        [actor, correlation_id, causation_id, traceparent]
    state value  [version, value]

Malformed bytes and impossible values raise LogCorrupt. Fields that a newer version has added at the
end of an array are ignored. A ``KeyKind`` decodes the value of a key and names the key in errors;
``core.kinds`` lists all kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar, get_args

import msgspec

from core.domain.addresses.ip_address import ADDRESS_BITS, Family, parse_address, parse_cidr
from core.domain.configuration.configuration_state import pool_addresses, reserved_addresses
from core.domain.events import (
    EVENT_TYPES,
    EVENT_VERSIONS,
    TYPE_NAMES,
    Cause,
    Event,
    RecordDefined,
    Recorded,
    upcast,
)
from core.domain.model import Claim, Endpoint, Pool, Quarantine, Reservation, Subnet
from core.domain.sriov.model import GuidClaim, NodeGuids, is_guid
from core.errors import LogCorrupt, OrbweaverError
from core.eventstore.keys import Keys, key_text
from core.eventstore.undecodable_values import Faults
from core.eventstore.unknown_fields import trimmed

SEGMENT_VERSION = 1

STATE_VERSION = 1

SEGMENT_EVENTS_MAX = 126
"""etcd permits 128 operations in a transaction; two of them write the segment and the head."""

DECODING_ERRORS: Final = (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""Malformed bytes cause these errors; msgspec's errors are ValueErrors."""

SEGMENT_REMEDY: Final = (
    "if a newer version wrote it, upgrade this process; else restore a backup of etcd, or of the"
    " archive if the segment is archived"
)
UPGRADE_REMEDY: Final = (
    "if a newer version wrote it, upgrade this process; else run `orbctl verify --repair`"
)
STATE_REMEDY: Final = f"{UPGRADE_REMEDY}, which restores it from the log"

Reader = Literal["agent", "controller", "worker", "orbctl"]
ALL_PROCESSES: Final[tuple[Reader, ...]] = get_args(Reader)

T = TypeVar("T")
_encoder = msgspec.msgpack.Encoder()


class EventDraft(NamedTuple):
    """An event to append."""

    event_id: str
    cause: Cause
    event: Event


class WriterHead(NamedTuple):
    """The state of a writer. ``seq``: the last segment's number. ``epoch``: the process's epoch."""

    seq: int
    epoch: int


class _Record(NamedTuple):
    event_id: str
    type: str
    schema_version: int
    cause: Cause
    body: msgspec.Raw


class _Segment(NamedTuple):
    version: int
    recorded_at_ms: int
    records: list[_Record]


_segment_decoder = msgspec.msgpack.Decoder(_Segment)
_raw_decoder = msgspec.msgpack.Decoder(list[object])
_body_decoders = {
    name: (EVENT_VERSIONS[name], msgspec.msgpack.Decoder(kind).decode)
    for name, kind in EVENT_TYPES.items()
}


def encode_segment(recorded_at_ms: int, drafts: Sequence[EventDraft]) -> bytes:
    """Encode one group commit."""
    assert 0 < len(drafts) <= SEGMENT_EVENTS_MAX, len(drafts)
    records = []
    for draft in drafts:
        name = TYPE_NAMES[type(draft.event)]
        records.append((draft.event_id, name, EVENT_VERSIONS[name], draft.cause, draft.event))
    return _encoder.encode((SEGMENT_VERSION, recorded_at_ms, records))


def decode_segment(data: bytes, *, writer: str, position: int) -> list[Recorded]:
    """Decode a segment. ``position``: its revision in etcd. Raises LogCorrupt."""
    try:
        segment = _segment_of(data)
        if segment.version != SEGMENT_VERSION:
            raise ValueError(f"segment version {segment.version} is unknown")
        return _events_of(segment, writer, position)
    except DECODING_ERRORS as error:
        raise LogCorrupt(
            f"the segment of writer {writer} at revision {position} cannot be decoded:"
            f" {error_text(error)}",
            subject=writer,
            remedy=SEGMENT_REMEDY,
        ) from error


def error_text(error: Exception) -> str:
    """The text of a decoding error, with the class name unless it is a ValueError or OSError."""
    if isinstance(error, ValueError | OSError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _segment_of(data: bytes) -> _Segment:
    try:
        return _segment_decoder.decode(data)
    except msgspec.ValidationError:
        version, at, records = trimmed(_raw_decoder.decode(data), _Segment)
        raw = [[*record[:-1], msgspec.Raw(_encoder.encode(record[-1]))] for record in records]
        return _Segment(version, at, [_record_of(record) for record in raw])


def _record_of(fields: list[Any]) -> _Record:
    event_id, name, version, cause, body = fields
    heading = msgspec.convert((event_id, name, version, cause), tuple[str, str, int, Cause])
    return _Record(*heading, body)


def _events_of(segment: _Segment, writer: str, position: int) -> list[Recorded]:
    """Decode the records. Replays spend most of their time here, so the loop avoids calls."""
    at, decoders, make = segment.recorded_at_ms, _body_decoders, tuple.__new__
    events = []
    for index, (event_id, name, version, cause, body) in enumerate(segment.records):
        if name not in decoders:
            raise ValueError(f"event type {name!r} is unknown")
        current_version, decode = decoders[name]
        try:
            event = decode(body) if version == current_version else _upcast(name, version, body)
        except msgspec.ValidationError:
            event = _decode_newer_event(name, version, body)
        events.append(make(Recorded, (position, index, event_id, at, writer, cause, event)))
    return events


def _upcast(name: str, version: int, body: msgspec.Raw) -> Event:
    if version > EVENT_VERSIONS[name]:
        raise ValueError(f"version {version} of event type {name!r} is unknown")
    return msgspec.convert(upcast(name, version, _raw_decoder.decode(body)), EVENT_TYPES[name])


def _decode_newer_event(name: str, version: int, body: msgspec.Raw) -> Event:
    """Decode an event to which a newer process has added fields."""
    kind = EVENT_TYPES[name]
    fields = upcast(name, version, _raw_decoder.decode(body))
    return msgspec.convert(trimmed(fields, kind), kind)


class StateCodec(Generic[T]):
    """The encoding of one kind of state value: ``[version, value]``.

    ``check`` raises ValueError for an impossible value of the right type.
    """

    __slots__ = ("_check", "_decoder", "_kind", "_type_name")

    def __init__(self, kind: type[T], check: Callable[[T], None] | None = None) -> None:
        self._type_name = kind.__name__
        self._kind = kind
        self._check = check
        # msgspec needs the concrete type, which mypy cannot express by a type variable.
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(tuple[int, kind])  # type: ignore[valid-type]

    def encode(self, value: T) -> bytes:
        return _encoder.encode((STATE_VERSION, value))

    def decode(self, data: bytes) -> T:
        """Raises LogCorrupt."""
        try:
            try:
                version, value = self._decoder.decode(data)
            except msgspec.ValidationError:
                version, value = self._decode_newer(data)
            if version != STATE_VERSION:
                raise ValueError(f"version {version} is unknown")
            result: T = value
            if self._check is not None:
                self._check(result)
        except DECODING_ERRORS as error:
            raise LogCorrupt(
                f"a {self._type_name} value cannot be decoded: {error_text(error)}",
                subject=self._type_name,
                remedy=UPGRADE_REMEDY,
            ) from error
        return result

    def _decode_newer(self, data: bytes) -> tuple[int, T]:
        """Decode a value to which a newer process has added fields."""
        version, value = _raw_decoder.decode(data)
        if version != STATE_VERSION:
            raise ValueError(f"version {version} is unknown")
        return STATE_VERSION, msgspec.convert(trimmed(value, self._kind), self._kind)


def check_pool(pool: Pool | Subnet) -> None:
    """Raises ValueError for an invalid CIDR, list, gateway or route."""
    if pool.subnet:
        _check_family(parse_cidr(pool.subnet).family, pool.family, pool.subnet)
    pool_addresses(pool)
    if pool.gateway:
        _check_family(parse_address(pool.gateway).family, pool.family, pool.gateway)
    for route in pool.routes or ():
        parse_cidr(route.dst)
        parse_address(route.gw)


def check_reservation(reservation: Reservation) -> None:
    """Raises ValueError."""
    reserved_addresses({reservation.name: reservation}, reservation.family)


def check_quarantine(quarantine: Quarantine) -> None:
    """Raises ValueError."""
    family = parse_address(quarantine.address).family
    _check_family(family, quarantine.family, quarantine.address)


def check_endpoint(endpoint: Endpoint) -> None:
    """Raises ValueError."""
    for nic in endpoint.nics:
        if nic.ipv4:
            _check_family(_family_of(nic.ipv4), 4, nic.ipv4)
        if nic.ipv6:
            _check_family(_family_of(nic.ipv6), 6, nic.ipv6)


def check_guids(node: NodeGuids) -> None:
    """Raises ValueError."""
    for guid in node.guids:
        if not is_guid(guid.guid):
            raise ValueError(f"{guid.guid[:64]!r} is not a GUID")


def check_counts(**counts: int) -> None:
    """Raises ValueError for a negative count."""
    for name, count in counts.items():
        if count < 0:
            raise ValueError(f"{name} is negative ({count})")


def _family_of(cidr: str) -> Family:
    """The IP family of an address, with or without a prefix length."""
    address, _, length = cidr.partition("/")
    family = parse_address(address).family
    if length and not 0 <= int(length) <= ADDRESS_BITS[family]:
        raise ValueError(f"{cidr} has an invalid prefix length")
    return family


def _check_family(family: Family, expected: Family, text: str) -> None:
    if family != expected:
        raise ValueError(f"{text} is not an IPv{expected} address")


class KeyKind(Generic[T]):
    """One kind of key.

    ``prefix``: the beginning of the keys, after the cluster's root. ``readers``: processes that
    read the keys. ``remedy``: the remedy of decoding errors. ``key_of``: builds the key of a value;
    ``decode`` raises LogCorrupt if the value is stored at another key. ``check_key``: raises
    ValueError for a key that Orbweaver never writes.
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
        """Raises LogCorrupt, whose ``subject`` is the key."""
        try:
            if self._check_key is not None:
                self._check_key(keys, key)
            decoded = self._decode(value)
            if self._key_of is not None and self._key_of(keys, decoded) != key:
                raise ValueError("the value contains the name of another object")
        except LogCorrupt as error:
            cause = error.__cause__  # the codec's error does not name the key
            why = error_text(cause) if isinstance(cause, DECODING_ERRORS) else error.message
            raise self._error(keys, key, why) from error
        except DECODING_ERRORS as error:
            raise self._error(keys, key, error_text(error)) from error
        return decoded

    def read(self, keys: Keys, key: bytes, value: bytes, faults: Faults) -> T | None:
        """Decode the value. A decoding error goes to ``faults``, and the result is None."""
        try:
            decoded = self.decode(keys, key, value)
        except OrbweaverError as error:
            faults.report(self.name, key_text(keys, key), error)
            return None
        if faults.by_key:
            faults.clear(key_text(keys, key))
        return decoded

    def range(self, keys: Keys) -> tuple[bytes, bytes]:
        """The range [start, end) of the kind's keys. A kind under ``meta/`` has a single key."""
        if self.prefix.startswith("meta/"):
            key = keys.root + self.prefix.encode()
            return key, key + b"\0"
        return keys.range_of(*self.prefix.split("/"))

    def _error(self, keys: Keys, key: bytes, why: str) -> LogCorrupt:
        name = key_text(keys, key)
        return LogCorrupt(
            f"{self.name} {name} cannot be decoded: {why}", subject=name, remedy=self.remedy
        )


CLAIM_CODEC = StateCodec(Claim)
ENDPOINT_CODEC = StateCodec(Endpoint, check_endpoint)
POOL_CODEC = StateCodec(Pool, check_pool)
SUBNET_CODEC = StateCodec(Subnet, check_pool)
RESERVATION_CODEC = StateCodec(Reservation, check_reservation)
QUARANTINE_CODEC = StateCodec(Quarantine, check_quarantine)
RECORD_CODEC = StateCodec(RecordDefined)
GUID_CLAIM_CODEC = StateCodec(GuidClaim)
NODE_GUIDS_CODEC = StateCodec(NodeGuids, check_guids)
HEAD_CODEC = StateCodec(WriterHead, lambda head: check_counts(seq=head.seq, epoch=head.epoch))
