"""Fixtures, pytest hooks and hypothesis settings of all tests.

Tests that need etcd fail without etcd. Tests that need another missing program are skipped; in CI
they fail if ``INSTALLED_IN_CI`` (``tests/support/parts.py``) names the program.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.support.collection import pytest_collection, start_go_programs_with_large_heaps
from tests.support.counters import (
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
)
from tests.support.folders import pytest_collection_modifyitems, pytest_xdist_make_scheduler
from tests.support.parts import FailInCI, MissingPartsTable
from tests.support.uml import pytest_runtest_protocol, register_recorder

pytest_plugins = (
    "tests.fixtures.agents",
    "tests.fixtures.kubernetes",
    "tests.fixtures.logs",
    "tests.fixtures.namespaces",
    "tests.fixtures.stores",
    "tests.fixtures.workflows",
)

__all__ = (
    "pytest_collection",
    "pytest_collection_modifyitems",
    "pytest_runtest_protocol",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "pytest_testnodedown",
    "pytest_xdist_make_scheduler",
)
"""Hooks that pytest finds in this module."""


def pytest_configure(config: pytest.Config) -> None:
    start_go_programs_with_large_heaps()
    config.pluginmanager.register(MissingPartsTable())
    if os.environ.get("CI"):
        config.pluginmanager.register(FailInCI())
    register_recorder(config)


# Without a deadline a slow machine fails no test. CI runs the same examples each time
# (derandomize), so that a new failure is due to the change under test.
SLOW_IS_FINE = (HealthCheck.too_slow,)
settings.register_profile("local", deadline=None, suppress_health_check=SLOW_IS_FINE)
settings.register_profile("ci", settings.get_profile("local"), derandomize=True, print_blob=True)
# An emulator (make test-arm64) is twenty times slower.
settings.register_profile("emulated", settings.get_profile("local"), max_examples=5)
settings.load_profile("ci" if os.environ.get("CI") else "local")
