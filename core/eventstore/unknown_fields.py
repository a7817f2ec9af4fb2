"""Remove the fields that a newer version added to a value, so that this version can decode it.

A version adds fields only at the end of an array, with a default (CONTRIBUTING.md). Every other
difference remains an error.
"""

# ruff: noqa: ANN401 - plain data and type hints can be of any type
from __future__ import annotations

import types
import typing
from functools import cache
from typing import Any


def trimmed(value: Any, kind: Any) -> Any:
    """``value`` without trailing array items for which its type ``kind`` has no field.

    ``value``: plain data from msgpack. Slow: call it only after a decoding error.
    """
    if isinstance(value, dict):
        arguments = typing.get_args(kind)
        if len(arguments) != 2:
            return value
        return {key: trimmed(item, arguments[1]) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    return _trimmed_array(value, _array_kind(kind))


def _trimmed_array(value: list[Any], kind: Any) -> list[Any]:
    fields = _fields(kind)
    if fields is not None:
        return [trimmed(item, field) for item, field in zip(value, fields, strict=False)]
    arguments = typing.get_args(kind)
    if not arguments:
        return value
    if typing.get_origin(kind) is tuple and arguments[-1] is not Ellipsis:
        known_fields = [trimmed(item, field) for item, field in zip(value, arguments, strict=False)]
        # The extra items stay, so that decoding fails: only named tuples get new fields.
        return known_fields + value[len(known_fields) :]
    return [trimmed(item, arguments[0]) for item in value]


def _array_kind(kind: Any) -> Any:
    """The array type of a union (a union has at most one), or ``kind`` itself."""
    if not isinstance(kind, types.UnionType) and typing.get_origin(kind) is not typing.Union:
        return kind
    options = typing.get_args(kind)
    return next((option for option in options if _is_array(option)), kind)


def _is_array(kind: Any) -> bool:
    return _fields(kind) is not None or typing.get_origin(kind) in (tuple, list)


@cache
def _fields(kind: Any) -> tuple[Any, ...] | None:
    """The types of a named tuple's fields; None for other types."""
    if not (isinstance(kind, type) and hasattr(kind, "_fields")):
        return None
    hints = typing.get_type_hints(kind)
    return tuple(hints[name] for name in kind._fields)
