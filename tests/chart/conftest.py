"""The chart is rendered by Helm's code in a Python package; without it tests are skipped."""

from __future__ import annotations

import pytest

from tests.support.parts import HELM, needs

pytest.importorskip("helm_python", reason=needs(HELM))
