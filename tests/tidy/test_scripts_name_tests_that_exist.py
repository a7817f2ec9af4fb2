"""The test paths in scripts exist. Some scripts run for hours before they reach a wrong path."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEST_PATH = re.compile(r"\btests/[\w/.-]*\w")


def test_scripts_name_tests_that_exist() -> None:
    scripts = [ROOT / "Makefile", *(ROOT / "scripts").glob("*.sh")]
    named = {path for script in scripts for path in TEST_PATH.findall(script.read_text("utf-8"))}

    assert "tests/nodeagent/netlink" in named
    assert sorted(path for path in named if not (ROOT / path).exists()) == []
