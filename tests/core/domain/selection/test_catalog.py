"""The index of pools that selection uses."""

from __future__ import annotations

import pytest

from core.domain.model import Pool
from core.domain.patterns import globs
from core.domain.selection import catalog as catalog_module
from core.domain.selection.catalog import PoolCatalog


def pools(*names: str, family: int = 4, default: bool = False) -> dict[str, Pool]:
    assert family in (4, 6)
    return {name: Pool(name, 4 if family == 4 else 6, "", default=default) for name in names}


def never(pattern: str, name: str) -> bool:
    raise AssertionError(f"{pattern} was matched with {name} again")


def test_a_catalog_is_the_mapping_it_was_made_of() -> None:
    known = pools("b", "a")
    made = PoolCatalog(known)

    assert dict(made) == known
    assert len(made) == 2
    assert made["a"] is known["a"]
    assert made.get("a") is known["a"]
    assert made.get("x") is None
    assert made.get("x", known["b"]) is known["b"]
    assert "x" not in made


def test_a_catalog_of_a_catalog_is_itself_so_its_lists_are_made_once() -> None:
    made = PoolCatalog(pools("a"))

    assert PoolCatalog.of(made) is made
    assert made.names is made.names


def test_names_are_sorted_within_their_family() -> None:
    made = PoolCatalog(pools("b", "a") | pools("d", "c", family=6))

    assert made.names == {4: ("a", "b"), 6: ("c", "d")}


def test_defaults_are_the_pools_marked_as_default() -> None:
    made = PoolCatalog(pools("b", "c", default=True) | pools("a") | pools("v6", family=6))

    assert made.defaults == {4: ("b", "c"), 6: ()}


def test_matches_of_a_pattern_are_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    made = PoolCatalog(pools("a1", "a2", "b1"))
    first = made.matching("a*", 4)
    monkeypatch.setattr(globs, "match", never)

    assert made.matching("a*", 4) is first
    assert first == ("a1", "a2")


def test_the_cache_of_matches_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "PATTERNS_MAX", 2)
    made = PoolCatalog(pools("a1"))

    for pattern in ("a*", "b*", "c*", "?1"):
        made.matching(pattern, 4)

    assert len(made._matches) <= 2
    assert made.matching("a*", 4) == ("a1",)


def test_a_malformed_pattern_is_refused_as_soon_as_there_is_a_pool() -> None:
    made = PoolCatalog(pools("a"))

    with pytest.raises(globs.BadPattern):
        made.matching("[]*", 4)
    assert made.matching("[]*", 6) == ()
