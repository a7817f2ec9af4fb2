"""The test paths in scripts exist; a script may run for hours before it reaches a path."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEST_PATH = re.compile(r"\btests/[\w/.-]*\w")


def test_every_test_path_in_a_script_exists() -> None:
    scripts = [ROOT / "Makefile", *(ROOT / "scripts").glob("*.sh")]
    test_paths = {
        path for script in scripts for path in TEST_PATH.findall(script.read_text("utf-8"))
    }

    assert "tests/nodeagent/netlink" in test_paths
    assert sorted(path for path in test_paths if not (ROOT / path).exists()) == []
