"""A machine on which laboratories can be made, or the reason why this is none."""

from __future__ import annotations

import pytest

from tests.support.parts import require_namespaces


@pytest.fixture(autouse=True, scope="session")
def possible() -> None:
    require_namespaces()
