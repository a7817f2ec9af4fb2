"""pyproject.toml declares exactly the distributions that the product imports."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions

from tests.packaging.project import PRODUCT_PACKAGES, PROJECT_ROOT, names_of, normalized, pyproject


def imported_names() -> Iterator[str]:
    for package in PRODUCT_PACKAGES:
        for path in (PROJECT_ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    yield from (alias.name.partition(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    yield (node.module or "").partition(".")[0]


def distributions_of(name: str) -> set[str]:
    return {normalized(distribution) for distribution in _installed().get(name, [name])}


@cache
def _installed() -> Mapping[str, list[str]]:
    return packages_distributions()


@cache
def third_party_names() -> set[str]:
    return set(imported_names()) - set(PRODUCT_PACKAGES) - set(sys.stdlib_module_names)


def declared_distributions() -> set[str]:
    """The dependencies of the product and of its extras otlp and kubernetes."""
    project = pyproject()["project"]
    extras = project["optional-dependencies"]
    return names_of(project["dependencies"] + extras["otlp"] + extras["kubernetes"])


def test_every_import_is_declared() -> None:
    missing = {
        name
        for name in third_party_names()
        if not distributions_of(name) & declared_distributions()
    }

    assert missing == set()


def test_every_declared_dependency_is_imported() -> None:
    used = {distribution for name in third_party_names() for distribution in distributions_of(name)}

    assert declared_distributions() - used == set()
