"""Golden scenarios of automatic pools.

Cases I00001 to I00024 and T00001 to T00005 of docs/contributing/compatibility.md.

A line that begins with "> " is a command; its output follows. The comment "# feature off" switches
automatic pools off. ``ORBWEAVER_REWRITE=1`` records the actual outputs.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from core.domain.autopools.pool_size import AutoPoolSettings
from core.eventstore.memory_store import MemoryStore
from tests.workflows.jobs.autopools.autopool_harness import AutoPoolHarness

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.txt"))


async def run_script(text: str) -> str:
    """Return the script with the actual outputs of its commands."""
    settings = AutoPoolSettings(enabled="# feature off" not in text)
    harness = AutoPoolHarness(MemoryStore(), settings=settings)
    await harness.open()
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


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_of_automatic_pools_prints_its_recorded_output(script: Path) -> None:
    expected = script.read_text()
    assert expected.endswith("> check\n"), "the script does not end with the command check"

    actual = asyncio.run(run_script(expected))

    if os.environ.get("ORBWEAVER_REWRITE"):
        script.write_text(actual)
    assert actual == expected
