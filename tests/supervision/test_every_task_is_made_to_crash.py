"""The tests of this folder crash every supervised task of the product."""

from __future__ import annotations

import re

import pytest

from tests.supervision.task_names import (
    CRASHED_TASKS,
    PRODUCT_PACKAGES,
    PROJECT_ROOT,
    task_names_in,
)

TASKS = sorted(
    {
        (pattern, str(path.relative_to(PROJECT_ROOT)))
        for package in PRODUCT_PACKAGES
        for path in (PROJECT_ROOT / package).rglob("*.py")
        for pattern in task_names_in(path.read_text())
    }
)


@pytest.mark.parametrize(("pattern", "path"), TASKS)
def test_every_task_of_the_product_is_in_the_crashed_list(pattern: str, path: str) -> None:
    is_crashed = any(re.fullmatch(pattern, name) for name in CRASHED_TASKS)

    assert is_crashed, f"{path} supervises {pattern!r}: add it to tests/supervision/task_names.py"


@pytest.mark.parametrize("name", sorted(CRASHED_TASKS))
def test_every_task_in_the_crashed_list_exists(name: str) -> None:
    assert any(re.fullmatch(pattern, name) for pattern, _ in TASKS)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("TaskSpec('one', run)", ["one"]),
        ("TASK = 'two'\nself.tasks.start(TaskSpec(TASK, run))", ["two"]),
        ("TASK: Final = 'three'\nreflector_task(TASK, run, [])", ["three"]),
        ("for kind in Kind:\n  reflector_task(f'watch-{kind.value}', run, [])", [r"watch\-.+"]),
        ("for name, x in (('a', 1), ('b', 2)):\n  TaskSpec(name, run)", ["a", "b"]),
        ("def reflector_task(name):\n  return TaskSpec(name, run)", []),
    ],
)
def test_task_names_are_found_in_every_supported_form(source: str, expected: list[str]) -> None:
    assert list(task_names_in(source)) == expected


def test_a_task_name_that_cannot_be_resolved_is_an_error() -> None:
    with pytest.raises(ValueError, match="cannot resolve the name name"):
        list(task_names_in("def start(name):\n  TaskSpec(name, run)"))
