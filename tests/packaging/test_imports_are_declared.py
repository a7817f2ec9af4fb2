"""The product's imports equal its declared dependencies."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions

from tests.packaging.project import PRODUCT_PACKAGES, PROJECT_ROOT, normal, pyproject, required


def imported() -> Iterator[str]:
    """Top-level names of every import of the product, including imports in functions."""
    for package in PRODUCT_PACKAGES:
        for path in (PROJECT_ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    yield from (alias.name.partition(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    yield (node.module or "").partition(".")[0]


def distributions(name: str) -> set[str]:
    """The distributions that provide an import name; ``google`` has several."""
    return {normal(distribution) for distribution in _installed().get(name, [name])}


@cache
def _installed() -> Mapping[str, list[str]]:
    return packages_distributions()


@cache
def third_party() -> set[str]:
    """Imported names that belong to neither the product nor the standard library."""
    return set(imported()) - set(PRODUCT_PACKAGES) - set(sys.stdlib_module_names)


def declared() -> set[str]:
    """The declared dependencies of the product, with the extras that the product imports."""
    project = pyproject()["project"]
    extras = project["optional-dependencies"]
    return required(project["dependencies"] + extras["otlp"] + extras["kubernetes"])


def test_every_import_is_declared() -> None:
    missing = {name for name in third_party() if not distributions(name) & declared()}

    assert missing == set()


def test_every_declared_dependency_is_imported() -> None:
    used = {package for name in third_party() for package in distributions(name)}

    assert declared() - used == set()
