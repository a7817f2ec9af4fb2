"""Every test of this folder needs network namespaces."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def namespaces_available(namespaces: None) -> None:
    """Skip the tests of this folder where network namespaces cannot be created."""
