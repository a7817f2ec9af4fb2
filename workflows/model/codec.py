"""Encoding of histories: msgpack for storage, JSON for fixtures and people.

msgpack: an event is ``[event_id, event_time_ms, type, [attributes]]``. JSON: an object for each
event, its attributes by name and without those that have their default. Decoding is strict: an
unknown type or field raises HistoryError, because a part of a history must not be ignored.
"""

# ruff: noqa: ANN401 - plain data is of any type, and so is what it becomes
from __future__ import annotations

import types
import typing
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import msgspec

from workflows.model.errors import HistoryError
from workflows.model.events import EVENT_TYPES, HistoryEvent

_encoder = msgspec.msgpack.Encoder()


class _Stored(NamedTuple):
    event_id: int
    event_time_ms: int
    type: str
    attributes: msgspec.Raw


_list_decoder = msgspec.msgpack.Decoder(list[_Stored])
_attribute_decoders = {name: msgspec.msgpack.Decoder(kind) for name, kind in EVENT_TYPES.items()}


def encode_event(event: HistoryEvent) -> bytes:
    """The stored form of one event."""
    return _encoder.encode(
        (event.event_id, event.event_time_ms, event.event_type, event.attributes)
    )


def encode_history(events: Iterable[HistoryEvent]) -> bytes:
    """A whole history as one msgpack array."""
    return _encoder.encode(
        [(e.event_id, e.event_time_ms, e.event_type, e.attributes) for e in events]
    )


def decode_history(data: bytes) -> list[HistoryEvent]:
    """The events of ``encode_history``. Raises HistoryError for any other bytes."""
    try:
        return [_event(stored) for stored in _list_decoder.decode(data)]
    except (
        msgspec.MsgspecError,
        ValueError,
        RecursionError,
    ) as error:  # invalid UTF-8 is a ValueError
        raise HistoryError(f"the bytes are not a history: {error}") from error
    except KeyError as error:
        raise HistoryError(
            f"a newer version of Orbweaver wrote an event of type {error}"
        ) from error


def _event(stored: _Stored) -> HistoryEvent:
    attributes = _attribute_decoders[stored.type].decode(stored.attributes)
    return HistoryEvent(stored.event_id, stored.event_time_ms, attributes)


def to_json(events: Iterable[HistoryEvent]) -> str:
    """A history as indented JSON."""
    documents = [
        {
            "eventId": event.event_id,
            "eventTimeMs": event.event_time_ms,
            "eventType": event.event_type,
            "attributes": _named(event.attributes),
        }
        for event in events
    ]
    text = msgspec.json.format(msgspec.json.encode({"events": documents}), indent=2)
    return text.decode() + "\n"


def from_json(text: str | bytes) -> list[HistoryEvent]:
    """The history of ``to_json``. Raises HistoryError with the number of the unreadable event."""
    number = 0
    try:
        events = []
        for document in msgspec.json.decode(text)["events"]:
            number += 1
            kind = EVENT_TYPES[document["eventType"]]
            attributes = msgspec.convert(_positional(kind, document["attributes"]), kind)
            events.append(HistoryEvent(document["eventId"], document["eventTimeMs"], attributes))
        return events
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise HistoryError(f"event {number} of the JSON history: {error!r}") from error


def _named(value: Any) -> Any:
    """Named tuples as objects, without fields that have their default."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        defaults = getattr(value, "_field_defaults", {})
        return {
            name: _named(field)
            for name, field in value._asdict().items()
            if name not in defaults or defaults[name] != field
        }
    return value


def _positional(kind: Any, document: Any) -> Any:
    """The inverse of ``_named``: objects as arrays, in the order of the class's fields."""
    if not isinstance(document, dict):
        return document
    unknown = set(document) - set(kind._fields)
    if unknown:
        raise KeyError(f"{kind.__name__} has no {sorted(unknown)}")
    nested = _nested(kind)
    values = []
    for name in kind._fields:
        value = document[name] if name in document else kind._field_defaults[name]
        values.append(_positional(nested[name], value) if name in nested else value)
    return values


@cache
def _nested(kind: Any) -> dict[str, Any]:
    """The fields whose values are named tuples, with their class."""
    nested = {}
    for name, hint in typing.get_type_hints(kind).items():
        options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        for option in options:
            if isinstance(option, type) and hasattr(option, "_fields"):
                nested[name] = option
    return nested
