"""Every version of the configuration's objects, and those that were valid at a position. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Iterator
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Version(NamedTuple, Generic[V]):
    """``value`` from ``position`` on; None: it is gone."""

    position: int
    value: V | None


class Versions(Generic[K, V]):
    """The versions of objects of one kind, by name, in log order."""

    def __init__(self) -> None:
        self._versions: dict[K, list[Version[V]]] = {}
        self.count = 0

    def define(self, name: K, position: int, value: V | None) -> None:
        """The object is this from a position on; None: it is deleted."""
        versions = self._versions.setdefault(name, [])
        if versions and versions[-1].position == position:
            versions[-1] = Version(position, value)  # the last one in its transaction counts
            return
        versions.append(Version(position, value))
        self.count += 1

    def last(self, name: K) -> V | None:
        """The newest version; None where there is none."""
        versions = self._versions.get(name)
        return versions[-1].value if versions else None

    def newest(self, name: K) -> V | None:
        """The last version that was not a deletion; None where there was none."""
        versions = self._versions.get(name, [])
        values = (version.value for version in reversed(versions))
        return next((value for value in values if value is not None), None)

    def get(self, name: K, position: int) -> V | None:
        """The object at a position; None where there was none."""
        versions = self._versions.get(name, [])
        index = bisect_right(versions, position, key=lambda version: version.position)
        return versions[index - 1].value if index else None

    def position_of(self, name: K, position: int) -> int:
        """Where the version that ``get`` returns begins; 0 if there is none."""
        versions = self._versions.get(name, [])
        index = bisect_right(versions, position, key=lambda version: version.position)
        return versions[index - 1].position if index else 0

    def between(self, name: K, after: int, upto: int) -> list[Version[V]]:
        """The version at a position, if any, and every one that begins in (after, upto]."""
        versions = self._versions.get(name, [])
        begin = bisect_right(versions, after, key=lambda version: version.position)
        end = bisect_right(versions, upto, key=lambda version: version.position)
        return versions[max(begin - 1, 0) : end]

    def at(self, position: int) -> dict[K, V]:
        """Every object at a position, by name."""
        pairs = ((name, self.get(name, position)) for name in self._versions)
        return {name: value for name, value in pairs if value is not None}

    def first_position(self, name: K) -> int:
        """Where its first version is; 0 if there is none."""
        versions = self._versions.get(name)
        return versions[0].position if versions else 0

    def names(self) -> Iterator[K]:
        """Every name that there has been."""
        return iter(self._versions)
