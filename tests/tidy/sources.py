"""The project's Python files, parsed once, including files that are not committed yet."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

PROJECT_ROOT = Path(__file__).resolve().parents[2]

PRODUCT_PACKAGES = ("cni", "core", "nodeagent", "ops", "workflows")

PYTHON_FOLDERS = (*PRODUCT_PACKAGES, "bench", "tests", "scripts")

TEXT_PATTERNS = (
    "*.md",
    "*.toml",
    "*.yml",
    "Makefile",
    "Containerfile",
    ".ci/run",
    "scripts/*",
    "docs/**/*.md",
    "requirements/*",
)


class Source(NamedTuple):
    """A Python file. ``path``: relative to the project's root."""

    path: str
    text: str
    tree: ast.Module

    @property
    def package(self) -> str:
        """The first folder: ``core``, ``tests``, ..."""
        return self.path.partition("/")[0]


class Definition(NamedTuple):
    """A function or class, with its qualified name. ``owner``: the class around a method."""

    name: str
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    owner: ast.ClassDef | None


def source(path: str, text: str) -> Source:
    """Parse ``text`` as the file ``path``. Raises SyntaxError."""
    return Source(path, text, ast.parse(text, path))


@cache
def python_sources() -> tuple[Source, ...]:
    paths = sorted(
        path for folder in PYTHON_FOLDERS for path in (PROJECT_ROOT / folder).rglob("*.py")
    )
    # With the garbage collector, which would free nothing, parsing takes seven times as long.
    is_enabled = gc.isenabled()
    gc.disable()
    try:
        sources = tuple(
            source(path.relative_to(PROJECT_ROOT).as_posix(), path.read_text(encoding="utf-8"))
            for path in paths
        )
    finally:
        gc.freeze()
        if is_enabled:
            gc.enable()
    return sources


@cache
def nodes_of(tree: ast.Module) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree))


def text_files() -> Iterator[tuple[str, str]]:
    """Yield path and text of documents, scripts and configuration files (not Python)."""
    for pattern in TEXT_PATTERNS:
        for path in sorted(PROJECT_ROOT.glob(pattern)):
            if path.is_file() and path.suffix != ".py":
                yield path.relative_to(PROJECT_ROOT).as_posix(), path.read_text(encoding="utf-8")


def definitions(tree: ast.AST, prefix: str = "") -> Iterator[Definition]:
    """Yield functions, classes and methods at any depth, outermost first."""
    owner = tree if isinstance(tree, ast.ClassDef) else None
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}{node.name}"
            yield Definition(name, node, owner)
            yield from definitions(node, f"{name}.")
        else:
            yield from definitions(node, prefix)
