"""Counts and checks names and references; ``tests/tidy/test_names.py`` has the limits."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from tests.tidy.sources import PRODUCT_PACKAGES, PROJECT_ROOT, Source, python_sources, text_files

GLOSSARY: Final = "docs/contributing/glossary.md"

SHORT_MODULE_LINES: Final = 40
"""A module with fewer lines should usually be part of another module."""

OUTSIDE_THE_WHEEL: Final = ("ops/demo/", "ops/lab/")
"""Folders of the packages that ``pyproject.toml`` excludes from the wheel."""

NOUNS_IN_ING: Final = frozenset(
    {"binding", "housekeeping", "policy_routing", "provider_binding", "testing", "tracing"}
)
"""Nouns that end in -ing and may name a module."""

UNCLEAR_MODULE_NAMES: Final = frozenset(
    {
        *("abilities", "arrivals", "beginning", "books", "chores", "closings", "desk", "doors"),
        *("mail", "news", "own", "patience", "possible", "pump", "room", "scene", "strangers"),
        *("surroundings", "verbs", "vigil", "wishes", "witness", "words"),
    }
)

UNMIRRORED_FOLDERS: Final = frozenset(
    {
        "tests/core/eventstore/kv",
        "tests/ops/installer",
        "tests/workflows/faults",
        "tests/workflows/jobs/provider/with_agent",
        "tests/workflows/replay",
    }
)
"""Folders of tests that need not mirror a folder of the product."""

UNCLEAR_HARNESS_NAMES: Final = frozenset({"Desk", "Place", "Scene", "Stage", "Town", "World"})
"""Class names of test helpers that do not say what they run."""

_FILE = re.compile(r"(?<![\w/.-])(\w+\.py)\b")
_NAMED_PATH = re.compile(
    r"`((?:bench|cni|core|docs|nodeagent|ops|requirements|scripts|tests|workflows)/[\w./-]+)`"
)
_LINK = re.compile(r"\]\(([^)\s#:]+)(?:#[^)\s]*)?\)")
_CITED = re.compile(r'(docs/[a-z-]+/[a-z-]+\.md), "([^"]+)"((?:(?:,| and|,? or) "[^"]+")*)')
"""A reference to sections of a page, on one line."""

_LINE_BREAK = re.compile(r"\n[ \t]*(?:[#*][ \t]*)?")
_DOCUMENT = re.compile(r"(?<![\w/.-])((?:docs|spec|design|decisions)/[\w./-]+\.md)")


def product_modules() -> Iterator[Source]:
    return (file for file in python_sources() if file.package in PRODUCT_PACKAGES)


def repeated_classes() -> dict[str, list[str]]:
    """Public classes that several modules define, with the modules."""
    modules: dict[str, list[str]] = defaultdict(list)
    for file in product_modules():
        for node in file.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                modules[node.name].append(file.path)
    return {name: paths for name, paths in sorted(modules.items()) if len(paths) > 1}


def unclear_modules() -> list[str]:
    unclear = set()
    for file in product_modules():
        path = PurePosixPath(file.path)
        for part in (*path.parts[:-1], path.stem):
            if part in UNCLEAR_MODULE_NAMES or (part.endswith("ing") and part not in NOUNS_IN_ING):
                unclear.add(file.path)
    return sorted(unclear)


def short_modules() -> list[str]:
    return [
        file.path
        for file in product_modules()
        if not Path(file.path).stem.startswith("__")
        and len(file.text.splitlines()) < SHORT_MODULE_LINES
    ]


def glossary_rows() -> int:
    lines = (PROJECT_ROOT / GLOSSARY).read_text(encoding="utf-8").splitlines()
    return sum(line.startswith("| ") for line in lines) - 1


def missing_documents() -> list[str]:
    """References to pages that are not in the repository, as ``file: page``."""
    files = [*((file.path, file.text) for file in python_sources()), *text_files()]
    return sorted(
        f"{path}: {page}"
        for path, text in files
        for page in _DOCUMENT.findall(text)
        if not (PROJECT_ROOT / page).exists()
        and not (PROJECT_ROOT / Path(path).parent / page).exists()
    )


def missing_paths() -> list[str]:
    """Missing paths in backquotes or link targets of documents."""
    missing = set()
    for path, text in text_files():
        if not path.endswith(".md"):
            continue
        for name in _NAMED_PATH.findall(text):
            if not (PROJECT_ROOT / name).exists():
                missing.add(f"{path}: {name}")
        for target in _LINK.findall(text):
            if not (PROJECT_ROOT / path).parent.joinpath(target).exists():
                missing.add(f"{path}: {target}")
    return sorted(missing)


def missing_sections() -> list[str]:
    """References to sections that the page lacks."""
    missing = set()
    for path, text in [*((file.path, file.text) for file in python_sources()), *text_files()]:
        for page, first, more in _CITED.findall(_LINE_BREAK.sub(" ", text)):
            if not (PROJECT_ROOT / page).exists():
                continue  # missing_documents reports it
            lines = (PROJECT_ROOT / page).read_text(encoding="utf-8").splitlines()
            headings = {line.lstrip("# ").replace("`", "") for line in lines if line[:1] == "#"}
            cited = [first, *re.findall(r'"([^"]+)"', more)]
            missing |= {f"{path}: {page}, {name}" for name in cited if name not in headings}
    return sorted(missing)


def unknown_files() -> list[str]:
    """Files that a package's docstring names but the package lacks."""
    return sorted(
        f"{file.path}: {name}"
        for file in python_sources()
        if file.path.endswith("/__init__.py")
        for name in _FILE.findall(ast.get_docstring(file.tree) or "")
        if not (PROJECT_ROOT / file.path).with_name(name).exists()
    )


def product_lines(*, in_wheel: bool) -> int:
    """The number of non-empty lines of Python in the wheel, or in ``OUTSIDE_THE_WHEEL``."""
    return sum(
        bool(line.strip())
        for file in product_modules()
        if file.path.startswith(OUTSIDE_THE_WHEEL) is not in_wheel
        for line in file.text.splitlines()
    )


def conftests() -> list[str]:
    return sorted(file.path for file in python_sources() if file.path.endswith("/conftest.py"))


def harness_classes() -> dict[str, list[str]]:
    return _classes_of_tests(lambda name: name.endswith("Harness"))


def unclear_harnesses() -> list[str]:
    classes = _classes_of_tests(lambda name: name in UNCLEAR_HARNESS_NAMES)
    return sorted(f"{path}: {name}" for name, paths in classes.items() for path in paths)


def misplaced_test_folders() -> list[str]:
    """Test folders without a folder of the same path in the product."""
    folders = {
        PurePosixPath(file.path).parent
        for file in python_sources()
        if file.package == "tests" and PurePosixPath(file.path).name.startswith("test_")
    }
    return sorted(
        str(folder)
        for folder in folders
        if len(folder.parts) > 1
        and folder.parts[1] in PRODUCT_PACKAGES
        and str(folder) not in UNMIRRORED_FOLDERS
        and not (PROJECT_ROOT / PurePosixPath(*folder.parts[1:])).is_dir()
    )


def _classes_of_tests(is_selected: Callable[[str], bool]) -> dict[str, list[str]]:
    modules: dict[str, list[str]] = defaultdict(list)
    for file in python_sources():
        if file.package == "tests":
            for node in file.tree.body:
                if isinstance(node, ast.ClassDef) and is_selected(node.name):
                    modules[node.name].append(file.path)
    return dict(sorted(modules.items()))
