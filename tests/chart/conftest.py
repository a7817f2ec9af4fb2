"""Skip this folder without the Python package ``helm_python``, which has Helm's code."""

from __future__ import annotations

import pytest

from tests.support.parts import HELM, needs

pytest.importorskip("helm_python", reason=needs(HELM))
