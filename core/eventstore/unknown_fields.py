"""Decode values of a newer version without the fields that this version does not have.

Fields are only added at the end of an array, with a default (CONTRIBUTING.md), so that an older
process ignores them and reads the other fields. Every other difference is an error. This is slow:
decoders use it after the fast path has failed.
"""

# ruff: noqa: ANN401 - plain data is of any type, and so is a type hint
from __future__ import annotations

import types
import typing
from functools import cache
from typing import Any


def trimmed(value: Any, kind: Any) -> Any:
    """``value`` as msgpack decodes it, without trailing array items that ``kind`` does not have."""
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
        # Only named tuples get new fields: with further items, the decoder must fail.
        return known_fields + value[len(known_fields) :]
    return [trimmed(item, arguments[0]) for item in value]


def _array_kind(kind: Any) -> Any:
    """The member of a union that is an array; a union has at most one."""
    if not isinstance(kind, types.UnionType) and typing.get_origin(kind) is not typing.Union:
        return kind
    options = typing.get_args(kind)
    return next((option for option in options if _is_array(option)), kind)


def _is_array(kind: Any) -> bool:
    return _fields(kind) is not None or typing.get_origin(kind) in (tuple, list)


@cache
def _fields(kind: Any) -> tuple[Any, ...] | None:
    """The types of a named tuple's fields; None for another type."""
    if not (isinstance(kind, type) and hasattr(kind, "_fields")):
        return None
    hints = typing.get_type_hints(kind)
    return tuple(hints[name] for name in kind._fields)
