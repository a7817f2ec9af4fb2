"""Bytes of values and segments: msgpack arrays, a schema version first.

A segment is ``[version, recorded_at_ms, [record, ...]]`` and a record ``[event_id, type,
schema_version, [actor, correlation_id, causation_id, traceparent], body]``: readable by any msgpack
reader. A state value is ``[version, value]``. Decoding is strict: bytes that do not fit raise
LogCorrupt, never a half-filled value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from core.domain.events import EVENT_TYPES, TYPE_NAMES, Cause, Event, RecordDefined, Recorded
from core.domain.model import Claim, Endpoint, Pool, Quarantine, Reservation, Subnet
from core.domain.upcasting import VERSIONS, upcast
from core.errors import LogCorrupt

SEGMENT_VERSION = 1
STATE_VERSION = 1
SEGMENT_EVENTS_MAX = 126
"""Events of one group commit: etcd's 128 operations less the segment and the head."""

T = TypeVar("T")
_encoder = msgspec.msgpack.Encoder()


class Draft(NamedTuple):
    """An event about to be appended."""

    event_id: str
    cause: Cause
    event: Event


class WriterHead(NamedTuple):
    """``seq`` of a writer's last segment, ``epoch`` of the process that owns it."""

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


def encode_segment(recorded_at_ms: int, drafts: Sequence[Draft]) -> bytes:
    """The bytes of one group commit."""
    assert 0 < len(drafts) <= SEGMENT_EVENTS_MAX, len(drafts)
    records = []
    for draft in drafts:
        name = TYPE_NAMES[type(draft.event)]
        records.append((draft.event_id, name, VERSIONS[name], draft.cause, draft.event))
    return _encoder.encode((SEGMENT_VERSION, recorded_at_ms, records))


def decode_segment(data: bytes, *, writer: str, position: int) -> list[Recorded]:
    """The events of a segment that etcd keeps at revision ``position``."""
    try:
        segment = _segment_decoder.decode(data)
        if segment.version != SEGMENT_VERSION:
            raise LogCorrupt(f"segment version {segment.version} is unknown", subject=writer)
        return _events_of(segment, writer, position)
    except (msgspec.MsgspecError, KeyError) as error:
        raise LogCorrupt(
            f"the segment of {writer} at revision {position} does not decode: {error}",
            subject=writer,
            remedy="run a version that knows this event type, or restore the log from its archive",
        ) from error


def _events_of(segment: _Segment, writer: str, position: int) -> list[Recorded]:
    """One loop and no call of ours for an event: replay spends most of its time here."""
    at, decoders, make = segment.recorded_at_ms, _body_decoders, tuple.__new__
    events = []
    for place, (event_id, name, version, cause, body) in enumerate(segment.records):
        known, decode = decoders[name]
        event = decode(body) if version == known else _upcast(name, version, body)
        events.append(make(Recorded, (position, place, event_id, at, writer, cause, event)))
    return events


def _upcast(name: str, version: int, body: msgspec.Raw) -> Event:
    return msgspec.convert(upcast(name, version, _raw_decoder.decode(body)), EVENT_TYPES[name])


class StateCodec(Generic[T]):
    """Bytes of one kind of state value: ``[version, value]``."""

    __slots__ = ("_decoder", "_what")

    def __init__(self, kind: type[T]) -> None:
        self._what = kind.__name__
        # msgspec wants the concrete type; mypy cannot follow a type variable into it.
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(tuple[int, kind])  # type: ignore[valid-type]

    def encode(self, value: T) -> bytes:
        """Bytes of the value."""
        return _encoder.encode((STATE_VERSION, value))

    def decode(self, data: bytes) -> T:
        """The value of these bytes; raises LogCorrupt."""
        try:
            version, value = self._decoder.decode(data)
        except msgspec.MsgspecError as error:
            raise LogCorrupt(f"a {self._what} value does not decode: {error}") from error
        if version != STATE_VERSION:
            raise LogCorrupt(f"{self._what} version {version} is unknown", subject=self._what)
        result: T = value
        return result


CLAIM = StateCodec(Claim)
ENDPOINT = StateCodec(Endpoint)
POOL = StateCodec(Pool)
SUBNET = StateCodec(Subnet)
RESERVATION = StateCodec(Reservation)
QUARANTINE = StateCodec(Quarantine)
RECORD = StateCodec(RecordDefined)
HEAD = StateCodec(WriterHead)
