"""The versions of configuration objects, by log position."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Iterator
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Version(NamedTuple, Generic[V]):
    """The value of an object from ``position`` on; None: the object was deleted."""

    position: int
    value: V | None


class VersionTable(Generic[K, V]):
    """The versions of objects of one kind, by name."""

    def __init__(self) -> None:
        self._versions: dict[K, list[Version[V]]] = {}

    def define(self, name: K, position: int, value: V | None) -> None:
        """Add a version; ``value`` None: the object was deleted."""
        versions = self._versions.setdefault(name, [])
        if versions and versions[-1].position == position:
            versions[-1] = Version(position, value)  # the last event at a position wins
            return
        versions.append(Version(position, value))

    def current(self, name: K) -> V | None:
        """The newest value; None if the object was deleted or never existed."""
        versions = self._versions.get(name)
        return versions[-1].value if versions else None

    def current_or_deleted(self, name: K) -> V | None:
        """The newest value, or the value before the deletion."""
        versions = self._versions.get(name, [])
        values = (version.value for version in reversed(versions))
        return next((value for value in values if value is not None), None)

    def get(self, name: K, position: int) -> V | None:
        """The value at a position; None if the object did not exist then."""
        versions = self._versions.get(name, [])
        index = bisect_right(versions, position, key=lambda version: version.position)
        return versions[index - 1].value if index else None

    def version_position(self, name: K, position: int) -> int:
        """The position of the version that ``get`` returns; 0 without such a version."""
        versions = self._versions.get(name, [])
        index = bisect_right(versions, position, key=lambda version: version.position)
        return versions[index - 1].position if index else 0

    def between(self, name: K, after: int, upto: int) -> list[Version[V]]:
        """The version valid at position ``after``, if any, and every version in (after, upto]."""
        versions = self._versions.get(name, [])
        begin = bisect_right(versions, after, key=lambda version: version.position)
        end = bisect_right(versions, upto, key=lambda version: version.position)
        return versions[max(begin - 1, 0) : end]

    def at(self, position: int) -> dict[K, V]:
        """The values of all objects at a position."""
        pairs = ((name, self.get(name, position)) for name in self._versions)
        return {name: value for name, value in pairs if value is not None}

    def first_position(self, name: K) -> int:
        """The position of the first version; 0 if no version exists."""
        versions = self._versions.get(name)
        return versions[0].position if versions else 0

    def names(self) -> Iterator[K]:
        """The names of all objects, including deleted objects."""
        return iter(self._versions)
