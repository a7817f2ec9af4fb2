"""The folders of the suite, side by side: ``pytest -n 3`` runs each of them in one process.

Files with tests that run in another machine (marked ``uml``) are one scope of their own, whatever
their folders: one process boots that machine before all else, and no other waits for it.

Most of what the suite takes is waiting, so that some processes more make it much shorter. A folder
is never shared out: its tests may share what takes long to start (a cluster, an API server, etcd)
and run in their order. Folders run beside each other, therefore no test may count on anything of
this machine that others use too: names, ports, what is running, what is mounted.

The hooks here are hooks of ``tests/conftest.py``.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

MACHINE: Final = "the machine of tests marked uml"
MACHINE_MARK: Final = "mark.uml"

WHOLE: Final = ("tests/kubernetes",)
"""Folders that are handed out with all folders below them, whose tests share an API server."""

LONGEST_FIRST: Final = (
    *("tests/nodes", "tests/kubernetes", "tests/ops/lab", "tests/nodeagent/coordinator"),
    *("tests/core/eventstore/etcd", "tests/chaos", "tests/vm", "tests/faults"),
    *("tests/workflows/faults", "tests/runtime", "tests/workflows/engine/run"),
    *("tests/workflows/engine/worker", "tests/containment", "tests/ops/cli", "tests/packaging"),
)
"""Whatever takes long starts early, or all others wait for it in the end."""


def folder_of(nodeid: str) -> str:
    """The folder that a test is in, or the one of ``WHOLE`` above it."""
    folder = nodeid.partition("::")[0].rpartition("/")[0]
    return next((whole for whole in WHOLE if folder.startswith(f"{whole}/")), folder)


@functools.cache
def runs_in_machine(path: Path) -> bool:
    """Whether a test file has tests marked ``uml``."""
    return MACHINE_MARK in path.read_text()


def scope_of(root: Path, nodeid: str) -> str:
    """What a test is handed out with: its folder, or all files of the machine."""
    in_machine = runs_in_machine(root / nodeid.partition("::")[0])
    return MACHINE if in_machine else folder_of(nodeid)


class FolderScheduling(LoadScopeScheduling):
    """Hands out whole scopes, in the order in which their first tests were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(self.config.rootpath, nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FolderScheduling:
    """With workers, by folder and in our order."""
    config.option.loadscopereorder = False
    return FolderScheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a worker, the longest folders first; all workers come to the same order."""
    if shared_directory(config) is not None:
        ranks = {scope: rank for rank, scope in enumerate((MACHINE, *LONGEST_FIRST))}
        root = config.rootpath
        items.sort(key=lambda item: ranks.get(scope_of(root, item.nodeid), len(ranks)))


def shared_directory(config: pytest.Config) -> Path | None:
    """In a worker, a directory that all workers of this run have, and no other run; else None."""
    if not hasattr(config, "workerinput"):
        return None
    return Path(config.getoption("basetemp")).parent
