"""Values of a newer version, read without the fields that this version does not know.

Fields are only ever added at the end of an array, with a default (CONTRIBUTING.md), so an older
process may leave them out and reads the rest. Whatever else differs stays an error. This is the
slow way: decoders take it after the quick one has failed.
"""

# ruff: noqa: ANN401 - plain data is of any type, and so is a type hint
from __future__ import annotations

import types
import typing
from functools import cache
from typing import Any


def trimmed(value: Any, kind: Any) -> Any:
    """``value``, as msgpack gives it, without what ``kind`` does not know at the ends of arrays."""
    if isinstance(value, dict):
        arguments = typing.get_args(kind)
        if len(arguments) != 2:
            return value
        return {key: trimmed(one, arguments[1]) for key, one in value.items()}
    if not isinstance(value, list):
        return value
    return _trimmed_array(value, _array_kind(kind))


def _trimmed_array(value: list[Any], kind: Any) -> list[Any]:
    fields = _fields(kind)
    if fields is not None:
        return [trimmed(one, field) for one, field in zip(value, fields, strict=False)]
    arguments = typing.get_args(kind)
    if not arguments:
        return value
    if typing.get_origin(kind) is tuple and arguments[-1] is not Ellipsis:
        known = [trimmed(one, field) for one, field in zip(value, arguments, strict=False)]
        return known + value[len(known) :]
    return [trimmed(one, arguments[0]) for one in value]


def _array_kind(kind: Any) -> Any:
    """The option of a union that is an array; a union has one at the most."""
    if not isinstance(kind, types.UnionType) and typing.get_origin(kind) is not typing.Union:
        return kind
    options = typing.get_args(kind)
    return next((one for one in options if _is_array(one)), kind)


def _is_array(kind: Any) -> bool:
    return _fields(kind) is not None or typing.get_origin(kind) in (tuple, list)


@cache
def _fields(kind: Any) -> tuple[Any, ...] | None:
    """The types of a named tuple's fields; None for another type."""
    if not (isinstance(kind, type) and hasattr(kind, "_fields")):
        return None
    hints = typing.get_type_hints(kind)
    return tuple(hints[name] for name in kind._fields)
