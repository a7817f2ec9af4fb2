"""Encoding of stored values and segments: msgpack arrays that begin with a schema version.

A segment is ``[version, recorded_at_ms, [record, ...]]`` and a record ``[event_id, type,
schema_version, [actor, correlation_id, causation_id, traceparent], body]``: readable by any msgpack
reader. A state value is ``[version, value]``. Decoding is strict: malformed bytes and impossible
values raise LogCorrupt and nothing else. Only fields that a newer version has added at the end of
an array are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from core.domain import plausibility
from core.domain.events import (
    EVENT_TYPES,
    TYPE_NAMES,
    VERSIONS,
    Cause,
    Event,
    RecordDefined,
    Recorded,
    upcast,
)
from core.domain.model import Claim, Endpoint, Pool, Quarantine, Reservation, Subnet
from core.domain.sriov.model import GuidClaim, NodeGuids
from core.errors import LogCorrupt
from core.eventstore.unknown_fields import trimmed

SEGMENT_VERSION = 1
STATE_VERSION = 1
SEGMENT_EVENTS_MAX = 126
"""Events of one group commit: etcd's 128 operations less the segment and the head."""

UNREADABLE: Final = (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""Errors of decoding malformed bytes; msgspec's errors and UnicodeDecodeError are ValueErrors."""

SEGMENT_REMEDY: Final = (
    "run a version that can decode this event type, or restore the log from its archive"
)
UPGRADE: Final = (
    "if a newer version wrote it, upgrade this process; else run `orbctl verify --repair`"
)

T = TypeVar("T")
_encoder = msgspec.msgpack.Encoder()


class EventDraft(NamedTuple):
    """An event to append."""

    event_id: str
    cause: Cause
    event: Event


class WriterHead(NamedTuple):
    """``seq`` of a writer's last segment, ``epoch`` of the process that owns the name."""

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
    name: (VERSIONS[name], msgspec.msgpack.Decoder(kind).decode)
    for name, kind in EVENT_TYPES.items()
}


def encode_segment(recorded_at_ms: int, drafts: Sequence[EventDraft]) -> bytes:
    """Encode the events of one group commit."""
    assert 0 < len(drafts) <= SEGMENT_EVENTS_MAX, len(drafts)
    records = []
    for draft in drafts:
        name = TYPE_NAMES[type(draft.event)]
        records.append((draft.event_id, name, VERSIONS[name], draft.cause, draft.event))
    return _encoder.encode((SEGMENT_VERSION, recorded_at_ms, records))


def decode_segment(data: bytes, *, writer: str, position: int) -> list[Recorded]:
    """Decode the segment that etcd has at revision ``position``. Raises LogCorrupt."""
    try:
        segment = _segment_of(data)
        if segment.version != SEGMENT_VERSION:
            raise ValueError(f"segment version {segment.version} is unknown")
        return _events_of(segment, writer, position)
    except UNREADABLE as error:
        raise LogCorrupt(
            f"the segment of writer {writer} at revision {position} cannot be decoded:"
            f" {error_text(error)}",
            subject=writer,
            remedy=SEGMENT_REMEDY,
        ) from error


def error_text(error: Exception) -> str:
    """The text of an error of ``UNREADABLE``, with its type where the text alone is unclear."""
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
    """Decode the records. Not one call of our functions for each: replay spends its time here."""
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
    if version > VERSIONS[name]:
        raise ValueError(f"version {version} of event type {name!r} is unknown")
    return msgspec.convert(upcast(name, version, _raw_decoder.decode(body)), EVENT_TYPES[name])


def _decode_newer_event(name: str, version: int, body: msgspec.Raw) -> Event:
    """Decode an event of a known version to which a newer process has added fields."""
    kind = EVENT_TYPES[name]
    fields = upcast(name, version, _raw_decoder.decode(body))
    return msgspec.convert(trimmed(fields, kind), kind)


class StateCodec(Generic[T]):
    """Encoding of one kind of state value: ``[version, value]``.

    ``check`` raises ValueError for a value of the right type that is impossible.
    """

    __slots__ = ("_check", "_decoder", "_kind", "_what")

    def __init__(self, kind: type[T], check: Callable[[T], None] | None = None) -> None:
        self._what = kind.__name__
        self._kind = kind
        self._check = check
        # msgspec needs the concrete type, which mypy cannot express by a type variable.
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(tuple[int, kind])  # type: ignore[valid-type]

    def encode(self, value: T) -> bytes:
        """Encode the value."""
        return _encoder.encode((STATE_VERSION, value))

    def decode(self, data: bytes) -> T:
        """Decode the bytes; raises LogCorrupt."""
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
        except UNREADABLE as error:
            raise LogCorrupt(
                f"a {self._what} value cannot be decoded: {error_text(error)}",
                subject=self._what,
                remedy=UPGRADE,
            ) from error
        return result

    def _decode_newer(self, data: bytes) -> tuple[int, T]:
        """Decode a value to which a newer process has added fields."""
        version, value = _raw_decoder.decode(data)
        if version != STATE_VERSION:
            raise ValueError(f"version {version} is unknown")
        return STATE_VERSION, msgspec.convert(trimmed(value, self._kind), self._kind)


CLAIM = StateCodec(Claim)
ENDPOINT = StateCodec(Endpoint, plausibility.check_endpoint)
POOL = StateCodec(Pool, plausibility.check_pool)
SUBNET = StateCodec(Subnet, plausibility.check_pool)
RESERVATION = StateCodec(Reservation, plausibility.check_reservation)
QUARANTINE = StateCodec(Quarantine, plausibility.check_quarantine)
RECORD = StateCodec(RecordDefined)
GUID_CLAIM = StateCodec(GuidClaim)
NODE_GUIDS = StateCodec(NodeGuids, plausibility.check_guids)
HEAD = StateCodec(WriterHead, lambda head: plausibility.check_counts(head.seq, head.epoch))
