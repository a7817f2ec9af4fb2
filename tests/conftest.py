"""What every test shares: fixtures, the hooks of the suite, and how hypothesis searches.

A missing program (etcd) fails a test rather than skipping it, in CI also programs that are optional
elsewhere (``IN_CI`` of ``tests/support/parts.py``): a green run means that everything was tried.
The exceptions are the other optional parts there, such as the programs of Kubernetes, which no
distribution packages: the last lines of a run are a table of what was not tried without them, and
how to get them.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

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
"""Fixtures that several folders use; a folder's own are in its conftest."""

__all__ = (
    "pytest_collection_modifyitems",
    "pytest_runtest_protocol",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "pytest_testnodedown",
    "pytest_xdist_make_scheduler",
)
"""Hooks of folders side by side, of the counters and of user-mode Linux; pytest finds them here."""


def pytest_configure(config: pytest.Config) -> None:
    """Have the table of what was not tried, and inside user-mode Linux the reports."""
    config.pluginmanager.register(UntriedTable())
    if os.environ.get("CI"):
        config.pluginmanager.register(FailInCI())
    record_inside(config)


# How long a machine takes is no behaviour: neither an example nor the making of one has a deadline.
# In CI the same examples every time, so that a red run is about the change; elsewhere new ones, so
# that the search goes on.
SLOW_IS_FINE = (HealthCheck.too_slow,)
settings.register_profile("local", deadline=None, suppress_health_check=SLOW_IS_FINE)
settings.register_profile("ci", settings.get_profile("local"), derandomize=True, print_blob=True)
# Under an emulator (make test-arm64) an example takes twenty times as long.
settings.register_profile("emulated", settings.get_profile("local"), max_examples=5)
settings.load_profile("ci" if os.environ.get("CI") else "local")
