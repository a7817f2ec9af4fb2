"""A test of this folder crashes every supervised task of the product."""

from __future__ import annotations

import re

import pytest

from tests.supervision.supervised import CRASHED, PACKAGES, ROOT, names

TASKS = sorted(
    {
        (pattern, str(path.relative_to(ROOT)))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for pattern in names(path.read_text())
    }
)


@pytest.mark.parametrize(("pattern", "path"), TASKS)
def test_a_task_of_the_product_is_made_to_crash_by_a_test(pattern: str, path: str) -> None:
    is_there = any(re.fullmatch(pattern, name) for name in CRASHED)

    assert is_there, f"{path} supervises {pattern!r}: add it to tests/supervision/supervised.py"


@pytest.mark.parametrize("name", sorted(CRASHED))
def test_a_task_that_a_test_makes_crash_is_of_the_product(name: str) -> None:
    assert any(re.fullmatch(pattern, name) for pattern, _ in TASKS)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("TaskSpec('one', run)", ["one"]),
        ("TASK = 'two'\nself.tasks.start(TaskSpec(TASK, run))", ["two"]),
        ("TASK: Final = 'three'\nreflector_task(TASK, run, [])", ["three"]),
        ("for kind in Kind:\n  reflector_task(f'watch-{kind.value}', run, [])", [r"watch\-.+"]),
        ("for name, x in (('a', 1), ('b', 2)):\n  TaskSpec(name, run)", ["a", "b"]),
        ("def reflector_task(name):\n  return TaskSpec(name, run)", []),
    ],
)
def test_names_of_tasks_are_found_however_they_are_given(source: str, found: list[str]) -> None:
    assert list(names(source)) == found


def test_a_name_that_cannot_be_told_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot tell the name name"):
        list(names("def start(name):\n  TaskSpec(name, run)"))
