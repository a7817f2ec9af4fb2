"""Scripts of fixed addresses with recorded outputs (docs/reference/fixed-address-rules.md).

A line that begins with "> " is a command of ``FixedAddressHarness``; the lines below are its
output. ``ORBWEAVER_REWRITE=1`` rewrites the outputs: commit them only if you understand the
difference.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.core.domain.fixed.fixed_address_harness import FixedAddressHarness

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.txt"))


async def run_script(text: str) -> str:
    """Return the script with its current outputs."""
    harness = FixedAddressHarness()
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
def test_a_script_of_fixed_addresses_gives_its_recorded_output(script: Path) -> None:
    expected = script.read_text()
    # ``lose_claim`` deletes claims without an event, so a check of the log would fail.
    has_lost_claims = "> lose_claim" in expected
    assert has_lost_claims or expected.rstrip().endswith("> check"), (
        f"{script.name} must end with the line '> check'"
    )

    actual = asyncio.run(run_script(expected))

    if os.environ.get("ORBWEAVER_REWRITE"):
        script.write_text(actual)
    assert actual == expected
