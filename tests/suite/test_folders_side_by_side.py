"""The suite runs folders concurrently, each in one process, and sums the workers' counters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.folders import LONGEST_FIRST, MACHINE_SCOPE, SEPARATE_FILES, folder_of, scope_of

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 2
FOLDERS = ("tests/a", "tests/b", "tests/b/inner", "tests/nodes")
TESTS_PER_FOLDER = 6
"""Two files with three tests each."""

MACHINE_FILES = ("tests/a/test_in_machine.py", "tests/b/test_in_machine.py")
CONFTEST = """
from tests.support.counters import (
    Counters, pytest_sessionfinish, pytest_terminal_summary, pytest_testnodedown
)
from tests.support.folders import pytest_collection_modifyitems, pytest_xdist_make_scheduler
"""
TESTS = """
import os
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.counters import Counters


@pytest.mark.parametrize("text", ["a/b", "a::b", "c"])
def test_is_recorded(text):
    Counters.executions += 1
    with Path(os.environ["RECORD"]).open("a") as record:
        record.write(f"{Path(__file__).parent.relative_to(Path.cwd())} {os.environ.get(WORKER)}\\n")


WORKER = "PYTEST_XDIST_WORKER"
"""


class RecordedTest(NamedTuple):
    """A test that ran. ``worker``: "None" in a run without workers."""

    folder: str
    worker: str


class Run(NamedTuple):
    """An inner run, with its tests in the order in which they ran."""

    output: str
    tests: list[RecordedTest]


@pytest.fixture(scope="module", params=[0, WORKERS])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    project, workers = tmp_path_factory.mktemp("project"), request.param
    (project / "conftest.py").write_text(CONFTEST)
    for folder in FOLDERS:
        (project / folder).mkdir(parents=True, exist_ok=True)
        for name in ("test_first.py", "test_second.py"):
            (project / folder / name).write_text(TESTS)
    # The inner run must not inherit the variables of pytest-xdist.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "--import-mode=importlib", "--rootdir=."]
    completed = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-n", str(workers)],
        cwd=project,
        env=inherited | {"PYTHONPATH": str(ROOT), "RECORD": str(project / "record")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    lines = (project / "record").read_text().splitlines()
    return Run(completed.stdout, [RecordedTest(*line.split()) for line in lines])


def test_one_worker_runs_all_tests_of_a_folder(run: Run) -> None:
    assert sorted({test.folder for test in run.tests}) == sorted(FOLDERS)
    assert len(run.tests) == TESTS_PER_FOLDER * len(FOLDERS)
    for worker in {test.worker for test in run.tests}:
        order = [test.folder for test in run.tests if test.worker == worker]
        assert order == sorted(order, key=order.index), (
            "expected a worker to finish a folder before it starts another"
        )
    assert len(set(run.tests)) == len(FOLDERS), "expected one worker for each folder"


def test_counters_of_all_workers_are_summed(run: Run) -> None:
    executions = TESTS_PER_FOLDER * len(FOLDERS)
    assert f"workflow faults: executions {executions}, kills 0, violations 0" in run.output


def test_a_folder_of_longest_first_starts_before_other_folders(run: Run) -> None:
    # Of the folders of the inner run, only tests/nodes is in LONGEST_FIRST.
    (nodes_worker,) = {test.worker for test in run.tests if test.folder == "tests/nodes"}
    first = next(test.folder for test in run.tests if test.worker == nodes_worker)
    # Without workers, folders keep the order in which they were collected.
    assert first == ("tests/a" if nodes_worker == "None" else "tests/nodes")


@pytest.mark.parametrize("scope", LONGEST_FIRST)
def test_every_scope_of_longest_first_exists(scope: str) -> None:
    assert (ROOT / scope).is_file() if scope in SEPARATE_FILES else (ROOT / scope).is_dir()


@pytest.mark.parametrize("file", SEPARATE_FILES)
def test_each_file_of_separate_files_is_its_own_scope(file: str) -> None:
    folder = (ROOT / file).parent
    others = (path.relative_to(ROOT) for path in folder.glob("test_*.py") if path != ROOT / file)

    assert scope_of(ROOT, f"{file}::test") == file
    assert {scope_of(ROOT, f"{other}::test") for other in others} == {str(Path(file).parent)}


def test_files_with_tests_marked_uml_are_one_scope(tmp_path: Path) -> None:
    for name in (*MACHINE_FILES, "tests/a/test_plain.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("# mark.uml" if name in MACHINE_FILES else "")

    assert {scope_of(tmp_path, f"{name}::test") for name in MACHINE_FILES} == {MACHINE_SCOPE}
    assert scope_of(tmp_path, "tests/a/test_plain.py::test") == "tests/a"


@pytest.mark.parametrize("name", ["t", "t[a/b]", "t[a::b/c]", "Class::t"])
def test_the_folder_of_a_test_is_the_folder_of_its_file(name: str) -> None:
    assert folder_of(f"tests/one/inner/test_it.py::{name}") == "tests/one/inner"


def test_folders_that_share_a_server_are_one_scope() -> None:
    assert folder_of("tests/kubernetes/agents/test_it.py::t") == "tests/kubernetes"
