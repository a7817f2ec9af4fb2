"""What every test shares: how hypothesis searches. Fixtures live beside the behaviour they serve.

A missing program (etcd, containerd) fails a test rather than skipping it: a green run means that
everything was tried. The exceptions are those of Kubernetes, which no distribution packages, the
user-mode kernel, which is not built for every machine, and the virtual machine, which only
`make test-vm` fetches: the last lines of a run name what was not tried without them.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

from tests.support.counters import (
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
)
from tests.support.folders import pytest_collection_modifyitems, pytest_xdist_make_scheduler
from tests.support.uml import pytest_configure, pytest_runtest_protocol

__all__ = (
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_runtest_protocol",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "pytest_testnodedown",
    "pytest_xdist_make_scheduler",
)
"""Hooks of folders side by side, of the counters and of user-mode Linux; pytest finds them here."""

# How long a machine takes is no behaviour: neither an example nor the making of one has a deadline.
# In CI the same examples every time, so that a red run is about the change; at a desk new ones, so
# that the search goes on.
SLOW_IS_FINE = (HealthCheck.too_slow,)
settings.register_profile("desk", deadline=None, suppress_health_check=SLOW_IS_FINE)
settings.register_profile("ci", settings.get_profile("desk"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")
