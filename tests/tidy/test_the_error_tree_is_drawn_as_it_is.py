"""The drawing at the top of ``core/errors.py`` equals the classes below it."""

from __future__ import annotations

import importlib
import re

import pytest

from core import errors
from tests.tidy.sources import PROJECT_ROOT

DRAWN = re.compile(r"^(?P<branch>[ │├└─]*)(?P<name>[A-Z]\w+)(?P<rest>.*)$")
BRANCH_WIDTH = 4

Tree = dict[str, tuple[str, bool]]
"""Name of an error -> the parent's name ("" for the root), and whether it is retryable."""


def drawn_tree(drawing: str) -> Tree:
    """Parse a drawing. Raises ValueError for a branch without a parent."""
    tree: Tree = {}
    ancestors: list[str] = []
    for line in drawing.splitlines():
        match = DRAWN.match(line)
        if match is None or not line.startswith(" " * BRANCH_WIDTH):
            continue
        depth = len(match["branch"]) // BRANCH_WIDTH - 1
        if depth > len(ancestors):
            raise ValueError(f"{match['name']} has no parent")
        del ancestors[depth:]
        tree[match["name"]] = (ancestors[-1] if ancestors else "", "(retryable)" in match["rest"])
        ancestors.append(match["name"])
    return tree


@pytest.fixture(scope="module", autouse=True)
def every_module() -> None:
    """Import all modules of the product, so that all subclasses exist."""
    for package in ("core", "workflows", "nodeagent", "ops"):
        for path in sorted((PROJECT_ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(PROJECT_ROOT).with_suffix("").parts)
            if not name.endswith(("__init__", "__main__")):
                importlib.import_module(name)


def class_tree(root: type[errors.OrbweaverError]) -> Tree:
    tree: Tree = {}
    pending: list[tuple[type[errors.OrbweaverError], str]] = [(root, "")]
    while pending:
        error, parent = pending.pop()
        tree[error.__name__] = (parent, error.retryable)
        pending += ((child, error.__name__) for child in error.__subclasses__())
    return tree


def test_the_drawing_equals_the_classes() -> None:
    assert drawn_tree(errors.__doc__ or "") == class_tree(errors.OrbweaverError)


def test_every_error_is_defined_in_core_errors() -> None:
    class_names = {name for name, value in vars(errors).items() if isinstance(value, type)}

    assert set(class_tree(errors.OrbweaverError)) <= class_names


def test_a_drawing_is_parsed_into_parents_and_retryable_marks() -> None:
    drawing = """Title: Words that are no drawing.

    Base
    ├── First          text (retryable)
    │   └── Second     text
    └── Third          text     (retryable)

Words After it.
"""

    assert drawn_tree(drawing) == {
        "Base": ("", False),
        "First": ("Base", True),
        "Second": ("First", False),
        "Third": ("Base", True),
    }


def test_a_branch_without_a_parent_is_refused() -> None:
    with pytest.raises(ValueError, match="has no parent"):
        drawn_tree("    Base\n    │   │   └── Lost\n")
