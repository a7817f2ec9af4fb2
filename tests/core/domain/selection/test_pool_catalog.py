"""The catalog of pools: names, default pools, and cached matches."""

from __future__ import annotations

import pytest

from core.domain.addresses.ip_address import Family
from core.domain.model import Pool
from core.domain.patterns import globs
from core.domain.selection import pool_catalog as catalog_module
from core.domain.selection.pool_catalog import PoolCatalog


def pools(*names: str, family: Family = 4, default: bool = False) -> dict[str, Pool]:
    return {name: Pool(name, family, subnet="", default=default) for name in names}


def fail_on_match(pattern: str, name: str) -> bool:
    raise AssertionError(f"{pattern} was matched with {name} again")


def test_a_catalog_is_a_mapping_of_its_pools() -> None:
    pools_by_name = pools("b", "a")
    catalog = PoolCatalog(pools_by_name)

    assert dict(catalog) == pools_by_name
    assert len(catalog) == 2
    assert catalog["a"] is pools_by_name["a"]
    assert catalog.get("a") is pools_by_name["a"]
    assert catalog.get("x") is None
    assert catalog.get("x", pools_by_name["b"]) is pools_by_name["b"]
    assert "x" not in catalog


def test_a_catalog_is_not_copied_and_its_names_are_computed_once() -> None:
    catalog = PoolCatalog(pools("a"))

    assert PoolCatalog.of(catalog) is catalog
    assert catalog.names is catalog.names


def test_names_are_sorted_within_their_family() -> None:
    catalog = PoolCatalog(pools("b", "a") | pools("d", "c", family=6))

    assert catalog.names == {4: ("a", "b"), 6: ("c", "d")}


def test_defaults_are_the_pools_marked_as_default() -> None:
    catalog = PoolCatalog(pools("b", "c", default=True) | pools("a") | pools("v6", family=6))

    assert catalog.defaults == {4: ("b", "c"), 6: ()}


def test_matches_of_a_pattern_are_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = PoolCatalog(pools("a1", "a2", "b1"))
    first = catalog.matching("a*", 4)
    monkeypatch.setattr(globs, "match", fail_on_match)

    assert catalog.matching("a*", 4) is first
    assert first == ("a1", "a2")


def test_the_cache_of_matches_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "PATTERNS_MAX", 2)
    catalog = PoolCatalog(pools("a1"))

    for pattern in ("a*", "b*", "c*", "?1"):
        catalog.matching(pattern, 4)

    assert len(catalog._matches) <= 2
    assert catalog.matching("a*", 4) == ("a1",)


def test_a_malformed_pattern_is_refused_only_if_the_family_has_a_pool() -> None:
    catalog = PoolCatalog(pools("a"))

    with pytest.raises(globs.BadPattern):
        catalog.matching("[]*", 4)
    assert catalog.matching("[]*", 6) == ()
