"""Every test of this folder needs network namespaces."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def namespaces_available(namespaces: None) -> None:
    """Network namespaces can be made on this machine."""
