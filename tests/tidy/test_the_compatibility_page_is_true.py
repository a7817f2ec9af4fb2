"""docs/contributing/compatibility.md matches Spiderpool's list, the tests and the settings."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import msgspec

from core.settings.conf_file import ConfFile
from tests.tidy.sources import PRODUCT_PACKAGES, PROJECT_ROOT, nodes_of, python_sources

PAGE = PROJECT_ROOT / "docs" / "contributing" / "compatibility.md"
STATES = (
    "runs",
    "runs with an API server",
    "runs in a virtual machine",
    "runs with a kubelet",
    "not applicable",
    "open",
)
STATES_BY_FOLDER = {
    "vm": "runs in a virtual machine",
    "nodes": "runs with a kubelet",
    "kubernetes": "runs with an API server",
}
"""Folder of a test -> state of the case; the first matching folder counts."""

LAST_NUMBERS = {
    "E": 10,
    "L": 9,
    "A": 18,
    "D": 17,
    "S": 4,
    "G": 12,
    "I": 24,
    "T": 5,
    "F": 3,
    "R": 7,
    "C": 24,
    "V": 11,
    "M": 40,
    "N": 6,
    "H": 1,
    "Y": 5,
}
"""Letter of a series of cases -> number of the last case."""

UNUSED = {"M00018"}
"""Ids that Spiderpool's list skips."""

CASES_OUTSIDE_A_SERIES = {"P00002", "K00001", "K00002", "US2", "I00001-provider"}
PROVIDER_CASES = {"E00019", "E00031", "E00043", "E00044"}
"""Cases beyond the last number of their series."""

TEST_REFERENCE = re.compile(r"`([a-z_/]+\.py)::(\w+)(?:\[([^\]]*)\])?`")
VARIABLE = re.compile(r"SPIDERPOOL_[A-Z0-9_]+|MULTUS_[A-Z_]+")


class Case(NamedTuple):
    """A row of the table of cases."""

    id: str
    behaviour: str
    proof: str
    state: str


def rows(heading: str) -> list[list[str]]:
    _, _, after = PAGE.read_text().partition(f"\n## {heading}\n")
    section = after.partition("\n## ")[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in lines if row[0].strip() != "id"]


def cases() -> list[Case]:
    return [Case(*row) for row in rows("Cases")]


def catalogue() -> set[str]:
    series = {
        f"{letter}{number:05}"
        for letter, last in LAST_NUMBERS.items()
        for number in range(1, last + 1)
    }
    return (series - UNUSED) | CASES_OUTSIDE_A_SERIES | PROVIDER_CASES


@cache
def functions_of(path: Path) -> frozenset[str]:
    """Names of functions; empty if the file is missing."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    name = path.relative_to(PROJECT_ROOT).as_posix()
    trees = (file.tree for file in python_sources() if file.path == name)
    nodes = (node for tree in trees for node in nodes_of(tree))
    return frozenset(node.name for node in nodes if isinstance(node, functions))


@cache
def texts_beside(path: Path) -> str:
    """Names of .txt and .yaml files, and titles of scenarios, in the folder of a test file."""
    files = [file for file in path.parent.rglob("*") if file.suffix in (".txt", ".yaml")]
    lines = (line for file in files for line in file.read_text().splitlines())
    titles = (line for line in lines if "scenario:" in line)
    return "\n".join([*(file.stem for file in files), *titles])


def test_every_case_has_one_row() -> None:
    counts = Counter(case.id for case in cases())

    assert set(counts) == catalogue()
    assert [name for name, times in counts.items() if times > 1] == []


def test_every_row_has_a_known_state_and_a_proof_or_a_reason() -> None:
    assert {case.state for case in cases()} <= set(STATES)
    for case in cases():
        is_proved = bool(TEST_REFERENCE.search(case.proof))
        assert is_proved or case.state in ("not applicable", "open"), case.id
        assert case.proof, case.id


def test_every_cited_test_exists() -> None:
    for case in cases():
        for file, name, variant in TEST_REFERENCE.findall(case.proof):
            path = PROJECT_ROOT / "tests" / file
            assert name in functions_of(path), f"{case.id}: {file}::{name}"
            assert variant in texts_beside(path), f"{case.id}: [{variant}]"


def test_the_state_of_a_case_matches_the_folders_of_its_tests() -> None:
    for case in cases():
        folders = {file.partition("/")[0] for file, _, _ in TEST_REFERENCE.findall(case.proof)}
        expected_state = next(
            (STATES_BY_FOLDER[folder] for folder in STATES_BY_FOLDER if folder in folders), "runs"
        )
        assert case.state in (expected_state, "not applicable", "open"), case.id


def test_the_counts_on_the_page_are_right() -> None:
    counts = Counter(case.state for case in cases())
    parts = ", ".join(f"{counts[state]} {state}" for state in STATES)

    assert f"**{len(cases())} cases:** {parts}." in PAGE.read_text()


def test_the_page_lists_the_variables_that_the_code_reads() -> None:
    variables_in_code = {
        name
        for source in python_sources()
        if source.package in PRODUCT_PACKAGES
        for node in nodes_of(source.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for name in VARIABLE.findall(node.value)
        if node.value == name
    }
    variables_on_page = {
        name
        for variables, _, state in rows("Environment")
        if state.startswith("obeyed")
        for name in VARIABLE.findall(variables)
    }

    assert variables_in_code == variables_on_page


def test_the_page_lists_the_conf_yml_keys_that_the_code_reads() -> None:
    keys_in_code = {field.encode_name for field in msgspec.structs.fields(ConfFile)} - {"orbweaver"}
    keys_on_page = {
        key
        for keys, _, state in rows("conf.yml")
        if state.startswith("obeyed")
        for key in re.findall(r"`(\w+)`", keys)
    }

    assert keys_in_code == keys_on_page
