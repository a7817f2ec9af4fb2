"""The catalog of all pools for selection. Lists of names are sorted.

Lists are cached, so the mapping of pools must not change: a changed pool needs a new catalog.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Final, TypeVar, overload

from core.domain.addresses.ip_address import V4, V6, Family
from core.domain.autopools.pool_names import PoolScope, scope_of
from core.domain.model import Pool
from core.domain.patterns import globs

PATTERNS_MAX: Final = 256  # a full cache of patterns is emptied

_Default = TypeVar("_Default")


class PoolCatalog(Mapping[str, Pool]):
    """Pools by name, read-only. ``unreadable``: stored pools that cannot be decoded -> why."""

    def __init__(
        self, pools: Mapping[str, Pool], unreadable: Mapping[str, str] | None = None
    ) -> None:
        self._pools = pools
        self.unreadable: Mapping[str, str] = unreadable or {}
        self._matches: dict[tuple[str, Family], tuple[str, ...]] = {}

    @classmethod
    def of(cls, pools: Mapping[str, Pool]) -> PoolCatalog:
        return pools if isinstance(pools, PoolCatalog) else cls(pools)

    def __getitem__(self, name: str) -> Pool:
        return self._pools[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._pools)

    def __len__(self) -> int:
        return len(self._pools)

    @overload
    def get(self, name: str, /) -> Pool | None: ...
    @overload
    def get(self, name: str, /, default: Pool | _Default) -> Pool | _Default: ...
    def get(self, name: str, /, default: object = None) -> object:
        """Faster than ``Mapping.get``."""
        return self._pools.get(name, default)

    @cached_property
    def defaults(self) -> dict[Family, tuple[str, ...]]:
        return {
            family: tuple(name for name in names if self._pools[name].default)
            for family, names in self.names.items()
        }

    @cached_property
    def automatic(self) -> dict[PoolScope, tuple[str, ...]]:
        """The automatic pools that are not retiring."""
        names_by_scope: dict[PoolScope, list[str]] = {}
        for name, pool in sorted(self._pools.items()):
            scope = None if pool.retiring else scope_of(pool.labels, pool.family)
            if scope is not None:
                names_by_scope.setdefault(scope, []).append(name)
        return {scope: tuple(names) for scope, names in names_by_scope.items()}

    @cached_property
    def names(self) -> dict[Family, tuple[str, ...]]:
        return {
            family: tuple(
                sorted(name for name, pool in self._pools.items() if pool.family == family)
            )
            for family in (V4, V6)
        }

    def matching(self, pattern: str, family: Family) -> tuple[str, ...]:
        """The pools that match a wildcard. Raises globs.BadPattern."""
        key = (pattern, family)
        names = self._matches.get(key)
        if names is None:
            names = tuple(name for name in self.names[family] if globs.match(pattern, name))
            if len(self._matches) >= PATTERNS_MAX:
                self._matches.clear()
            self._matches[key] = names
        return names
