"""The chart needs Helm's own code, which a package brings; without it tests are skipped."""

from __future__ import annotations

import pytest

from tests.support.parts import HELM, needs

pytest.importorskip("helm_python", reason=needs(HELM))
