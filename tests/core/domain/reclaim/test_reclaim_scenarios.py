"""Scripts of reclaim with recorded outputs.

See docs/reference/reclaim-rules.md, "Scan" and "Scenarios"; docs/contributing/compatibility.md,
G00001 to G00012.

``ORBWEAVER_REWRITE=1`` rewrites the outputs.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.core.domain.reclaim.reclaim_harness import ReclaimHarness

SCENARIO_FILES = sorted((Path(__file__).parent / "scripts").glob("*.txt"))


async def run_script(text: str, harness_type: type[ReclaimHarness] = ReclaimHarness) -> str:
    """Return the script with its current outputs."""
    harness = harness_type()
    lines: list[str] = []
    try:
        for line in text.splitlines():
            if line.startswith("#") or not line.strip():
                lines.append(line)
            elif line.startswith("> "):
                lines += [line, *(await harness.play(line[2:])).splitlines()]
    finally:
        await harness.close()
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("script", SCENARIO_FILES, ids=lambda script: script.stem)
def test_a_reclaim_script_gives_its_recorded_output(script: Path) -> None:
    expected = script.read_text()
    assert "> expect " in expected or "> claims" in expected, (
        f"{script.name} must contain the command expect or claims"
    )

    actual = asyncio.run(run_script(expected))

    if os.environ.get("ORBWEAVER_REWRITE"):
        script.write_text(actual)
    assert actual == expected
