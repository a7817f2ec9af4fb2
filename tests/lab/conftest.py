"""A machine on which laboratories can be made, or the reason why this is none."""

from __future__ import annotations

import os

import pytest

from ops.lab.programs import why_impossible


@pytest.fixture(autouse=True, scope="session")
def possible() -> None:
    why = why_impossible()
    if why:
        # In CI a green run means that everything was tried.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
