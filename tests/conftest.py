"""What all tests share: fixtures, hooks of the suite, and settings of hypothesis.

A test fails if a required program (etcd) is missing, in CI also if one of ``INSTALLED_IN_CI``
(``tests/support/parts.py``) is missing: a green run has run everything. Other optional parts, such
as the programs of Kubernetes, which no distribution packages, skip their tests; the last lines of a
run list them with the number of tests and how to install them.
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
from tests.support.parts import FailInCI, UntriedTable
from tests.support.uml import pytest_runtest_protocol, record_inside

pytest_plugins = (
    "tests.fixtures.agents",
    "tests.fixtures.kubernetes",
    "tests.fixtures.logs",
    "tests.fixtures.namespaces",
    "tests.fixtures.stores",
    "tests.fixtures.workflows",
)
"""Fixtures of several folders; those of one folder are in its conftest."""

__all__ = (
    "pytest_collection",
    "pytest_collection_modifyitems",
    "pytest_runtest_protocol",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "pytest_testnodedown",
    "pytest_xdist_make_scheduler",
)
"""Hooks of collection, scheduling, counters and user-mode Linux; pytest looks for them here."""


def pytest_configure(config: pytest.Config) -> None:
    """Register the table of optional parts, and inside user-mode Linux the reports."""
    start_go_programs_with_large_heaps()
    config.pluginmanager.register(UntriedTable())
    if os.environ.get("CI"):
        config.pluginmanager.register(FailInCI())
    record_inside(config)


# The speed of a machine is not a behaviour, so examples have no deadline. CI runs the same examples
# each time, so that a failure is due to the change; elsewhere each run tries new ones.
SLOW_IS_FINE = (HealthCheck.too_slow,)
settings.register_profile("local", deadline=None, suppress_health_check=SLOW_IS_FINE)
settings.register_profile("ci", settings.get_profile("local"), derandomize=True, print_blob=True)
# Under an emulator (make test-arm64) an example takes twenty times as long.
settings.register_profile("emulated", settings.get_profile("local"), max_examples=5)
settings.load_profile("ci" if os.environ.get("CI") else "local")
