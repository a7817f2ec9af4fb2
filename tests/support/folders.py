"""Runs the folders of the suite concurrently: ``pytest -n 4`` runs each folder in one process.

A scope is a group of tests that runs in one process: a folder, a long file, or all files with tests
marked ``uml``, which share one virtual machine. Tests of different folders run concurrently and
must not share names, ports, processes or mounts.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

MACHINE_SCOPE: Final = "the machine of tests marked uml"
MACHINE_MARK: Final = "mark.uml"

FOLDERS_WITH_SUBFOLDERS: Final = ("tests/kubernetes",)
"""Folders whose subfolders are in the same scope, because all share an API server."""

SEPARATE_FILES: Final = ("tests/nodes/test_guides.py",)
"""Long files that are scopes of their own."""

LONGEST_FIRST: Final = (
    *("tests/kubernetes", "tests/installation", "tests/nodes", *SEPARATE_FILES, "tests/vm"),
    *("tests/ops/lab", "tests/nodeagent/coordinator", "tests/core/eventstore/etcd", "tests/chaos"),
    *("tests/supervision", "tests/runtime", "tests/workflows/faults", "tests/faults"),
    *("tests/ops/diagnostics", "tests/docs", "tests/ops/cli", "tests/cni", "tests/chart"),
    *("tests/packaging", "tests/bench", "tests/containment", "tests/workflows/engine/run"),
    *("tests/workflows/engine/worker",),
)
"""The longest scopes, which start first, so that the run does not end with one long scope.

Scopes that mostly wait are at the top, and leave the CPU to the others.
"""


def folder_of(nodeid: str) -> str:
    """The folder of a test, or its parent in ``FOLDERS_WITH_SUBFOLDERS``."""
    folder = nodeid.partition("::")[0].rpartition("/")[0]
    return next(
        (parent for parent in FOLDERS_WITH_SUBFOLDERS if folder.startswith(f"{parent}/")), folder
    )


@functools.cache
def runs_in_machine(path: Path) -> bool:
    return MACHINE_MARK in path.read_text()


def scope_of(root: Path, nodeid: str) -> str:
    file = nodeid.partition("::")[0]
    if file in SEPARATE_FILES:
        return file
    return MACHINE_SCOPE if runs_in_machine(root / file) else folder_of(nodeid)


class FolderScheduling(LoadScopeScheduling):
    """Schedules scopes in the order in which their first tests were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(self.config.rootpath, nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FolderScheduling:
    config.option.loadscopereorder = False
    return FolderScheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a worker, sort the tests; all workers must have the same order."""
    if shared_directory(config) is not None:
        ranks = {scope: rank for rank, scope in enumerate((MACHINE_SCOPE, *LONGEST_FIRST))}
        root = config.rootpath
        items.sort(key=lambda item: ranks.get(scope_of(root, item.nodeid), len(ranks)))


def shared_directory(config: pytest.Config) -> Path | None:
    """In a worker, a directory that all workers of this run share; else None."""
    if not hasattr(config, "workerinput"):
        return None
    return Path(config.getoption("basetemp")).parent
