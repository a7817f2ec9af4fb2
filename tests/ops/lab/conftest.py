"""Every test of the laboratory makes network namespaces."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def possible(namespaces: None) -> None:
    """Network namespaces can be made on this machine."""
