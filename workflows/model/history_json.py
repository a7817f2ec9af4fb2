"""Histories as JSON, for fixtures and users. Attributes that have their default are left out."""

# ruff: noqa: ANN401 - attributes and JSON values have any type
from __future__ import annotations

import types
import typing
from collections.abc import Iterable
from functools import cache
from typing import Any

import msgspec

from workflows.model.errors import HistoryError
from workflows.model.events import EVENT_TYPES, HistoryEvent


def to_json(events: Iterable[HistoryEvent]) -> str:
    """A history as indented JSON."""
    documents = [
        {
            "eventId": event.event_id,
            "eventTimeMs": event.event_time_ms,
            "eventType": event.event_type,
            "attributes": _as_objects(event.attributes),
        }
        for event in events
    ]
    text = msgspec.json.format(msgspec.json.encode({"events": documents}), indent=2)
    return text.decode() + "\n"


def from_json(text: str | bytes) -> list[HistoryEvent]:
    """The inverse of ``to_json``. Raises HistoryError, also for unknown types and fields."""
    number = 0
    try:
        events = []
        for document in msgspec.json.decode(text)["events"]:
            number += 1
            kind = EVENT_TYPES[document["eventType"]]
            attributes = msgspec.convert(_as_arrays(kind, document["attributes"]), kind)
            events.append(HistoryEvent(document["eventId"], document["eventTimeMs"], attributes))
        return events
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        what = f"event {number} of the JSON history" if number else "the JSON history"
        raise HistoryError(f"{what} cannot be read: {error!r}") from error


def _as_objects(value: Any) -> Any:
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        defaults = getattr(value, "_field_defaults", {})
        return {
            name: _as_objects(field)
            for name, field in value._asdict().items()
            if name not in defaults or defaults[name] != field
        }
    return value


def _as_arrays(kind: Any, document: Any) -> Any:
    """The inverse of ``_as_objects``: objects as arrays, in the order of fields."""
    if not isinstance(document, dict):
        return document
    unknown = set(document) - set(kind._fields)
    if unknown:
        raise KeyError(f"unknown fields of {kind.__name__}: {sorted(unknown)}")
    nested = _named_tuple_fields(kind)
    values = []
    for name in kind._fields:
        value = document[name] if name in document else kind._field_defaults[name]
        values.append(_as_arrays(nested[name], value) if name in nested else value)
    return values


@cache
def _named_tuple_fields(kind: Any) -> dict[str, Any]:
    """Field name -> class, for fields whose values are named tuples."""
    nested = {}
    for name, hint in typing.get_type_hints(kind).items():
        options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        for option in options:
            if isinstance(option, type) and hasattr(option, "_fields"):
                nested[name] = option
    return nested
