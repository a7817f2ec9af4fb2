"""docs/contributing/compatibility-datapath.md has each requirement once, with existing tests."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from tests.tidy.sources import PROJECT_ROOT
from tests.tidy.test_the_compatibility_page_is_true import (
    TEST_REFERENCE,
    functions_of,
    texts_beside,
)

PAGE = PROJECT_ROOT / "docs" / "contributing" / "compatibility-datapath.md"
STATES = (
    *("runs", "runs in a virtual machine", "runs with an API server", "runs with a kubelet"),
    *("not guaranteed", "open"),
)
SCENARIOS = (*range(1, 9), *range(10, 16))
"""Numbers of datapath scenarios; the missing numbers are scenarios of installations."""

REQUIREMENT_IDS = {
    *(f"Q{number:02}" for number in range(1, 24)),
    *(f"F{number}" for number in range(1, 6)),
    *(f"X{number:02}" for number in range(1, 20)),
    *(f"T{number:02}" for number in range(1, 16)),
    *(f"S{number:02}" for number in SCENARIOS),
    *(f"D{number:02}" for number in range(1, 13)),
}
"""Quirks (Q), final states (F), traffic (X), traps (T), scenarios (S) and faults (D)."""


class Row(NamedTuple):
    """A row of the table of requirements."""

    id: str
    requirement: str
    proof: str
    state: str


def rows() -> list[Row]:
    lines = [line.strip("|").split("|") for line in PAGE.read_text().splitlines()]
    table = [[cell.strip() for cell in line] for line in lines if len(line) == len(Row._fields)]
    return [Row(*cells) for cells in table if cells[0] in REQUIREMENT_IDS]


def test_every_requirement_has_one_row_with_a_known_state() -> None:
    counts = Counter(row.id for row in rows())

    assert set(counts) == REQUIREMENT_IDS
    assert [name for name, times in counts.items() if times > 1] == []
    assert {row.state for row in rows()} <= set(STATES)


def test_every_running_requirement_names_existing_tests() -> None:
    for row in rows():
        references = TEST_REFERENCE.findall(row.proof)
        assert references or row.state in {"not guaranteed", "open"}, row.id
        for file, name, variant in references:
            path = PROJECT_ROOT / "tests" / file
            assert name in functions_of(path), f"{row.id}: {file}::{name}"
            assert variant in texts_beside(path), f"{row.id}: [{variant}]"


def test_the_counts_on_the_page_are_right() -> None:
    counts = Counter(row.state for row in rows())
    parts = ", ".join(f"{counts[state]} {state}" for state in STATES)

    assert f"**{len(rows())} rows:** {parts}." in PAGE.read_text()
