"""Measures the memory of the arrays and byte strings of an object."""

from __future__ import annotations

from array import array
from gc import get_referents
from types import FunctionType, ModuleType


def column_bytes(root: object) -> int:
    """The total size in bytes of all arrays and byte strings that ``root`` refers to."""
    known_ids: set[int] = set()
    objects, size = [root], 0
    while objects:
        value = objects.pop()
        if id(value) in known_ids or isinstance(value, type | FunctionType | ModuleType):
            continue
        known_ids.add(id(value))
        if isinstance(value, array):
            size += len(value) * value.itemsize
        elif isinstance(value, bytes | bytearray):
            size += len(value)
        objects += get_referents(value)
    return size
